"""Processes that decode beside the computation, watched: one that hangs is ended, one that dies is replaced."""

import contextlib
import fcntl
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Pipe
from typing import Any, NamedTuple

from lrpcli.errors import ImageError, StoppedError
from lrpcli.pipeline.parcels import receive
from lrpcli.pipeline.settings import TIMEOUT
from lrpcli.records.text import printable

START_TIMEOUT = 120.0
MAXIMAL_NOTE = 500
ATTEMPTS = 2
"""So many workers may die of one image; the first may have died of something else, such as a full memory."""
GRACE = 10
"""Seconds after its time at which a worker ends by itself; only matters if the run was killed."""


class _Died(Exception):
    """A worker went away; the text says how, and what it had written."""


class Workers:
    """`count` processes that run one function at a time; `timeout` seconds for one call, or None for any time.

    They start at once and in the background, so that they are ready when the model is. What C libraries print
    belongs to the call and comes back with it.
    """

    def __init__(self, count: int, timeout: float | None = TIMEOUT) -> None:
        self.timeout = timeout
        self._gate = _Gate()
        self._threads = ThreadPoolExecutor(count, "decoder")
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        try:
            for _ in range(count):
                self._workers.append(_Worker(self._gate))
                self._idle.put(self._workers[-1])
        except BaseException:
            self.__exit__()
            raise

    def submit(
        self, function: Callable[..., Any], path: str, *arguments: Any, memory: int | None = None
    ) -> "Future[tuple[Any, str]]":
        """The result of function(*arguments) about the image `path`, and what was printed.

        The function must be known by name in another process, and may use so many bytes of `memory`. The future raises
        what it raises; ImageError of kind timeout, crashed or too_large if it hung, killed its process twice or
        wanted more memory; StoppedError if no process or thread can be started.
        """
        return self._threads.submit(self._run, _Call(function, arguments, self.timeout, memory), path)

    def submit_later(
        self, function: Callable[..., Any], path: str, later: Callable[[], tuple[tuple[Any, ...], int | None]]
    ) -> "Future[tuple[Any, str]]":
        """The same for arguments and memory that are only found by `later`, which is called in a thread here."""

        def run() -> tuple[Any, str]:
            arguments, memory = later()
            return self._run(_Call(function, arguments, self.timeout, memory), path)

        return self._threads.submit(run)

    def _run(self, call: "_Call", path: str) -> tuple[Any, str]:
        worker = self._idle.get()
        try:
            for _ in range(ATTEMPTS):
                try:
                    return worker.answer(call)
                except _Died as death:
                    reason = str(death)
                except MemoryError as error:
                    raise ImageError("too_large", _too_large(path, call.memory)) from error
                except TimeoutError as error:
                    raise ImageError(
                        "timeout",
                        f"The image {path!r} took more than {self.timeout:g} s to decode and was given up.{error} "
                        "If it is worth waiting for, raise --timeout.",
                    ) from error
        finally:
            self._idle.put(worker)
        raise ImageError("crashed", f"The image {path!r} ended the process that decoded it, {ATTEMPTS} times: {reason}")

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *raised: object) -> None:
        """Ends the processes, whatever they are at."""
        with self._gate.lock:
            self._gate.closed = True
            for worker in self._workers:
                worker.end()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()


class _Call(NamedTuple):
    """A function to run in a worker, in so many seconds and bytes; None for any number of them."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    timeout: float | None
    memory: int | None


class _Gate:
    """Whether processes may still be started."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.closed = False


