"""The process in which images are decoded: it may hang or die without harm to the run. It never imports torch."""

import contextlib
import pickle
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from lrpcli.errors import ImageError

MAXIMAL_TEXT = 1 << 20
"""Bytes that C libraries may write to standard error about one image; a worker writes no other file."""
READY = "ready"


def main(descriptor: int) -> None:
    """Answers jobs from a connection until its other end goes away.

    A job is (function, arguments, seconds): the function or None for the same as before, and after how many seconds
    the kernel ends this process, should nobody else. An answer is (whether it worked, result or exception).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of the run
    _, allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    text = MAXIMAL_TEXT if allowed == resource.RLIM_INFINITY else min(MAXIMAL_TEXT, allowed)
    resource.setrlimit(resource.RLIMIT_FSIZE, (text, text))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import lrpcli.pipeline.decode  # noqa: F401 - what takes long is done before the first image's time runs

    connection = Connection(descriptor)
    function: Callable[..., Any] | None = None
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send(READY)
        while True:
            given, arguments, seconds = connection.recv()
            function = given or function
            assert function is not None
            signal.alarm(seconds)
            answer = _answer(function, arguments)
            signal.alarm(0)
            connection.send_bytes(answer)


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    try:
        return pickle.dumps((True, function(*arguments)), pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        return pickle.dumps((False, ImageError("too_large", "The image needs more memory than there is.")))
    except ImageError as error:
        return pickle.dumps((False, error))
    except Exception as error:
        error.add_note("In the process that decodes:\n" + "".join(traceback.format_exception(error)))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an exception that cannot be made again from what it holds
            error = RuntimeError("\n".join(error.__notes__))
        return pickle.dumps((False, error))


if __name__ == "__main__":
    main(int(sys.argv[1]))
