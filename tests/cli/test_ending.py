"""The end of the process: nothing is lost, and nothing is taken apart."""

import atexit
import io
import os
import subprocess
import sys

import pytest

from lrpcli.cli.ending import Ending

CODE = """
import atexit, sys, threading, time
from lrpcli.cli import program

class Apart:
    def __del__(self):
        print("taken apart", flush=True)

apart = Apart()
if sys.argv.pop(1) == "torch":
    sys.modules["torch"] = apart  # all that matters is that it is there
late = threading.Thread(target=lambda: (time.sleep(0.3), print("thread")))
late.start()
sys.argv[0] = "lrp"
try:
    program()
finally:
    atexit.register(print, "registered after")
"""


@pytest.mark.parametrize("loaded", ["torch", "nothing"])
@pytest.mark.parametrize(("words", "status"), [(["--version"], 0), (["explain"], 2), (["models", "show", "cafe"], 2)])
def test_all_that_is_to_be_done_at_the_end_is_done(loaded, words, status):
    ended = subprocess.run(
        [sys.executable, "-c", CODE, loaded, *words], check=False, capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == status, ended.stderr
    lines = ended.stdout.splitlines()[1:] if status == 0 else ended.stdout.splitlines()
    if loaded == "nothing":
        assert lines.pop() == "taken apart"
    assert lines == ["thread", "registered after"]


class Full(io.StringIO):
    """A stream on a disk that has no room."""

    def flush(self):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("stream", "exits"), [(io.StringIO(), [3]), (None, [3]), (Full(), [])])
def test_an_output_that_cannot_be_flushed_is_left_to_the_interpreter(monkeypatch, stream, exits):
    ended = []
    monkeypatch.setattr(atexit, "register", lambda function: None)
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setitem(sys.modules, "torch", object())
    ending = Ending()
    ending._end()
    assert ended == []
    ending.note(3)
    ending._end()
    monkeypatch.undo()
    assert ended == exits


@pytest.mark.parametrize(("code", "status"), [(None, 0), (0, 0), (5, 5), ("a text", 1)])
def test_the_status_is_that_of_the_interpreter(code, status):
    ended = subprocess.run(
        [sys.executable, "-c", f"raise SystemExit({code!r})"], check=False, stderr=subprocess.DEVNULL
    )
    ending = Ending()
    ending.note(code)
    noted, ending.status = ending.status, None
    atexit.unregister(ending._end)
    assert noted == ended.returncode == status
