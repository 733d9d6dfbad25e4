"""Works in processes beside this one, with a net each. One that dies is replaced, and its row taken up again."""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from lrpcli.errors import StoppedError
from lrpcli.pipeline.row import Row
from lrpcli.pipeline.worker import die_with, portable
from lrpcli.pipeline.workers import signal_name
from lrpcli.scale import Assignment, Job
from lrpcli.scale.devices import count_gpus, threads_for, usable_cpus, usual_workers
from lrpcli.scale.finished import FinishedExecution, find_finished
from lrpcli.scale.row_worker import LoadedRun, RowWorker, threads_of
from lrpcli.scale.rows import RowsExecution

LOADED, ENDED, ANSWER, FAILED = "loaded", "ended", "answer", "failed"
ROW, ASK, STOP = "row", "ask", "stop"
ATTEMPTS = 2
"""So many processes may die while they load the net; the first may have died of something else."""


@dataclass(frozen=True)
class Plan:
    """How many nets there are, with how many threads and decoding processes each."""

    workers: int
    threads: int
    jobs: int

    @classmethod
    def of(cls, assignment: Assignment) -> "Plan":
        """What the options say, or what suits the machine; no more nets than images."""
        flow, cpus = assignment.flow, usable_cpus()
        wanted = assignment.engine.workers or usual_workers(flow.device, count_gpus(os.environ), cpus)
        workers = max(1, min(wanted, len(assignment.share)))
        return cls(workers, threads_for(cpus, workers), max(1, (flow.jobs or cpus) // workers))


@contextmanager
def begin(assignment: Assignment) -> Iterator[RowsExecution | FinishedExecution]:
    """See scale.Executor."""
    with ExitStack() as held:
        finished = find_finished(assignment, held)
        if finished is not None:
            yield finished
            return
        crew = held.enter_context(ProcessCrew(assignment, Plan.of(assignment)))
        yield RowsExecution(assignment, crew, crew.load())


class ProcessCrew:
    """A crew of processes, see rows.Crew; used from the thread that made it, with which they end.

    The first loads its net before others are started, so that weights are fetched once, and a refusal is said once.
    """

    def __init__(self, assignment: Assignment, plan: Plan) -> None:
        self.count, self.warn = plan.workers, assignment.warn
        self._job, self._plan, self._stopped = assignment.job, plan, False
        self._members: list[_Member] = []
        self.grow(1)

    def grow(self, rows: int) -> None:
        """See rows.Crew."""
        try:
            for place in range(len(self._members), min(rows, self.count)):
                self._members.append(_Member(self._job, place, self._plan))
        except BaseException:
            self.__exit__()
            raise

    def load(self) -> LoadedRun:
        """See rows.Crew."""
        while True:
            self.wait(None)
            loaded = next((member.loaded for member in self._members if member.loaded is not None), None)
            if loaded is not None:
                return loaded

    @property
    def idle(self) -> int:
        """See rows.Crew."""
        return 0 if self._stopped else sum(member.row is None for member in self._members)

    @property
    def busy(self) -> bool:
        """See rows.Crew."""
        return any(member.row is not None for member in self._members)

    def give(self, row: Row) -> None:
        """See rows.Crew. Those come first whose net is loaded."""
        free = [member for member in self._members if member.row is None]
        min(free, key=lambda member: member.loaded is None).give(row)

    def wait(self, seconds: float | None) -> list[Row]:
        """See rows.Crew."""
        members = {member.connection: member for member in self._members if not member.connection.closed}
        done = []
        for connection in wait(list(members), seconds):
            member = members[connection]  # type: ignore[index]
            try:
                row = member.hear()
            except (EOFError, ConnectionError):
                row = member.bury(self.warn, again=not self._stopped)
            if row is not None:
                done.append(row)
        return done

    def stop(self) -> None:
        """See rows.Crew."""
        self._stopped = True
        for member in self._members:
            member.stop()

    def ask(self, function: str, *arguments: Any) -> Any:
        """See rows.Crew."""
        member = next(member for member in self._members if member.loaded is not None)
        return member.ask(function, arguments)

    def __enter__(self) -> "ProcessCrew":
        return self

    def __exit__(self, *raised: object) -> None:
        for member in self._members:
            member.end()


class _Member:
    """One process, started anew when it dies."""

    def __init__(self, job: Job, place: int, plan: Plan) -> None:
        self._job, self._place, self._plan = job, place, plan
        self.row: Row | None = None
        self.loaded: LoadedRun | None = None
        self._answer: Any = None
        self._failures = 0
        self._start()

    def _start(self) -> None:
        self.connection, theirs = Pipe()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from lrpcli.scale.processes import main; "
            f"main({theirs.fileno()}, {os.getpid()})"
        )
        # A group of its own: Ctrl-C on the terminal reaches the run alone. What is printed is no result.
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=2, pass_fds=[theirs.fileno()],
                process_group=0, env={**os.environ, **threads_of(os.environ, self._plan.threads)},
            )  # fmt: skip
        except (OSError, MemoryError) as error:
            reason = error.strerror if isinstance(error, OSError) else "there is too little memory"
            raise StoppedError(f"No process can be started for a net: {reason}.") from error
        finally:
            theirs.close()
        with contextlib.suppress(ConnectionError):
            self.connection.send((self._job, self._place, self._plan.jobs))

    def hear(self) -> Row | None:
        """Takes in the next message; the row that is done, if it says so. Raises what stopped the work."""
        kind, value = self.connection.recv()
        if kind == FAILED:
            self.row = None
            raise value
        if kind == LOADED:
            self.loaded, self._failures = value, 0
            self._send_row()
        elif kind == ANSWER:
            self._answer = value
        elif kind == ENDED:
            row, self.row = self.row, None
            return row
        return None

    def give(self, row: Row) -> None:
        """Has the process work on a row, as soon as the net is loaded."""
        self.row = row
        if self.loaded is not None:
            self._send_row()

    def _send_row(self) -> None:
        if self.row is not None:
            self._send(ROW, self.row)

    def _send(self, *message: Any) -> None:
        with contextlib.suppress(OSError):  # it died, and will be heard to have died, or was given up
            self.connection.send(message)

    def bury(self, warn: Callable[[str], None], *, again: bool) -> Row | None:
        """Replaces a process that died; its row is done if nobody is to take it up again."""
        self._failures += self.loaded is None
        how = self._last_words()
        if self._failures >= ATTEMPTS:
            self.row = None
            raise StoppedError(
                f"The process that loads the net died {self._failures} times: {how}. It may need more memory than "
                "there is: choose fewer --workers."
            )
        self.loaded = None
        self._start()
        if again:
            warn(f"Warning: a process with a net died ({how}). Another takes up its images.")
            return None
        row, self.row = self.row, None
        return row

    def _last_words(self) -> str:
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.kill()
        code = self._process.wait()
        return f"exit {code}" if code >= 0 else signal_name(-code)

    def stop(self) -> None:
        """Has the process end its row in order."""
        if self.loaded is None:  # it has not begun
            self.row = None
        self._send(STOP)

    def ask(self, function: str, arguments: tuple[Any, ...]) -> Any:
        """What a function says of the run."""
        self._answer = None
        self._send(ASK, function, arguments)
        try:
            while self._answer is None:
                self.hear()
        except (EOFError, ConnectionError) as error:
            raise StoppedError(f"The process of a net died: {self._last_words()}.") from error
        return self._answer[0]

    def end(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self.connection.close()


def main(descriptor: int, parent: int) -> None:
    """Works on the rows that come through a connection until its other end or the process `parent` goes away."""
    die_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM):  # the business of the run
        signal.signal(number, signal.SIG_IGN)
    connection: Connection[Any, Any] = Connection(descriptor)
    try:
        worker = RowWorker(*connection.recv())
    except EOFError:  # the run has ended already
        return
    inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, worker, inbox), daemon=True).start()
    connection.send_bytes(_answer(LOADED, worker.load))
    while True:
        kind, *content = inbox.get()
        if kind == ROW:
            connection.send_bytes(_answer(ENDED, worker.work, *content))
        elif kind == ASK:
            function, arguments = content
            connection.send_bytes(_answer(ANSWER, _boxed, worker, function, arguments))


def _boxed(worker: RowWorker, function: str, arguments: tuple[Any, ...]) -> tuple[Any]:
    return (worker.ask(function, *arguments),)


def _listen(connection: "Connection[Any, Any]", worker: RowWorker, inbox: "queue.SimpleQueue[tuple[Any, ...]]") -> None:
    try:
        while True:
            message = connection.recv()
            if message[0] == STOP:
                worker.stop.set()
            else:
                inbox.put(message)
    except (EOFError, ConnectionError):
        os._exit(0)


def _answer(kind: str, function: Any, *arguments: Any) -> bytes:
    """The message that says what a function gave, or what it raised."""
    try:
        return pickle.dumps((kind, function(*arguments)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return pickle.dumps((FAILED, portable(error, "In the process of a net")))
