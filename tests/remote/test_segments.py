"""Journals in pieces: when they are put, in which order they are read, and what a kill leaves of them."""

import json
import threading
import time

import pytest

pytest.importorskip("fsspec")

from lrpcli.errors import OutputError
from lrpcli.records import segments
from lrpcli.records.description import EXPLAIN_FILES
from lrpcli.records.index import Index
from lrpcli.records.journal import Journal, is_idle, open_journal
from lrpcli.records.segments import PieceJournal, forget, pieces_of
from lrpcli.remote import Remote
from tests.records.results import begin, description, explained, failed, start
from tests.remote.places import put
from tests.resilience.runs import wait_for

NAME = "journal-1-of-1.jsonl"


def line(name):
    return {"type": "skip", "name": name, "time": time.time()}


def names(folder):
    forget(folder)
    with open_journal(folder, NAME) as file:
        return [json.loads(line)["name"] for line in file]


def test_a_line_is_put_soon_without_another_one(memory, monkeypatch):
    monkeypatch.setattr(segments, "SECONDS", 0.05)
    folder = Remote(memory)
    with PieceJournal(folder, NAME) as journal:
        assert pieces_of(folder, NAME) == []
        journal.append(line("a"))
        wait_for(lambda: pieces_of(folder, NAME))
        assert names(folder) == ["a"] and not is_idle(folder, NAME)
        journal.append(line("b"))
    assert names(folder) == ["a", "b"] and is_idle(folder, NAME)


def test_many_lines_are_put_at_once(memory, monkeypatch):
    monkeypatch.setattr(segments, "SECONDS", 1000.0)
    folder = Remote(memory)
    journal = PieceJournal(folder, NAME)
    for number in range(segments.LINES - 1):
        journal.append(line(str(number)))
    assert pieces_of(folder, NAME) == []
    journal.append(line("last"))
    assert len(pieces_of(folder, NAME)) == 1 and len(names(folder)) == segments.LINES
    journal.close()


def test_pieces_count_in_the_order_in_which_their_runs_began_whatever_the_clock_says(memory, monkeypatch):
    letters = iter(["ffffffff", "00000000"])  # which decide nothing
    monkeypatch.setattr(segments.secrets, "token_hex", lambda size: next(letters))
    folder = Remote(memory)
    put(memory, {".lrp/journal-1-of-1/20991231T235959999999-00000000-00000000.jsonl": json.dumps(line("a")).encode()})
    with PieceJournal(folder, NAME) as journal:
        journal.append(line("b"))
    with PieceJournal(folder, NAME) as journal:
        journal.append(line("c"))
    assert names(folder) == ["a", "b", "c"]


def test_pieces_stand_behind_the_file_of_the_same_name(memory):
    put(memory, {f".lrp/{NAME}": json.dumps(line("first")).encode()})  # without its line's end, as a kill left it
    folder = Remote(memory)
    with PieceJournal(folder, NAME) as journal:
        journal.append(line("second"))
    assert names(folder) == ["first", "second"] and EXPLAIN_FILES.journals_in(folder) == [NAME]


def test_after_a_kill_each_beginning_is_put_before_the_work(memory, monkeypatch):
    monkeypatch.setattr(segments, "SECONDS", 1000.0)
    folder = Remote(memory)
    killed = PieceJournal(folder, NAME)
    killed.append({**start("a"), "alone": True})
    assert len(pieces_of(folder, NAME)) == 1  # what is tried alone is always said first
    killed.append(start("b"))
    assert len(pieces_of(folder, NAME)) == 1
    careful = PieceJournal(folder, NAME)
    careful.append(start("b"))
    assert len(pieces_of(folder, NAME)) == 2
    careful.close()
    later = PieceJournal(folder, NAME)
    later.append(start("c"))
    assert len(pieces_of(folder, NAME)) == 3  # and the end of the careful one
    later.close()


def test_what_cannot_be_put_is_said_by_the_next_call(memory, monkeypatch):
    monkeypatch.setattr(segments, "SECONDS", 0.01)
    folder, failing = Remote(memory), threading.Event()

    def full(files):
        failing.set()
        raise OSError(28, "No space left on device")

    journal = PieceJournal(folder, NAME)
    monkeypatch.setattr(folder, "put", full)
    journal.append(line("a"))
    assert failing.wait(60)
    with pytest.raises(OutputError, match="No space left on device"):
        for _ in range(1000):
            journal.append(line("b"))
            time.sleep(0.01)
    with pytest.raises(OutputError):
        journal.close()


def test_positions_stay_while_another_run_puts_pieces_before(memory):
    folder = Remote(memory)
    run = description().fingerprint
    first, second = (PieceJournal(folder, NAME) for _ in range(2))
    for number, journal in enumerate((first, second, first)):
        record = explained(f"{number}.jpg")
        journal.append({**record.as_json(), "type": "done", "run": run, "time": float(number)})
        journal.put()
        if number == 1:
            forget(folder)
            index = Index(folder, EXPLAIN_FILES, run)
    assert [known.line.name for known in index.images()] == ["0.jpg", "1.jpg"]
    assert index.of("1.jpg").line.fields.path("name") == "1.jpg" and index.of("2.jpg") is None
    index.close()
    forget(folder)
    assert Index(folder, EXPLAIN_FILES, run).of("2.jpg") is not None
    first.close()
    second.close()


def test_a_copied_folder_takes_the_pieces_in_where_it_is_written(memory, tmp_path):
    run, folder = description().fingerprint, tmp_path / ".lrp" / "journal-1-of-1"
    folder.mkdir(parents=True)
    values = [begin(2).as_json(), {**failed("a.jpg").as_json(), "type": "done", "run": run, "time": 1.0}]
    for number, value in enumerate(values):
        (folder / f"20260101T000000000000-00000000-{number:08}.jsonl").write_text(json.dumps(value) + "\n")
    with open_journal(tmp_path, NAME) as file:
        before = file.read()
    assert before.count(b"\n") == 2 and is_idle(tmp_path, NAME)
    with Journal(tmp_path, NAME, alone=True) as journal:
        journal.append(line("b.jpg"))
    written = (tmp_path / ".lrp" / NAME).read_bytes()
    assert written.startswith(before) and written.count(b"\n") == 3 and list(folder.iterdir()) == []
