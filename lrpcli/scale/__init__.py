"""Where a run is worked on: one line an engine. Imports nothing heavy."""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Protocol

from lrpcli.errors import UsageError
from lrpcli.pipeline.settings import FlowSettings
from lrpcli.setting import require_choices, setting

if TYPE_CHECKING:
    from lrpcli.images.find import Source
    from lrpcli.pipeline.expected_size import KindSize
    from lrpcli.pipeline.run import Run
    from lrpcli.pipeline.shard import Shard
    from lrpcli.records.description import RunFiles
    from lrpcli.records.folder import RunFolder
    from lrpcli.records.record import Record
    from lrpcli.records.stores import Store
    from lrpcli.records.tars import Tars

INLINE = "inline"
TABLE = {
    INLINE: "lrpcli.scale.inline:begin",
    "processes": "lrpcli.scale.processes:begin",
    "ray": "lrpcli.scale.ray:begin",
}
"""Name -> "module:function" of an Executor."""


@dataclass(frozen=True)
class EngineSettings:
    """Where a run is worked on; its results depend on none of these. UsageError for what does not go together."""

    engine: str = setting(
        INLINE, metavar="NAME", choices=tuple(TABLE),
        help="Where images are worked on: {choices}; in one process, in several with a net each, or on a Ray cluster.",
    )  # fmt: skip
    workers: int | None = setting(
        None, metavar="N", least=1, most=1024, shown_default="one for each GPU, or for 4 CPUs, at least 2",
        help="Nets at once, of --engine processes and ray.",
    )  # fmt: skip
    ray_address: str | None = setting(
        None, metavar="ADDRESS", shown_default="RAY_ADDRESS, or a cluster of this machine for this run",
        help="The Ray cluster, such as auto or ray-head:6379.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require_choices(self)
        if self.engine == INLINE and self.workers is not None:
            raise UsageError(
                "--workers counts the nets of --engine processes or ray. Name one of them, or leave --workers out."
            )
        if self.engine != "ray" and self.ray_address is not None:
            raise UsageError("--ray-address goes with --engine ray. Name that, or leave it out.")

    def require_rows(
        self,
        sources: "Sequence[Source]",
        scale: str | float = "",
        folder: "RunFolder | None" = None,
    ) -> None:
        """UsageError for what a single process has to do: a scale for all images, a stream, its own memory."""
        from lrpcli.paths import is_stream
        from lrpcli.remote import OWN_MEMORY

        if self.engine == INLINE:
            return
        if scale == "run":
            raise UsageError(
                f"--scale run needs all images in one process, so it does not go with --engine {self.engine}. Give a "
                "number, or take --engine inline."
            )
        output = [] if folder is None or isinstance(folder, Path) else [folder.url]
        starts = tuple(f"{protocol}://" for protocol in OWN_MEMORY)
        places = (path for path in (*output, *(source.path for source in sources)) if path.lower().startswith(starts))
        url = next(places, None)
        if url is not None:
            raise UsageError(
                f"The URL {url!r} lies in the memory of this process, and those of --engine {self.engine} do not see "
                "it. Name a folder or an object store, or take --engine inline."
            )
        stream = next((source.path for source in sources if is_stream(source.path)), None)
        if stream is not None:
            raise UsageError(
                f"The stream {stream!r} can be read by this process alone, so it does not go with --engine "
                f"{self.engine}. Name a file, or take --engine inline."
            )


@dataclass(frozen=True)
class Job:
    """How a run is made, wherever that is: "module:function" and its arguments, so that it can be sent elsewhere.

    The first argument is the settings, which have a `flow`. `inputs` are the URLs where images are read, with logins.
    """

    prepare: str
    arguments: tuple[Any, ...]
    inputs: tuple[str, ...] = field(default=(), repr=False)

    def load(self) -> "Run[Any, Any]":
        """The run, ready to begin: the model is loaded. Raises LrpError; nothing has been written then."""
        if self.inputs:
            from lrpcli.remote import open_input

            for url in self.inputs:
                open_input(url)
        run: Run[Any, Any] = resolve_name(self.prepare)(*self.arguments)
        return run

    def placed(self, device: str, jobs: int) -> "Job":
        """The same on a device, with so many processes that decode."""
        settings, *others = self.arguments
        flow = replace(settings.flow, device=device, jobs=jobs)
        return replace(self, arguments=(replace(settings, flow=flow), *others))


@dataclass(frozen=True)
class Assignment:
    """A job and the images of its run; `shard` is the one that is to be done, `files` are the names in `folder`.

    `read_finished` is "module:function" that reads a finished image's record without a net, as pipeline.finished does.
    `warn` is given sentences about processes that died, or are waited for. `store` is where the files of images go,
    None if they have none.
    """

    job: Job
    read_finished: str
    sources: "Sequence[Source]"
    shard: "Shard"
    folder: "RunFolder"
    files: "RunFiles"
    flow: FlowSettings
    engine: EngineSettings
    warn: Callable[[str], None] = lambda text: None
    store: "Store | None" = None

    def opened_store(self, tars: "Tars", rows: int) -> AbstractContextManager[None]:
        """See Store.opened_for_rows."""
        if self.store is None:
            return nullcontext()
        return self.store.opened_for_rows(tars, rows=rows, force=self.flow.force)

    @property
    def disk(self) -> Path:
        """The folder of a run that only takes one on a disk, as all do but explanations."""
        assert isinstance(self.folder, Path)
        return self.folder

    @property
    def share(self) -> "Sequence[Source]":
        """The images of the shard."""
        return self.shard.share(self.sources)


class Execution(Protocol):
    """A job whose run is ready to begin; `is_finished` if it is known without a net that everything is done."""

    is_finished: bool

    def records(
        self, stop: threading.Event, announce: Callable[[int], None] = ..., held: ExitStack | None = None
    ) -> "Generator[Record, None, None]":
        """See Run.records."""

    def sizes(self) -> "list[KindSize]":
        """See ExplainRun.sizes."""

    def ask(self, function: str, *arguments: Any) -> Any:
        """What a function says where the run is loaded, by its name: function(run, workers, *arguments)."""

    def note_done(self, results: "Sequence[str]" = ()) -> None:
        """Remembers that everything is done: a later run loads no net. `results` are files made of all images."""


class Executor(Protocol):
    """Where a job is worked on."""

    def __call__(self, assignment: Assignment) -> AbstractContextManager[Execution]:
        """Loads the job, and gives its Execution while entered."""


def find_executor(name: str) -> Executor:
    """The executor of that name."""
    executor: Executor = resolve_name(TABLE[name])
    return executor
