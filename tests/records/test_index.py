"""What journals say of each image."""

import json
import tracemalloc
from contextlib import closing

import pytest

from lrpcli.errors import OutputError, UsageError
from lrpcli.records.description import EXPLAIN_FILES
from lrpcli.records.index import Index, identity
from lrpcli.records.journal import ALONE, DROPPED, FAILED, OK, OUTDATED, START, Journal, parse_line
from lrpcli.records.status import read_status
from lrpcli.records.store import TEMPORARY, remove_leftovers
from lrpcli.records.text import json_text, printable


def written(output, *rows, name="journal-1-of-1.jsonl"):
    path = output / ".lrp" / name
    first = path.read_bytes().count(b"\n") if path.exists() else 0
    with Journal(output, name) as journal:
        for time, row in enumerate(rows, start=first):
            journal.append({"time": time, "run": "r", **row})


def done(name, status="ok", **more):
    return {"type": "done", "name": name, "status": status, **more}


def test_the_last_line_counts_over_all_journals_and_only_those_of_this_run(tmp_path):
    written(tmp_path, {"type": "start", "name": "a"}, done("a"), {"type": "start", "name": "b"}, done("b", "failed"),
            {"type": "start", "name": "c"}, done("d", run="other"), {"type": "start", "name": "e"},
            {"type": "drop", "name": "e"}, done("g", "failed", run="other"))  # fmt: skip
    written(tmp_path, done("b", time=9), {"type": "start", "name": "a", "time": -1}, name="journal-2-of-2.jsonl")
    index = Index(tmp_path, EXPLAIN_FILES, "r")
    codes = {name: index.of(name).code for name in "abcdeg"}
    assert codes == {"a": OK, "b": OK, "c": START, "d": OUTDATED, "e": DROPPED, "g": DROPPED}
    assert index.of("f") is None
    assert list(index.unfinished()) == [("journal-1-of-1.jsonl", "c")]
    index.close()


def test_deaths_alone_are_counted_since_the_last_end(tmp_path):
    alone = {"type": "start", "name": "a", "alone": True}
    begun = {"type": "start", "name": "a"}
    written(tmp_path, alone, alone, done("a", "failed"), begun, alone, alone, alone)
    index = Index(tmp_path, EXPLAIN_FILES, "r")
    assert index.of("a")[:3] == (ALONE, 4, 3)
    index.close()
    written(tmp_path, done("a", "failed", time=99))
    index = Index(tmp_path, EXPLAIN_FILES, "r")
    assert index.of("a")[:3] == (FAILED, 0, 0)
    index.close()


def test_deaths_alone_are_counted_on_after_an_image_was_reported_as_crashed(tmp_path):
    alone = {"type": "start", "name": "a", "alone": True}
    crashed = done("a", "failed", error={"kind": "crashed", "message": "It ended the run."})
    written(tmp_path, {"type": "start", "name": "a"}, alone, alone, alone, crashed)
    for lines, known in [((), (FAILED, 0, 3)), ((alone,), (ALONE, 1, 4)), ((crashed,), (FAILED, 0, 4)),
                         (({"type": "survived", "name": "a"}, alone), (ALONE, 1, 1))]:  # fmt: skip
        written(tmp_path, *lines)
        index = Index(tmp_path, EXPLAIN_FILES, "r")
        assert index.of("a")[:3] == known
        index.close()


def test_an_empty_folder_knows_nothing(tmp_path):
    assert EXPLAIN_FILES.journals_in(tmp_path) == []
    index = Index(tmp_path, EXPLAIN_FILES, "r")
    assert index.of("a") is None and list(index.unfinished()) == []
    index.close()


def test_a_torn_line_is_ended_and_passed_over(tmp_path):
    written(tmp_path, done("a"))
    path = tmp_path / ".lrp" / "journal-1-of-1.jsonl"
    with path.open("ab") as file:
        file.write(b'{"type": "done", "name": "b", "sta')
    written(tmp_path, done("c"))
    assert [line[:1] for line in path.read_bytes().split(b"\n")] == [b"{", b"{", b"{", b""]
    index = Index(tmp_path, EXPLAIN_FILES, "r")
    assert (index.of("a").code, index.of("b"), index.of("c").code) == (OK, None, OK)
    index.close()
    line = b'{"type": "start", "name": "a"}'
    assert parse_line(line + b"\n").code == START and parse_line(line) is None  # its writer may not be done with it


