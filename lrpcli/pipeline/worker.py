"""The process in which images are decoded: it may hang or die without harm to the run. It never imports torch."""

import contextlib
import ctypes
import os
import pickle
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lrpcli.errors import ImageError
from lrpcli.pipeline.parcels import packed, send

MAXIMAL_TEXT = 1 << 20
"""Bytes that C libraries may write to standard error about one image; a worker writes no other file."""
READY = "ready"
NICE = 5
"""By how much a worker's priority is lower than the net's, whose threads wait for one another."""
_PR_SET_PDEATHSIG = 1
"""Of Linux's sys/prctl.h."""


def main(descriptor: int, parent: int) -> None:
    """Answers jobs from a connection until its other end or the process `parent` goes away.

    A job is (function, arguments, seconds, memory): the function or None for the same as before, after how many seconds
    the kernel ends this process, should nobody else, and how many bytes it may use on top of what it has used at
    the start, or None. An answer is (whether it worked, result or exception).
    """
    die_with(parent)
    with contextlib.suppress(OSError):
        os.nice(NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of the run
    _, allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    text = MAXIMAL_TEXT if allowed == resource.RLIM_INFINITY else min(MAXIMAL_TEXT, allowed)
    resource.setrlimit(resource.RLIMIT_FSIZE, (text, text))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _offer_to_the_memory_killer()
    import lrpcli.pipeline.decode  # noqa: F401 - what takes long is done before the first image's time runs

    connection, own = Connection(descriptor), _used_memory()
    function: Callable[..., Any] | None = None
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send(READY)
        while True:
            given, arguments, seconds, memory = connection.recv()
            function = given or function
            assert function is not None
            limit_memory(None if memory is None else own + memory)
            signal.alarm(seconds)
            answer = _answer(function, arguments)
            signal.alarm(0)
            send(connection, *answer)


def die_with(parent: int) -> None:
    """Has this process end when `parent`, which started it, does, however busy it is then.

    Linux's kernel sees to it. Elsewhere a thread does, which a decoder that never lets Python run keeps from it.
    """
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it went away before it was watched
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def limit_memory(size: int | None) -> None:
    """At most so many bytes of addresses for this process, beyond which MemoryError comes; None for no limit.

    Left out where the system cannot do that (macOS).
    """
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = hard if size is None or size > sys.maxsize else size
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _used_memory() -> int:
    """Bytes of addresses of this process; 0 where that is not known."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[0]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def _offer_to_the_memory_killer() -> None:
    """Where the machine's memory runs out, Linux is to end this process, which is replaced, and not the run."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> "tuple[bytes, list[memoryview]]":
    try:
        return packed((True, function(*arguments)))
    except (ImageError, MemoryError) as error:
        return packed((False, error if isinstance(error, ImageError) else MemoryError()))
    except Exception as error:
        return packed((False, portable(error, "In the process that decodes")))


def portable(error: Exception, where: str) -> Exception:
    """What can be sent to another process of an error that was just caught, with a note of where and how it came up."""
    error.add_note(f"{where}:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an exception that cannot be made again from what it holds
        return RuntimeError("\n".join(error.__notes__))
    return error


if __name__ == "__main__":
    main(int(sys.argv[1]), os.getppid())
