"""A net that is loaded once and works on one row after the other, in a process that is not the command's."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from lrpcli.pipeline.finished import NetFacts
from lrpcli.pipeline.row import Row
from lrpcli.records.description import RunDescription, RunFiles
from lrpcli.records.record import Record
from lrpcli.scale import Job
from lrpcli.scale.devices import device_for

if TYPE_CHECKING:
    from lrpcli.pipeline.run import Run


@dataclass(frozen=True)
class LoadedRun:
    """What the command needs to know of a run that is loaded elsewhere; see Run and Stages for what is called so."""

    files: RunFiles
    kind: type[Record]
    description: RunDescription
    batch_size: int
    facts: NetFacts


def threads_of(environment: Mapping[str, str], threads: int) -> dict[str, str]:
    """Variables for the process of a net, before torch is imported; what the user says of threads holds."""
    return {"OMP_NUM_THREADS": environment.get("OMP_NUM_THREADS") or str(threads), "OPENBLAS_NUM_THREADS": "1"}


@dataclass
class RowWorker:
    """The worker at a place, from 0: `jobs` processes decode for it. To be closed."""

    job: Job
    place: int
    jobs: int
    stop: threading.Event = field(default_factory=threading.Event)

    def load(self) -> LoadedRun:
        """Loads the net, on the GPU of this place if there are any. Raises LrpError."""
        from lrpcli.pipeline.workers import Workers

        flow = self.job.arguments[0].flow
        self.workers: Workers = Workers(self.jobs, flow.timeout or None)
        import torch

        from lrpcli.lrp.batch_limit import keep_freed_memory

        keep_freed_memory()
        device = device_for(flow.device, self.place, torch.cuda.device_count())
        self.run: Run[Any, Any] = self.job.placed(device, self.jobs).load()
        run = self.run
        return LoadedRun(run.files, run.kind, run.description, run.stages.batch_size, run.facts)

    def work(self, row: Row) -> None:
        """Works on a row until it is done or `stop` is set; the journal says what came of it. StoppedError ends it."""
        for _ in self.run.work_on(row, self.workers, self.stop):
            pass

    def ask(self, function: str, *arguments: Any) -> Any:
        """What a function says of the run, by its name: function(run, workers, *arguments)."""
        return resolve_name(function)(self.run, self.workers, *arguments)

    def close(self) -> None:
        """Ends the processes that decode."""
        if hasattr(self, "workers"):
            self.workers.__exit__()


def sizes_of(run: Any, workers: Any) -> Any:
    """See ExplainRun.sizes."""
    return run.sizes()