def test_one_process_alone_may_hold_a_journal(tmp_path):
    with Journal(tmp_path, "journal.jsonl", alone=True):
        with pytest.raises(UsageError, match="Another run is at work"):
            Journal(tmp_path, "journal.jsonl", alone=True)
        Journal(tmp_path, "other.jsonl", alone=True).close()
        with Journal(tmp_path, "journal.jsonl") as guest:  # whoever only adds a line asks for nothing
            guest.append({"type": "attempt"})
    assert (tmp_path / ".lrp" / "journal.jsonl").read_text() == '{"type": "attempt"}\n'
    Journal(tmp_path, "journal.jsonl", alone=True).close()


def test_a_line_that_is_cut_short_is_a_full_disk(tmp_path, monkeypatch):
    with Journal(tmp_path, "journal.jsonl") as journal:
        file = journal._file

        class Full:
            def write(self, data):
                return file.write(data[:5])

        journal._file = Full()
        with pytest.raises(OutputError, match="the disk is full"):
            journal.append({"type": "start"})
        journal._file = file
    with Journal(tmp_path, "journal.jsonl") as journal:
        journal.append({"type": "start"})
    assert json.loads((tmp_path / ".lrp" / "journal.jsonl").read_text().splitlines()[1]) == {"type": "start"}


def test_leftovers_are_those_of_one_owner(tmp_path):
    mine, other = (
        tmp_path / TEMPORARY.format(owner=owner, unique="0123456789abcdef") for owner in ("1-of-2", "1-of-22")
    )
    user = tmp_path / ".lrp-1-of-2-mine.tmp"
    for path in (mine, other, user):
        path.touch()
    assert remove_leftovers(tmp_path, "1-of-2") == 1
    assert sorted(tmp_path.iterdir()) == sorted([other, user])
    assert remove_leftovers(tmp_path / "absent", "1-of-2") == 0


def test_control_characters_are_escaped():
    assert printable("a\x1b[2J\x9b\u202eb\udce9\tc\nd") == "a\\x1b[2J\\x9b\\u202eb\\udce9\tc\nd"
    text = json.dumps({"a": "\x7f\x9b\u2028é"}, ensure_ascii=False)
    assert json.loads(json_text(text)) == {"a": "\x7f\x9b\u2028é"} and "\x9b" not in json_text(text)


def last(output, name, run="r"):
    with closing(Index(output, EXPLAIN_FILES, run)) as index:
        return index.of(name).code


def test_within_a_journal_a_later_line_counts_whatever_the_clock_said(tmp_path):
    written(tmp_path, done("a", "failed", time=200), done("a", time=100), done("b", time=100),
            done("b", "failed", time=-5), {"type": "start", "name": "c", "time": 4e9}, done("c", time=0))  # fmt: skip
    assert {name: last(tmp_path, name) for name in "abc"} == {"a": OK, "b": FAILED, "c": OK}


def test_of_several_journals_the_one_with_the_latest_last_line_about_the_image_counts(tmp_path):
    # The clock jumped back within the second journal: its line at 900 stands before that at 50, and does not count.
    written(tmp_path, done("a", time=100), done("b", time=40), name="journal-1-of-3.jsonl")
    written(tmp_path, done("a", "failed", time=900), done("a", "failed", time=50), done("b", time=30),
            {"type": "start", "name": "b", "time": 45}, name="journal-2-of-3.jsonl")  # fmt: skip
    written(tmp_path, done("a", "failed", time=99), done("c", time=9e9), name="journal-3-of-3.jsonl")
    assert {name: last(tmp_path, name) for name in "abc"} == {"a": OK, "b": START, "c": OK}


def test_status_counts_in_the_same_order(tmp_path):
    begun = {"type": "run", "part": [1, 1], "images": 3, "share": 3, "time": 1000}
    written(tmp_path, begun, done("a", "failed", time=200, error={"kind": "io"}), done("a", time=100),
            done("b", time=150), done("b", "failed", time=10, error={"kind": "decode"}))  # fmt: skip
    assert (read_status(tmp_path).done, dict(read_status(tmp_path).errors)) == (1, {"decode": 1})
    # A shard that was begun later, though its clock is behind; it counts where its last line is the latest.
    written(tmp_path, {**begun, "time": 1000}, done("b", time=11), done("c", time=1), name="journal-2-of-2.jsonl")
    counted = read_status(tmp_path)
    assert (counted.done, counted.failed, counted.missing) == (3, 0, 0)


