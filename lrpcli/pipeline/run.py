"""A whole run, whatever its work is: settings and sources in; files, journal and records out."""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Self

from lrpcli.images.find import Source
from lrpcli.images.sources import list_digest
from lrpcli.pipeline.agenda import Agenda
from lrpcli.pipeline.finished import NetFacts
from lrpcli.pipeline.row import Row, Whole
from lrpcli.pipeline.shard import Shard
from lrpcli.pipeline.stages import Stages, T
from lrpcli.pipeline.workers import Workers
from lrpcli.records.description import RunDescription, RunFiles, require_same_run
from lrpcli.records.folder import RunFolder, shown
from lrpcli.records.journal import RunLine
from lrpcli.records.record import R, Record
from lrpcli.records.resume import Resume
from lrpcli.records.stores import FileStore, Place, Store


@dataclass(frozen=True)
class Run(Generic[T, R]):
    """A run that is ready to begin: the model is loaded, and every setting fits it.

    `kind` is the class of the records of finished images, `files` are the names of what the run remembers in `folder`.
    """

    folder: RunFolder
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
        known_division = self.shard.count > 1 and not store.needs_all_journals
        division = f"{self.shard.count}-{list_digest(sources)}" if known_division else None
        with (
            Resume(
                self.folder, self.files, self.kind, self.description.fingerprint, self.shard.name,
                force=self.force, division=division,
            ) as resume,
            store.opened(resume.tars, force=self.force),
        ):  # fmt: skip
            if held is not None:
                resume.keep_lock(held)
            write = self.description.write if self.force else self.description.agree
            write(self.folder, self.files, self.owner)
            resume.require_own_settings()
            share = self.shard.share(sources)
            yield from self._work(share, len(sources), Whole(len(share), share), workers, stop, resume, announce, store)

    def work_on(self, row: Row, workers: Workers, stop: threading.Event) -> Generator[R | Record, None, None]:
        """Works on a row, whoever else works on others; a record for each of its images, in order.

        The folder holds the run's description already. What was handed over with the row is all that is known of it,
        also where the run is forced.
        """
        run = self.of_shard(row.shard)
        fingerprint, name, store = self.description.fingerprint, row.shard.name, run.store()
        with (
            Resume(run.folder, run.files, run.kind, fingerprint, name, handed=row.handed) as resume,
            store.opened_row(),
        ):
            resume.require_own_settings()
            yield from run._work(
                row.sources, row.images, row.whole, workers, stop, resume, lambda count: None, store
            )  # fmt: skip

    def _work(
        self,
        share: Sequence[Source],
        images: int,
        whole: Whole,
        workers: Workers,
        stop: threading.Event,
        resume: Resume[R],
        announce: Callable[[int], None],
        store: Store,
    ) -> Generator[R | Record, None, None]:
        """Records of the shard's share, of a run of so many `images`."""
        line = RunLine(self.shard.number, self.shard.count, images, len(share))
        resume.begin_run(line)
        agenda = Agenda(share, self.ready(whole, resume), workers, resume, stop)
        agenda.look_up()
        announce(agenda.count_work())
        agenda.try_suspects()
        self.agree(agenda)
        ended = 0
        with closing(agenda.records()) as records:
            for unkept in records:
                with store.kept(unkept) as record:
                    resume.end(record)
                ended += 1
                if ended == len(share) and self.shard.count > 1:
                    resume.end_run(line)
                yield record.below(shown(self.folder))

    @property
    def facts(self) -> NetFacts:
        """What a later run needs to know of the net to see without it that everything is done."""
        return NetFacts(None)

    @property
    def disk(self) -> Path:
        """The folder of a run that only takes one on a disk, as all do but explanations."""
        assert isinstance(self.folder, Path)
        return self.folder

    @property
    def owner(self) -> str:
        """What the names of this run's temporary files hold."""
        return self.files.owner(self.shard.name)

    def of_shard(self, shard: Shard) -> Self:
        """The same for a shard of a run that has begun."""
        return replace(self, shard=shard, force=False)

    def share_processors(self, images: int) -> None:
        """Called before the first of so many images, in a process that decodes and draws beside the work."""

    def store(self) -> Store:
        """Where the files of images go."""
        return FileStore(Place(self.folder, self.owner))

    def ready(self, whole: Whole, resume: Resume[R]) -> Stages[T, R]:
        """The stages for these images; nothing has been looked up yet."""
        return self.stages.fitted(whole.images)

    def agree(self, agenda: Agenda[T, R]) -> None:
        """Called once suspects are tried: what depends on all images may change the stages, and what images need."""
