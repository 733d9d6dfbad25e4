"""A whole run, whatever its work is: settings and sources in; files, journal and records out."""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from lrpcli.images.find import Source
from lrpcli.pipeline.agenda import Agenda
from lrpcli.pipeline.shard import Shard
from lrpcli.pipeline.stages import Stages, T
from lrpcli.pipeline.workers import Workers
from lrpcli.records.description import RunDescription, RunFiles, require_same_run
from lrpcli.records.journal import RunLine
from lrpcli.records.record import R, Record
from lrpcli.records.resume import Resume
from lrpcli.records.stores import FileStore, Place, Store


@dataclass(frozen=True)
class Run(Generic[T, R]):
    """A run that is ready to begin: the model is loaded, and every setting fits it.

    `kind` is the class of the records of finished images, `files` are the names of what the run remembers in `folder`.
    """

    folder: Path
    files: RunFiles
    kind: type[R]
    description: RunDescription
    stages: Stages[T, R]
    shard: Shard
    force: bool

    def records(
        self,
        sources: Sequence[Source],
        workers: Workers,
        stop: threading.Event | None = None,
        held: ExitStack | None = None,
        announce: Callable[[int], None] = lambda count: None,
    ) -> Generator[R | Record, None, None]:
        """Works on the shard's share of the sources; a record for each, in order. StoppedError ends the run.

        What an earlier run finished is skipped unless the run is forced; UsageError if that was made with other
        settings. When `stop` is set, what is in the work is finished, and the rest dropped. No other run works on the
        shard meanwhile, nor until `held` is closed. `announce` is called once it is known how many images need work.
        """
        stop = stop or threading.Event()
        if not self.force:
            require_same_run(self.folder, self.files, self.description)
        store = self.store()
        with (
            Resume(
                self.folder, self.files, self.kind, self.description.fingerprint, self.shard.name, force=self.force
            ) as resume,
            store.opened(resume.tars, force=self.force),
        ):
            if held is not None:
                resume.keep_lock(held)
            self.description.write(self.folder, self.files, self.owner)
            share = self.shard.share(sources)
            resume.begin_run(RunLine(self.shard.number, self.shard.count, len(sources), len(share)))
            agenda = Agenda(share, self.ready(share, resume), workers, resume, stop)
            agenda.look_up()
            announce(agenda.count_work())
            agenda.try_suspects()
            self.agree(agenda)
            with closing(agenda.records()) as records:
                for unkept in records:
                    with store.kept(unkept) as record:
                        resume.end(record)
                    yield record.below(str(self.folder))

    @property
    def owner(self) -> str:
        """What the names of this run's temporary files hold."""
        return self.files.owner(self.shard.name)

    def store(self) -> Store:
        """Where the files of images go."""
        return FileStore(Place(self.folder, self.owner))

    def ready(self, share: Sequence[Source], resume: Resume[R]) -> Stages[T, R]:
        """The stages for this share of the images; nothing has been looked up yet."""
        return self.stages.fitted(len(share))

    def agree(self, agenda: Agenda[T, R]) -> None:
        """Called once suspects are tried: what depends on all images may change the stages, and what images need."""
