"""Where a run is worked on: one line an executor. Imports nothing heavy."""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Protocol

from lrpcli.pipeline.settings import FlowSettings

if TYPE_CHECKING:
    from lrpcli.images.find import Source
    from lrpcli.pipeline.expected_size import KindSize
    from lrpcli.pipeline.run import Run
    from lrpcli.records.record import Record

TABLE = {
    "inline": "lrpcli.scale.inline:execute",
}
"""Name -> "module:function" of an Executor."""
DEFAULT = "inline"


@dataclass(frozen=True)
class Job:
    """How a run is made, wherever that is: "module:function" and its arguments, so that it can be sent elsewhere."""

    prepare: str
    arguments: tuple[object, ...]

    def load(self) -> "Run[Any, Any]":
        """The run, ready to begin: the model is loaded. Raises LrpError; nothing has been written then."""
        run: Run[Any, Any] = resolve_name(self.prepare)(*self.arguments)
        return run


class Execution(Protocol):
    """A job whose run is ready to begin."""

    def records(
        self, sources: "Sequence[Source]", stop: threading.Event, announce: Callable[[int], None]
    ) -> "Generator[Record, None, None]":
        """See Run.records."""

    def sizes(self) -> "list[KindSize]":
        """See ExplainRun.sizes."""


class Executor(Protocol):
    """Where a job is worked on."""

    def __call__(self, job: Job, images: int, flow: FlowSettings) -> AbstractContextManager[Execution]:
        """Loads a job for so many images, and gives its Execution while entered."""


def find_executor(name: str = DEFAULT) -> Executor:
    """The executor of that name."""
    executor: Executor = resolve_name(TABLE[name])
    return executor
