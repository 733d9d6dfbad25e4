"""Works on a Ray cluster: an actor holds a net and takes one row after the other; Ray replaces actors that die.

Ray takes up a row of a dead actor without limit. The row's journal makes that harmless: see records.handed.
"""

import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lrpcli.errors import LrpError, StoppedError, UsageError, needs_package
from lrpcli.paths import is_url
from lrpcli.pipeline.row import Row
from lrpcli.records.handed import note_attempt
from lrpcli.scale import Assignment
from lrpcli.scale.devices import ANY_GPU, threads_for, usable_cpus, usual_workers
from lrpcli.scale.finished import FinishedExecution, find_finished
from lrpcli.scale.row_worker import LoadedRun, RowWorker, threads_of
from lrpcli.scale.rows import RowsExecution

OLDEST = (2, 60)
QUIET = {
    "RAY_AUTH_MODE": "disabled",  # else Ray writes a token into the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # says on standard error what it will do in times to come
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
"""Variables that keep Ray from writing and sending what nobody asked for; what the user sets holds."""
STORE = 100_000_000
"""Bytes of the object store of a cluster that is made for a run: rows are small, and results go to files."""
PATIENCE = 60.0
"""Seconds until a line says that no actor has begun."""
LOADS = 2
"""So often Ray may try to load a net whose process dies of it, beyond the first time."""


@contextmanager
def begin(assignment: Assignment) -> Iterator[RowsExecution | FinishedExecution]:
    """See scale.Executor."""
    with ExitStack() as held:
        finished = find_finished(assignment, held)
        if finished is not None:
            yield finished
            return
        ray = held.enter_context(_connected(assignment))
        crew = held.enter_context(RayCrew(ray, assignment))
        yield RowsExecution(assignment, crew, crew.load())


def import_ray() -> Any:
    """The package. UsageError if it is missing or too old."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    hook = sys.excepthook
    try:
        import ray
    except ImportError as error:
        if error.name != "ray":
            raise
        raise UsageError(str(needs_package("--engine ray", "ray", "ray"))) from error
    finally:
        sys.excepthook = hook
        logging.getLogger("ray").setLevel(logging.CRITICAL + 1)  # what matters comes as an exception
    found = tuple(int(part) for part in ray.__version__.split(".")[:2])
    if found < OLDEST:
        raise UsageError(
            f"--engine ray needs Ray {OLDEST[0]}.{OLDEST[1]} or later, and {ray.__version__} is installed. Install a "
            "newer one with: pip install --upgrade 'lrpcli[ray]'."
        )
    return ray


@contextmanager
def _connected(assignment: Assignment) -> Iterator[Any]:
    """Ray, connected to the cluster that is named, or to one that is made for this run and leaves nothing behind."""
    ray = import_ray()
    address = assignment.engine.ray_address or os.environ.get("RAY_ADDRESS")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with ExitStack() as held:
        try:
            options = {"address": address} if address else _own_cluster(assignment, held)
            held.callback(ray.shutdown)
            _leave_output_alone()
            with _unheard():
                ray.init(log_to_driver=False, configure_logging=False, **options)
        except Exception as error:
            where = f"The Ray cluster {address!r} cannot be reached" if address else "Ray cannot be started"
            raise StoppedError(f"{where}: {_first_line(error)}") from error
        finally:
            for number, handler in handlers.items():  # Ray has its own way of ending
                signal.signal(number, handler)
        yield ray


@contextmanager
def _unheard() -> Iterator[None]:
    """Standard error leads nowhere meanwhile: Ray's native part says there which level of its log was chosen."""
    try:
        kept = os.dup(2)
    except OSError:  # closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _leave_output_alone() -> None:
    """Keeps Ray from writing its messages to standard output, which has no setting and is for results alone."""
    worker = sys.modules.get("ray._private.worker")
    if hasattr(worker, "print_to_stdstream"):
        setattr(worker, "print_to_stdstream", lambda *data, **keywords: None)  # noqa: B010 - a module, to mypy None


def _own_cluster(assignment: Assignment, held: ExitStack) -> dict[str, object]:
    """The options of a cluster of this machine, whose files are gone once `held` is closed."""
    folder = tempfile.mkdtemp(prefix="lrp-ray-")
    held.callback(shutil.rmtree, folder, ignore_errors=True)
    return {
        "address": "local", "num_cpus": max(usable_cpus(), assignment.engine.workers or 1),
        "include_dashboard": False, "object_store_memory": STORE, "_temp_dir": folder,
    }  # fmt: skip


class RayCrew:
    """A crew of actors, see rows.Crew; each has `threads` CPUs and perhaps a GPU."""

    def __init__(self, ray: Any, assignment: Assignment) -> None:
        self.ray, self.warn = ray, assignment.warn
        resources, flow = ray.cluster_resources(), assignment.flow
        cpus, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        _require_device(flow.device, gpus)
        wanted = assignment.engine.workers or usual_workers(flow.device, gpus, cpus)
        self.count = max(1, min(wanted, len(assignment.share)))
        threads = threads_for(cpus, self.count)
        jobs = max(1, (flow.jobs or cpus) // self.count)
        self._remote = ray.remote(NetActor).options(
            num_cpus=threads, num_gpus=int(flow.device in ANY_GPU and gpus > 0), max_restarts=-1, max_task_retries=-1,
            max_concurrency=2,  # rows, and being asked to stop
        )  # fmt: skip
        given = ray.put((assignment.job, assignment.folder, assignment.files, _shares_files(assignment)))
        variables = threads_of(os.environ, threads)
        self._given = (given, jobs, str(Path.cwd()), variables)
        self._actors: list[Any] = []
        self._tasks: dict[Any, tuple[Any, Row | None]] = {}
        """Reference of what is under way -> the actor, and its row; None while it loads."""
        self._idle: list[Any] = []
        self._loaded: LoadedRun | None = None
        self._stopped = False

    def grow(self, rows: int) -> None:
        """See rows.Crew."""
        while len(self._actors) < min(rows, self.count):
            actor = self._remote.remote(*self._given)
            self._actors.append(actor)
            self._tasks[actor.load.options(max_task_retries=LOADS).remote()] = (actor, None)

    def load(self) -> LoadedRun:
        """See rows.Crew."""
        self.grow(1)
        began, said = time.monotonic(), False
        while self._loaded is None:
            self.wait(1.0)
            if not said and time.monotonic() - began > PATIENCE:
                self.warn("Waiting for Ray: no actor has begun yet. The cluster may be busy.")
                said = True
        return self._loaded

    @property
    def idle(self) -> int:
        """See rows.Crew."""
        return 0 if self._stopped else len(self._idle)

    @property
    def busy(self) -> bool:
        """See rows.Crew."""
        return any(row is not None for _, row in self._tasks.values())

    def give(self, row: Row) -> None:
        """See rows.Crew."""
        actor = self._idle.pop()
        self._tasks[actor.work.remote(row)] = (actor, row)

    def wait(self, seconds: float) -> list[Row]:
        """See rows.Crew."""
        if not self._tasks:
            time.sleep(seconds)
            return []
        ready, _ = self.ray.wait(list(self._tasks), num_returns=1, timeout=seconds)
        done = []
        for reference in ready:
            actor, row = self._tasks.pop(reference)
            found = self._result(reference)
            self._idle.append(actor)
            if row is not None:
                done.append(row)
            elif self._loaded is None:
                self._loaded = found
        return done

    def _result(self, reference: Any) -> Any:
        """What an actor gave. Raises what it caught; StoppedError if Ray gives up."""
        try:
            value, error = self.ray.get(reference)
        except self.ray.exceptions.RayError as failure:
            raise StoppedError(f"Ray lost a process with a net: {_first_line(failure)}") from failure
        if error is not None:
            raise error
        return value

    def stop(self) -> None:
        """See rows.Crew."""
        self._stopped = True
        for actor, row in self._tasks.values():
            if row is not None:
                actor.stop.remote()

    def ask(self, function: str, *arguments: Any) -> Any:
        """See rows.Crew."""
        while not self._idle:
            self.wait(1.0)
        return self._result(self._idle[0].ask.remote(function, *arguments))

    def __enter__(self) -> "RayCrew":
        return self

    def __exit__(self, *raised: object) -> None:
        for actor in self._actors:
            with contextlib.suppress(Exception):  # it may be gone
                self.ray.kill(actor)


class NetActor:
    """The actor: a net, loaded once. Its methods give a value and None, or None and what was raised."""

    def __init__(self, given: tuple[Any, Any, Any, bool], jobs: int, current: str, variables: dict[str, str]) -> None:
        os.environ.update(variables)
        self._current = current
        job, self._folder, self._files, self._shares_files = given
        self._worker = RowWorker(job, 0, jobs)  # Ray shows each actor its own GPU alone
        self._loaded: LoadedRun | None = None

    def load(self) -> tuple[LoadedRun | None, Exception | None]:
        """Loads the net."""
        return _caught(self._load)

    def _load(self) -> LoadedRun:
        if self._loaded is None:
            self._enter()
            self._loaded = self._worker.load()
        return self._loaded

    def _enter(self) -> None:
        """Enters the command's current folder, from which paths are taken. StoppedError where there is none."""
        try:
            os.chdir(self._current)
        except OSError as error:
            if self._shares_files:
                raise StoppedError(
                    f"A Ray worker cannot enter the current folder, {self._current!r}: {error.strerror}. Inputs and "
                    "outputs have to lie on a file system that all workers share, or below URLs."
                ) from error

    def work(self, row: Row) -> tuple[None, Exception | None]:
        """Works on a row, whoever has begun it before."""

        def work() -> None:
            if self._loaded is None:  # this process replaces one that died
                note_attempt(self._folder, self._files.journal(row.shard.name), row.handed.since)
            self._load()
            self._worker.work(row)

        return _caught(work)

    def ask(self, function: str, *arguments: Any) -> tuple[Any, Exception | None]:
        """What a function says of the run."""

        def ask() -> Any:
            self._load()
            return self._worker.ask(function, *arguments)

        return _caught(ask)

    def stop(self) -> None:
        """Has the row under way end in order."""
        self._worker.stop.set()


def _caught(function: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return function(), None
    except LrpError as error:
        return None, error
    except Exception as error:
        import traceback

        return None, RuntimeError("".join(traceback.format_exception(error)))


def _shares_files(assignment: Assignment) -> bool:
    """Whether workers have to see the files of the command's machine: not all inputs and outputs are URLs."""
    return isinstance(assignment.folder, Path) or not all(is_url(source.path) for source in assignment.share)


def _require_device(device: str, gpus: int) -> None:
    if device == "cuda" and not gpus:
        raise UsageError("--device cuda needs a GPU, and the Ray cluster has none. Take another --device.")
    if device.startswith("cuda:"):
        raise UsageError(
            f"--device {device} names a GPU of one machine, and Ray chooses a GPU for each worker. Take --device cuda."
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{lines[0].rstrip('.')}." if lines else f"{type(error).__name__}."
