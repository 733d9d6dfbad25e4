"""A whole run, whatever its work is: settings and sources in; files, journal and records out."""

import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic

from lrpcli.errors import ImageError
from lrpcli.images.find import Source
from lrpcli.pipeline.shard import Shard
from lrpcli.pipeline.stages import Stages, T
from lrpcli.pipeline.stream import run_stages, stream_content
from lrpcli.pipeline.workers import Workers
from lrpcli.records.description import RunDescription, RunFiles, require_same_run
from lrpcli.records.identity import Content, hash_bytes, read_content
from lrpcli.records.journal import RunLine
from lrpcli.records.record import R, Record
from lrpcli.records.resume import CRASHED, LAST, SUSPECT, TODO, UNSURE, Resume

LOOKS = 1000
"""Images that are looked up between two looks at whether the run shall stop."""


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
    ) -> Generator[R | Record, None, None]:
        """Works on the shard's share of the sources; a record for each, in order. StoppedError ends the run.

        What an earlier run finished is skipped unless the run is forced; UsageError if that was made with other
        settings. When `stop` is set, what is in the work is finished, and the rest dropped. No other run works on the
        shard meanwhile, nor until `held` is closed.
        """
        stop = stop or threading.Event()
        if not self.force:
            require_same_run(self.folder, self.files, self.description)
        with Resume(
            self.folder, self.files, self.kind, self.description.fingerprint, self.shard.name, force=self.force
        ) as resume:
            if held is not None:
                resume.keep_lock(held)
            self.description.write(self.folder, self.files, self.owner)
            share = self.shard.share(sources)
            resume.begin_run(RunLine(self.shard.number, self.shard.count, len(sources), len(share)))
            stages = self.ready(share, resume)
            needs = _needs(share, resume, stop, stages)
            _try_suspects(share, needs, stages, workers, resume, stop)
            stages = self.agreed(share, needs, stages, workers, resume, stop)
            with closing(_worked(share, needs, stages, workers, resume, stop)) as worked:
                for record in _merged(share, needs, worked, resume, stop):
                    resume.end(record)
                    yield record.below(str(self.folder))

    @property
    def owner(self) -> str:
        """What the names of this run's temporary files hold."""
        return self.files.owner(self.shard.name)

    def ready(self, share: Sequence[Source], resume: Resume[R]) -> Stages[T, R]:
        """The stages for this share of the images; nothing has been looked up yet."""
        return self.stages.fitted(len(share))

    def agreed(
        self,
        share: Sequence[Source],
        needs: bytearray,
        stages: Stages[T, R],
        workers: Workers,
        resume: Resume[R],
        stop: threading.Event,
    ) -> Stages[T, R]:
        """The stages once what depends on all images is known; may change what each of them `needs`."""
        return stages


def _needs(share: Sequence[Source], resume: Resume[R], stop: threading.Event, stages: Stages[T, R]) -> bytearray:
    """What each image needs, by position: see Resume.look. Cut short when `stop` is set."""
    needs = bytearray()
    for position, source in enumerate(share):
        if position % LOOKS == 0 and stop.is_set():
            break
        needs.append(resume.look(source.path, source.name))
    _settle(needs, share, resume, stop, stages)
    return needs


def _settle(
    needs: bytearray, share: Sequence[Source], resume: Resume[R], stop: threading.Event, stages: Stages[T, R]
) -> None:
    """Settles by their contents what unsure images need, reading as many of them at once as there are jobs."""
    unsure = (position for position, need in enumerate(needs) if need == UNSURE)
    with ThreadPoolExecutor(stages.jobs, "reader") as readers:
        while positions := list(islice(unsure, 4 * stages.jobs)):
            if stop.is_set():
                del needs[positions[0] :]
                return
            sources = [share[position] for position in positions]
            contents = readers.map(lambda source: _content(source.path, stages), sources)
            for position, source, content in zip(positions, sources, contents, strict=True):
                needs[position] = resume.settle(source.path, source.name, content)


def _content(path: str, stages: Stages[T, R]) -> Content | None:
    """What is in a file or stream; None if it cannot be read."""
    with suppress(ImageError):
        stream = stream_content(path, stages)
        return read_content(path) if stream is None else Content(hash_bytes(stream))
    return None


def _try_suspects(
    share: Sequence[Source],
    needs: bytearray,
    stages: Stages[T, R],
    workers: Workers,
    resume: Resume[R],
    stop: threading.Event,
) -> None:
    """Tries each suspect with nothing beside it. What has not ended the run is worked on like any other image after.

    The results are not used: those of a full batch have other last digits. What has ended the fewest runs comes first,
    and what has been `crashed` before is only tried if nothing else is to be done.
    """
    if any(need == TODO or SUSPECT <= need < LAST for need in needs):
        needs[:] = needs.replace(bytes([LAST]), bytes([CRASHED]))
    suspects = [position for position, need in enumerate(needs) if need >= SUSPECT]
    suspects.sort(key=needs.__getitem__)
    tried = (share[position] for position in suspects)

    def begin(source: Source) -> None:
        resume.begin(source.name, alone=True)

    for record in run_stages(tried, stages.alone(), workers, stop, begin, apart=True):
        resume.survive(record.name)
    for position in suspects:
        needs[position] = TODO


def _worked(
    share: Sequence[Source],
    needs: bytearray,
    stages: Stages[T, R],
    workers: Workers,
    resume: Resume[R],
    stop: threading.Event,
) -> Generator[R | Record, None, None]:
    """Records of the images that need work, in order."""

    def taken() -> Iterator[Source]:
        for position, need in enumerate(needs):
            if need == TODO:
                source = share[position]
                resume.take(source.path, source.name)
                yield source

    return run_stages(taken(), stages, workers, stop, lambda source: resume.begin(source.name))


def _merged(
    share: Sequence[Source], needs: bytearray, worked: Iterator[R | Record], resume: Resume[R], stop: threading.Event
) -> Iterator[R | Record]:
    """The records of all images by position: of those that were ended before, and of those that needed work.

    Once `stop` is set, only those that were in the work.
    """
    for position, need in enumerate(needs):
        if need != TODO:
            if not stop.is_set():
                source = share[position]
                yield resume.record(source.path, source.name, need)
            continue
        record = next(worked, None)
        if record is None:  # stopped
            return
        yield record