def test_clashes_and_lines_of_other_settings_hide_no_finished_result(tmp_path):
    clash = done("a", "failed", error={"kind": "clash", "message": "It is another's."})
    written(tmp_path, done("a", input="first"), clash, done("b", input="old", run="other"), done("b", "failed"),
            done("c", "failed"), clash | {"name": "d"})  # fmt: skip
    with closing(Index(tmp_path, EXPLAIN_FILES, "r")) as index:
        known = {name: index.of(name) for name in "abcd"}
    assert (known["a"].code, known["a"].finished.fields.get("input")) == (OK, "first")
    assert (known["b"].code, known["b"].finished.fields.get("input")) == (FAILED, "old")
    assert (known["c"].code, known["c"].finished, known["d"]) == (FAILED, None, None)


def test_an_index_takes_few_bytes_a_line(tmp_path):
    lines = 20_000
    with (tmp_path / "text").open("w") as file:
        for number in range(lines):
            file.write(json.dumps({**done(f"folder/{number:09}.png"), "run": "r", "time": number}) + "\n")
    (tmp_path / ".lrp").mkdir()
    (tmp_path / "text").rename(tmp_path / ".lrp" / "journal-1-of-1.jsonl")
    tracemalloc.start()
    with closing(Index(tmp_path, EXPLAIN_FILES, "r")) as index:
        held = tracemalloc.get_traced_memory()[0]
        assert index.of("folder/000000007.png").code == OK
    tracemalloc.stop()
    assert held < 32 * lines


@pytest.mark.parametrize(
    "line",
    [b"[" * 100_000, b'{"type": "done"', b"[]", b"null", b'"done"', b'{"type": "done", "name": 5}',
     b'{"type": "done", "name": "\\ud800"}', b'{"type": "done", "name": {"bytes": "\xff"}}',
     b'{"type": "done", "name": "a", "time": "now"}', b'{"type": "done", "name": "a", "time": 1e999}',
     b'{"type": "done", "name": "a", "time": NaN}', b'{"type": "done", "name": "a", "time": true}',
     b'{"type": "done", "name": "a", "time": ' + b"9" * 5000 + b"}", b'{"type": "done", "name": "a", "run": []}',
     b'{"type": "done", "name": "a", "run": ' + b"[" * 900 + b"]" * 900 + b"}", b'{"type": "start", "name": "a\xff"}',
     b'{"type": "run", "part": [1, 2]}', b'{"type": "run", "part": [true, 1], "images": 1, "share": 1}',
     b'{"type": "run", "part": [3, 2], "images": 1, "share": 1}',
     b'{"type": "run", "part": 1, "images": 1, "share": 1}',
     b'{"type": "run", "part": [1, 1], "images": -1, "share": 1}',
     b'{"type": "run", "part": [1, 1], "images": 1, "share": 2}',
     b'{"type": "run", "part": [1, 1], "images": 1.5, "share": 1}', b"\xff\xfe\x00", b"\x00" * 100, b"NaN", b""],
)  # fmt: skip
def test_a_line_that_is_none_of_ours_says_nothing(tmp_path, line):
    begun = {"type": "run", "part": [1, 1], "images": 1, "share": 1}
    written(tmp_path, begun, done("a"))
    with (tmp_path / ".lrp" / "journal-1-of-1.jsonl").open("ab") as file:
        file.write(line + b"\n")
    written(tmp_path, {"type": "start", "name": "b"})
    with closing(Index(tmp_path, EXPLAIN_FILES, "r")) as index:
        assert (index.of("a").code, index.of("b").code) == (OK, START)
    assert (read_status(tmp_path).images, read_status(tmp_path).done) == (1, 1)


def test_two_names_or_contents_with_the_same_hash_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("lrpcli.records.index.identity", lambda name: 7)
    monkeypatch.setattr("lrpcli.records.index._content", lambda content: 7)
    written(tmp_path, done("a", content="blake2b:1"))
    with closing(Index(tmp_path, EXPLAIN_FILES, "r", contents=True)) as index:
        assert index.of("a").code == OK and index.of("b") is None
        assert index.of_content("blake2b:1").name == "a" and index.of_content("blake2b:2") is None


def test_of_an_image_without_a_line_nothing_is_known(tmp_path):
    written(tmp_path, *map(done, "abcdefghij"))
    with closing(Index(tmp_path, EXPLAIN_FILES, "r")) as index:
        assert all(map(index.has_finished, "abcdefghij")) and index.knows("abcdefghij")
        for name in "klmnopqrst":
            assert not index.has_finished(name) and not index.knows(name)
            assert index.of(name) is None and index.last(identity(name)) is None
