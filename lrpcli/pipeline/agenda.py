"""What each image of a shard needs, and doing it: looking up, trying suspects alone, working, records in order."""

import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic

from lrpcli.errors import ImageError
from lrpcli.images.find import Source
from lrpcli.images.objects import read_object
from lrpcli.images.streams import most_bytes
from lrpcli.paths import is_url
from lrpcli.pipeline.stages import Stages, T
from lrpcli.pipeline.stream import run_stages, stream_content
from lrpcli.pipeline.workers import Workers
from lrpcli.records.identity import Content, FileState, hash_bytes, read_content
from lrpcli.records.record import R, Record
from lrpcli.records.resume import CRASHED, LAST, SUSPECT, TODO, UNSURE, Resume

LOOKS = 1000
"""Images that are looked up between two looks at whether the run shall stop."""


@dataclass
class Agenda(Generic[T, R]):
    """The images of a shard, and what works on them until `stop` is set.

    `needs` is what each image needs, by position (see Resume.look); it is cut short where the run was stopped.
    """

    sources: Sequence[Source]
    stages: Stages[T, R]
    workers: Workers
    resume: Resume[R]
    stop: threading.Event
    needs: bytearray = field(default_factory=bytearray)

    def look_up(self) -> None:
        """Finds out what the images need."""
        for position, source in enumerate(self.sources):
            if position % LOOKS == 0 and self.stop.is_set():
                break
            self.needs.append(self.resume.look(source.path, source.name))
        self._settle()

    def count_work(self) -> int:
        """How many images need work."""
        return sum(need == TODO or need >= SUSPECT for need in self.needs)

    def _settle(self) -> None:
        """Settles by their contents what unsure images need, reading as many of them at once as there are jobs."""
        unsure = (position for position, need in enumerate(self.needs) if need == UNSURE)
        with ThreadPoolExecutor(self.stages.jobs, "reader") as readers:
            while positions := list(islice(unsure, 4 * self.stages.jobs)):
                if self.stop.is_set():
                    del self.needs[positions[0] :]
                    return
                sources = [self.sources[position] for position in positions]
                contents = readers.map(lambda source: self._content(source.path), sources)
                for position, source, content in zip(positions, sources, contents, strict=True):
                    self.needs[position] = self.resume.settle(source.path, source.name, content)

    def _content(self, path: str) -> Content | None:
        """What is in a file or stream; None if it cannot be read."""
        with suppress(ImageError):
            if is_url(path):
                state = FileState.of(path)
                return Content(hash_bytes(read_object(path, most_bytes(self.stages.decode.decode.max_pixels))), state)
            stream = stream_content(path, self.stages)
            return read_content(path) if stream is None else Content(hash_bytes(stream))
        return None

    def try_suspects(self) -> None:
        """Tries each suspect with nothing beside it. What has not ended the run is then worked on like any other.

        The results are not used: those of a full batch have other last digits. What has ended the fewest runs comes
        first, and what has been `crashed` before is only tried if nothing else is to be done.
        """
        if any(need == TODO or SUSPECT <= need < LAST for need in self.needs):
            self.needs[:] = self.needs.replace(bytes([LAST]), bytes([CRASHED]))
        suspects = [position for position, need in enumerate(self.needs) if need >= SUSPECT]
        suspects.sort(key=self.needs.__getitem__)
        tried = (self.sources[position] for position in suspects)

        def begin(source: Source) -> None:
            self.resume.begin(source.name, alone=True)

        for record in run_stages(tried, self.stages.alone(), self.workers, self.stop, begin, apart=True):
            self.resume.survive(record.name)
        for position in suspects:
            self.needs[position] = TODO

    def records(self) -> Generator[R | Record, None, None]:
        """The records of all images by position: of those that were ended before, and of those that need work.

        Once `stop` is set, only those that were in the work.
        """
        with closing(self._worked()) as worked:
            for position, need in enumerate(self.needs):
                if need != TODO:
                    if not self.stop.is_set():
                        source = self.sources[position]
                        yield self.resume.record(source.path, source.name, need)
                    continue
                record = next(worked, None)
                if record is None:  # stopped
                    return
                yield record

    def _worked(self) -> Generator[R | Record, None, None]:
        """Records of the images that need work, in order."""

        def begin(source: Source) -> None:
            self.resume.begin(source.name)

        return run_stages(self._taken(), self.stages, self.workers, self.stop, begin)

    def _taken(self) -> Iterator[Source]:
        """The images that need work, as they go into it."""
        for position, need in enumerate(self.needs):
            if need == TODO:
                source = self.sources[position]
                self.resume.take(source.path, source.name)
                yield source