class _Worker:
    """One process, started anew when it is gone. Its standard error is a file that only these two know."""

    def __init__(self, gate: _Gate) -> None:
        self._gate = gate
        self._errors = _nameless_file()
        try:
            self._start()
        except StoppedError:
            self._errors.close()
            raise

    def _start(self) -> None:
        with self._gate.lock:
            if self._gate.closed:
                raise StoppedError("The run was stopped.")
            self._start_process()

    def _start_process(self) -> None:
        self._connection, theirs = Pipe()
        self._function: Any = None
        self._ready = False
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from lrpcli.pipeline.worker import main; "
            f"main({theirs.fileno()}, {os.getpid()})"
        )
        # A group of its own: Ctrl-C on the terminal reaches the run alone. One thread: one image uses one CPU.
        try:
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors,
                pass_fds=[theirs.fileno()], process_group=0,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        except (OSError, MemoryError) as error:
            reason = error.strerror if isinstance(error, OSError) else "there is too little memory"
            raise StoppedError(f"No process can be started for decoding images: {reason}.") from error
        finally:
            theirs.close()

    def answer(self, call: _Call) -> tuple[Any, str]:
        """The function's result and what was printed meanwhile.

        Raises what the function raises; _Died, TimeoutError, or MemoryError if this process has no room for the result,
        after which the worker is new.
        """
        if self._process is None:
            self._start()
        if not self._ready:
            self._wait_until_ready()
        self._written()
        seconds = 0 if call.timeout is None else int(call.timeout) + GRACE
        try:
            function = None if call.function is self._function else call.function
            self._connection.send((function, call.arguments, seconds, call.memory))
            self._function = call.function
            if not self._connection.poll(call.timeout):
                self.end()
                raise TimeoutError(_quoted(self._written()))
            worked, result = receive(self._connection)
        except (EOFError, ConnectionError) as error:
            raise _Died(self._last_words()) from error
        except MemoryError:  # perhaps in the middle of the answer
            self.end()
            raise
        if not worked:
            raise _with_note(result, self._written())
        return result, self._written()

    def _wait_until_ready(self) -> None:
        try:
            if self._connection.poll(START_TIMEOUT):
                self._connection.recv()
                self._ready = True
                return
            self.end()
            reason = f"it did not answer for {START_TIMEOUT:g} s"
        except (EOFError, ConnectionError):
            reason = self._last_words()
        raise StoppedError(f"The process that decodes images cannot be started: {reason}")

    def _last_words(self) -> str:
        code = self._reaped()
        how = f"exit {code}" if code is None or code >= 0 else signal_name(-code)
        return f"{how}.{_quoted(self._written())}"

    def _reaped(self) -> int | None:
        process, self._process = self._process, None
        self._connection.close()
        if process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(5)
        process.kill()
        return None

    def end(self) -> None:
        """Ends the process at once."""
        process = self._process
        if process is None:
            return
        process.kill()
        # One that waits for a dead disk cannot be ended; it is left behind.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        self._process = None

    def close(self) -> None:
        """Ends the process and lets go of everything; no call may be under way."""
        self.end()
        self._connection.close()
        self._errors.close()

    def _written(self) -> str:
        """What the process wrote to standard error since this was last asked; printable and short."""
        self._errors.seek(0)
        text = self._errors.read(4 * MAXIMAL_NOTE).decode("utf-8", "backslashreplace")
        self._errors.truncate(0)
        return printable(" ".join(text.split()))[:MAXIMAL_NOTE]


def _nameless_file() -> Any:
    if hasattr(os, "memfd_create"):
        file: Any = os.fdopen(os.memfd_create("lrp-decoder"), "w+b", buffering=0)
    else:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as the worker
    # Appending, so that the process goes on at the start when the file has been emptied.
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    return file


def _too_large(path: str, memory: int | None) -> str:
    room = "there is" if memory is None else f"the {memory / 1e9:.1f} GB that decoding may take"
    return f"The image {path!r} needs more memory than {room}. If it is to be trusted, raise --max-pixels."


def _quoted(note: str) -> str:
    return f" The decoder wrote: {note.rstrip('.')}." if note else ""


def _with_note(error: Exception, note: str) -> Exception:
    return ImageError(error.kind, str(error) + _quoted(note)) if isinstance(error, ImageError) else error


def signal_name(number: int) -> str:
    """What a signal is called."""
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
