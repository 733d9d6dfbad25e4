"""What journals say of each image."""

import json

import pytest

from lrpcli.errors import OutputError, UsageError
from lrpcli.records.description import EXPLAIN_FILES
from lrpcli.records.index import Index
from lrpcli.records.journal import ALONE, DROPPED, FAILED, OK, OUTDATED, START, Journal
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
            {"type": "drop", "name": "e"})  # fmt: skip
    written(tmp_path, done("b", time=9), {"type": "start", "name": "a", "time": -1}, name="journal-2-of-2.jsonl")
    index = Index(tmp_path, EXPLAIN_FILES, "r")
    codes = {name: index.of(name).code for name in "abcde"}
    assert codes == {"a": OK, "b": OK, "c": START, "d": OUTDATED, "e": DROPPED}
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


def test_one_process_alone_may_hold_a_journal(tmp_path):
    with Journal(tmp_path, "journal.jsonl", alone=True):
        with pytest.raises(UsageError, match="Another run is at work"):
            Journal(tmp_path, "journal.jsonl", alone=True)
        Journal(tmp_path, "other.jsonl", alone=True).close()
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
