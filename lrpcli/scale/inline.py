"""Works in this process, with processes beside it that decode."""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from lrpcli.pipeline.settings import FlowSettings
from lrpcli.pipeline.workers import Workers
from lrpcli.records.record import Record
from lrpcli.scale import Assignment, Job

if TYPE_CHECKING:
    from lrpcli.pipeline.expected_size import KindSize


@dataclass
class Loaded:
    """A run in this process, and what decodes for it."""

    run: Any
    workers: Workers

    def sizes(self) -> "list[KindSize]":
        """See ExplainRun.sizes."""
        sizes: list[KindSize] = self.run.sizes()
        return sizes


@dataclass
class InlineExecution:
    """A run in this process; see scale.Execution."""

    assignment: Assignment
    loaded: Loaded
    is_finished = False

    def records(
        self,
        stop: threading.Event,
        announce: Callable[[int], None] = lambda count: None,
        held: ExitStack | None = None,
    ) -> Generator[Record, None, None]:
        """See Run.records."""
        run, workers = self.loaded.run, self.loaded.workers
        yield from run.records(self.assignment.sources, workers, stop, held, announce)

    def sizes(self) -> "list[KindSize]":
        """See ExplainRun.sizes."""
        return self.loaded.sizes()

    def ask(self, function: str, *arguments: Any) -> Any:
        """See scale.Execution."""
        return resolve_name(function)(self.loaded.run, self.loaded.workers, *arguments)

    def note_done(self, results: Sequence[str] = ()) -> None:
        """See scale.Execution. This process loads the net at once, before it is known what is done."""


@contextmanager
def execute(job: Job, images: int, flow: FlowSettings) -> Iterator[Loaded]:
    """Loads a job for so many images; processes that decode get ready while torch is imported and the model loaded."""
    with Workers(max(1, min(flow.jobs or 1, images)), flow.timeout or None) as workers:
        from lrpcli.lrp.batch_limit import keep_freed_memory

        keep_freed_memory()
        yield Loaded(job.load(), workers)


@contextmanager
def begin(assignment: Assignment) -> Iterator[InlineExecution]:
    """See scale.Executor."""
    images = len(assignment.share)
    with execute(assignment.job, images, assignment.flow) as loaded:
        loaded.run.share_processors(images)
        yield InlineExecution(assignment, loaded)
