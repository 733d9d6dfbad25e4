"""The processes that decode, by themselves."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from lrpcli.errors import ImageError, StoppedError, UsageError
from lrpcli.pipeline import workers as module
from lrpcli.pipeline.workers import Workers
from tests.resilience.runs import wait_for


class Odd(Exception):
    """Cannot be made again from what it holds."""

    def __init__(self, one, two):
        super().__init__(one)


class Greedy:
    """Has no room in the process that it comes to."""

    def __reduce__(self):
        return bytearray, (1 << 60,)


def task(what, value=None):
    if what == "print":
        os.write(2, value)
    elif what == "flood":
        with contextlib.suppress(OSError):
            for _ in range(10):
                os.write(2, b"x" * (1 << 20))
        return os.fstat(2).st_size, 0
    elif what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "exit":
        os._exit(7)
    elif what == "sleep":
        if value is not None:
            Path(value).touch()
        time.sleep(1000)
    elif what == "raise":
        raise value
    elif what == "odd":
        raise Odd(1, 2)
    elif what == "allocate":
        return len(bytearray(value)), 0
    elif what == "unpickle":
        return Greedy(), 0
    elif what == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    return what, os.getpid()


@pytest.fixture
def workers():
    with Workers(1, 300.0) as pool:
        yield pool


def result(pool, *arguments, **keywords):
    return pool.submit(task, "a.jpg", *arguments, **keywords).result(timeout=300)


def test_one_process_serves_many_calls_and_what_it_prints_belongs_to_each(workers):
    (_, first), nothing = result(workers, "hello")
    (_, second), said = result(workers, "print", b"one\ntwo \x1b[m\xff")
    assert first == second != os.getpid()
    assert (nothing, said) == ("", "one two \\x1b[m\\xff")
    assert result(workers, "hello")[1] == ""


def test_a_process_may_not_flood_the_disk(workers):
    (written, _), note = result(workers, "flood")
    assert written == 1 << 20 and note == "x" * module.MAXIMAL_NOTE
    assert result(workers, "print", b"y")[1] == "y"


def test_a_process_that_dies_twice_fails_its_image_and_the_next_is_served(workers):
    with pytest.raises(ImageError, match="'a.jpg' ended the process that decoded it, 2 times: SIGKILL") as caught:
        result(workers, "die")
    assert caught.value.kind == "crashed"
    with pytest.raises(ImageError, match="2 times: exit 7"):
        result(workers, "exit")
    assert result(workers, "hello")[0][0] == "hello"


def test_a_process_that_hangs_is_replaced(workers):
    (_, first), _ = result(workers, "hello")
    workers.timeout = 1.0
    with pytest.raises(ImageError, match="took more than 1 s to decode and was given up. If it is worth") as caught:
        result(workers, "sleep")
    assert caught.value.kind == "timeout"
    workers.timeout = 300.0
    assert result(workers, "hello")[0][1] != first


def test_exceptions_come_back_as_they_are(workers):
    with pytest.raises(ImageError, match="too dark") as caught:
        result(workers, "raise", ImageError("unsupported", "too dark"))
    assert caught.value.kind == "unsupported"
    with pytest.raises(UsageError, match="no") as bug:
        result(workers, "raise", UsageError("no"))
    assert "in task" in bug.value.__notes__[0]
    with pytest.raises(RuntimeError, match="Odd: 1"):
        result(workers, "odd")


def test_ctrl_c_is_not_for_them(workers):
    assert result(workers, "interrupt")[0][0] == "interrupt"


def test_leaving_ends_what_is_under_way(tmp_path):
    begun = [tmp_path / str(number) for number in range(5)]
    with Workers(2, None) as pool:
        futures = [pool.submit(task, "a.jpg", "sleep", str(path)) for path in begun]
        pool.submit(task, "b.jpg", "hello")
        wait_for(lambda: sum(path.exists() for path in begun) == 2)
    assert all(future.done() for future in futures)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decoder")]


def test_a_process_that_cannot_start_stops_the_run(monkeypatch):
    monkeypatch.setattr(module.sys, "executable", "/nowhere/python")
    with pytest.raises(StoppedError, match="No process can be started for decoding images"):
        Workers(1)
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    with Workers(1) as pool, pytest.raises(StoppedError, match="cannot be started: exit"):
        result(pool, "hello")


def test_a_process_that_wants_more_memory_than_it_may_have_fails_its_image_and_lives_on(workers):
    (_, first), _ = result(workers, "hello", memory=1 << 30)
    assert result(workers, "allocate", 1 << 28, memory=1 << 30)[0][0] == 1 << 28
    with pytest.raises(ImageError, match="'a.jpg' needs more memory than the 1.1 GB that decoding may take") as caught:
        result(workers, "allocate", 20 << 30, memory=1 << 30)
    assert caught.value.kind == "too_large"
    assert result(workers, "allocate", 1 << 31, memory=4 << 30)[0][0] == 1 << 31
    assert result(workers, "hello", memory=1 << 70)[0][1] == first


def test_a_result_for_which_the_run_has_no_room_fails_its_image_and_the_next_is_served(workers):
    with pytest.raises(ImageError, match="needs more memory than there is") as caught:
        result(workers, "unpickle")
    assert caught.value.kind == "too_large"
    assert result(workers, "hello")[0][0] == "hello"


def test_the_kernel_takes_a_process_that_decodes_before_the_run(workers):
    (_, pid), _ = result(workers, "hello")
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
