"""Works in this process, with processes beside it that decode."""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrpcli.images.find import Source
from lrpcli.pipeline.settings import FlowSettings
from lrpcli.pipeline.workers import Workers
from lrpcli.records.record import Record
from lrpcli.scale import Job

if TYPE_CHECKING:
    from lrpcli.pipeline.expected_size import KindSize


@dataclass
class InlineExecution:
    """A run in this process; see scale.Execution."""

    run: Any
    workers: Workers

    def records(
        self, sources: Sequence[Source], stop: threading.Event, announce: Callable[[int], None] = lambda count: None
    ) -> Generator[Record, None, None]:
        """See Run.records."""
        yield from self.run.records(sources, self.workers, stop, announce=announce)

    def sizes(self) -> "list[KindSize]":
        """See ExplainRun.sizes."""
        sizes: list[KindSize] = self.run.sizes()
        return sizes


@contextmanager
def execute(job: Job, images: int, flow: FlowSettings) -> Iterator[InlineExecution]:
    """See scale.Executor. The processes that decode get ready while torch is imported and the model loaded."""
    with Workers(max(1, min(flow.jobs or 1, images)), flow.timeout or None) as workers:
        from lrpcli.lrp.batch_limit import keep_freed_memory

        keep_freed_memory()
        yield InlineExecution(job.load(), workers)
