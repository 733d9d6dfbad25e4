"""How far an output folder is, counted from its journals; and followed while runs write into them."""

import os
import stat
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lrpcli.errors import UsageError
from lrpcli.records.description import COMPARE_FILES, EVALUATE_FILES, EXPLAIN_FILES, RunFiles, read_description
from lrpcli.records.explained import Explained
from lrpcli.records.folder import RunFolder, without_journal
from lrpcli.records.index import Index, identity
from lrpcli.records.journal import (
    CLASHED,
    FAILED,
    OK,
    RUN,
    SKIPPED,
    UNFINISHED,
    Line,
    RunLine,
    failure_kind,
    is_idle,
    picked_lines,
    read_lines,
)
from lrpcli.records.json_values import Fields
from lrpcli.records.packed import padding, tar_size
from lrpcli.records.record import CLASH, Outputs, Record
from lrpcli.records.segments import forget
from lrpcli.records.tars import Tars
from lrpcli.remote import Remote

BLOCK = 512
"""Bytes of the blocks that a file's status counts."""


class FailedImage(NamedTuple):
    """An image that failed: its path as it was given, the kind of its failure, and the message."""

    path: str
    kind: str
    message: str


@dataclass
class ShardStatus:
    """What one journal says of its last run: its share of the images, and how many of them it reports.

    It worked on `worked` images from `started` to `ended`, seconds since 1970; `running`: it is at work.
    """

    share: int
    told: int
    running: bool = False
    worked: int = 0
    started: float | None = None
    ended: float = 0.0

    @property
    def rate(self) -> float | None:
        """Images worked on a second; None where there are too few, or the clock jumped."""
        if self.started is None or self.ended <= self.started:
            return None
        return self.worked / (self.ended - self.started)

    @property
    def seconds_left(self) -> float | None:
        """Until all of its share is told, if it goes on like this; None where nobody works on it."""
        return (self.share - self.told) / self.rate if self.running and self.rate else None


@dataclass
class Status:
    """`images` of the last run over all its shards; of these `done`, failed by kind in `errors`, and `missing`.

    Missing is what was not reached, was under way when a run was killed, or whose files are gone. `unclosed` lie in
    tar shards that are not whole, and become done once those have their names. `shards` is their number, `journals` has
    those that have begun, `others` those of as many images that were divided otherwise, and `disk` is the bytes that
    the files of what is done take there.
    """

    images: int
    done: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    shards: int = 1
    journals: dict[str, ShardStatus] = field(default_factory=dict)
    others: dict[str, ShardStatus] = field(default_factory=dict)
    disk: int = 0
    unclosed: int = 0

    @property
    def failed(self) -> int:
        """Images that failed."""
        return sum(self.errors.values())

    @property
    def missing(self) -> int:
        """Images without a result."""
        return max(0, self.images - self.done - self.unclosed - self.failed)

    @property
    def running(self) -> bool:
        """Whether a run is at work."""
        return any(shard.running for shard in self._all())

    @property
    def rate(self) -> float | None:
        """Images a second of the shards together, while a run is at work of those that are; None if unknown."""
        if self.running:
            return sum(shard.rate or 0 for shard in self._all() if shard.running) or None
        shards = [shard for shard in self.journals.values() if shard.rate]
        seconds = _together([(shard.started or 0.0, shard.ended) for shard in shards])
        return sum(shard.worked for shard in shards) / seconds if seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Until the last of the shards that are at work is through; None if unknown."""
        return max((left for shard in self._all() if (left := shard.seconds_left) is not None), default=None)

    @property
    def expects_others(self) -> bool:
        """Whether there are several shards, and one has not begun or reported all of its share."""
        told = sum(shard.told >= shard.share for shard in self.journals.values())
        return 1 < self.shards > told

    def _all(self) -> Iterator[ShardStatus]:
        yield from self.journals.values()
        yield from self.others.values()


class _Shard:
    """What one journal says of its last run: when that began, which images it reported, and when it worked."""

    def __init__(self) -> None:
        self.begun: RunLine | None = None
        self.run, self.time, self.position = "", 0.0, 0
        self.forget()

    def forget(self) -> None:
        """Begins anew."""
        self.reported, self.clashed = array("Q"), array("Q")
        self.clashes = array("Q")
        self.started: float | None = None
        self.ended, self.worked = 0.0, 0

    def read(self, line: Line) -> None:
        """Takes in the next line."""
        self.position = line.position
        if line.code == RUN:
            self.begun, self.run, self.time = line.begun, line.run, line.time
            self.forget()
        elif line.code in UNFINISHED:
            self.started = line.time if self.started is None else self.started
        elif line.code in (OK, FAILED, SKIPPED):
            self.reported.append(identity(line.name))
            self.worked += line.code != SKIPPED
            self.ended = line.time if line.code != SKIPPED else self.ended
        elif line.code == CLASHED:
            self.clashed.append(identity(line.name))
            self.clashes.append(line.position)

    def is_about_those_of(self, other: "_Shard") -> bool:
        """Whether both are of as many images with the same settings, however they were divided."""
        if self.begun is None or other.begun is None:
            return False
        return self.begun.images == other.begun.images and self.run == other.run


class StatusReader:
    """Reads how far what was explained, evaluated or compared into a folder is, and follows it; to be closed.

    UsageError if nothing ever was, OutputError if a journal cannot be read.
    """

    def __init__(self, output: RunFolder) -> None:
        self.output = output
        forget(output)
        self._tars = Tars(output).present
        self.files, self._index, self._shards = self._read_any() or _none(output)
        read_description(output, self.files)
        self._last = max(self._shards.values(), key=lambda shard: shard.time)
        self._own = {name: shard for name, shard in self._shards.items() if shard.is_about_those_of(self._last)}
        assert self._last.begun is not None
        self._failed, self._since = array("Q"), dict[int, Line]()
        self.status = Status(self._last.begun.images, shards=self._last.begun.count)
        for image in _different(shard.reported for shard in self._own.values()):
            self._count(image, self._index.last(image))
        clashes = len(_different(shard.clashed for shard in self._own.values()))
        self.status.errors += Counter({CLASH: clashes})
        self._measure()

    def _read_any(self) -> "tuple[RunFiles, Index, dict[str, _Shard]] | None":
        kinds = (EXPLAIN_FILES, EVALUATE_FILES, COMPARE_FILES)
        return next((found for files in kinds if (found := self._read(files)) is not None), None)

    def _read(self, files: RunFiles) -> "tuple[RunFiles, Index, dict[str, _Shard]] | None":
        """The journals of one kind of work; None if no run of it began."""
        shards: dict[str, _Shard] = {}

        def seen(journal: str, line: Line) -> None:
            shards.setdefault(journal, _Shard()).read(line)

        index = Index(self.output, files, None, seen=seen)
        begun = {name: shard for name, shard in shards.items() if shard.begun is not None}
        if not begun:
            index.close()
            return None
        return files, index, begun

    def _count(self, image: int, line: Line | None) -> None:
        """Counts an image that was reported, by the last line about it; `image` is its identity."""
        if line is not None and line.code == OK:
            size = _size(line.fields, self.output)
            unclosed = size is not None and _in_open_tar(line.fields, self.output)
            self.status.done += size is not None and not unclosed
            self.status.unclosed += unclosed
            self.status.disk += size or 0
        elif line is not None and line.code == FAILED:
            self.status.errors[_kind(line)] += 1
            self._failed.append(image)

    def _measure(self) -> None:
        """How fast the shards are, and which of them are at work."""
        for name, shard in self._own.items():
            assert shard.begun is not None
            told = len(_different([shard.reported])) + len(_different([shard.clashed]))
            running = not is_idle(self.output, name)
            journals = self.status.journals if shard.begun.count == self.status.shards else self.status.others
            journals[self.files.shard(name)] = ShardStatus(
                shard.begun.share, told, running, shard.worked, shard.started, shard.ended
            )

    def follow(self) -> bool:
        """Takes in what was written since; False where a run began or a tar got its name: read all again."""
        if isinstance(self.output, Remote):  # pieces of several runs may come to lie between each other
            return False
        if self.files.journals_in(self.output) != self._index.journals or Tars(self.output).present != self._tars:
            return False
        for name, shard in self._own.items():
            for line in read_lines(self.output, name, start=shard.position):
                if line.position == shard.position:  # read before
                    continue
                if line.code == RUN:
                    return False
                shard.read(line)
                self._take(line)
        self._measure()
        return True

    def _take(self, line: Line) -> None:
        """Counts what a line says that was written since the journals were read."""
        image = identity(line.name)
        if line.code == FAILED:
            self._since[image] = line
        if line.code in (OK, FAILED, SKIPPED):
            self._count(image, self._index.last(image) if line.code == SKIPPED else line)
        self.status.errors += Counter({CLASH: int(line.code == CLASHED)})

    def failed_images(self) -> Iterator[FailedImage]:
        """The images of the last run that failed, shard by shard in the order in which they were reported."""
        for image in self._failed:
            yield from _failed(self._since.get(image) or self._index.last(image))
        for name, shard in self._own.items():
            for line in picked_lines(self.output, name, None, shard.clashes) if shard.clashes else ():
                yield from _failed(line)

    def close(self) -> None:
        """Lets go of the journals."""
        self._index.close()

    def __enter__(self) -> "StatusReader":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def read_status(output: RunFolder) -> Status:
    """The status of a folder as it is now; errors as those of StatusReader."""
    with StatusReader(output) as reader:
        return reader.status


def _together(spans: "Iterable[tuple[float, float]]") -> float:
    """The time that lies in at least one of the spans."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def _none(output: RunFolder) -> "tuple[RunFiles, Index, dict[str, _Shard]]":
    raise UsageError(f"{without_journal(output)}; nothing was explained, evaluated or compared into it.")


def _different(images: "Iterable[array[int]]") -> list[int]:
    """Each number once, in the order in which they first stand there."""
    every = np.concatenate([np.asarray(part, np.uint64) for part in images] or [np.empty(0, np.uint64)])
    numbers, first = np.unique(every, return_index=True)
    return [int(number) for number in numbers[np.argsort(first)]]


def _kind(line: Line) -> str:
    kind = failure_kind(line.fields) or ""
    return kind if kind.isidentifier() else "unknown"


def _failed(line: Line | None) -> Iterator[FailedImage]:
    """The failed image of a line; none where it is damaged."""
    with suppress(ValueError):
        if line is not None:
            record = Record.from_json(line.fields)
            yield FailedImage(record.input, _kind(line), "" if record.failure is None else record.failure.message)


def _size(fields: Fields, output: RunFolder) -> int | None:
    """Bytes on disk of the files of an image, None if one is gone; a record without files needs none."""
    try:
        if fields.get("outputs") is None:
            return 0
        return sum(_size_of(outputs, output) for outputs in Explained.outputs_of(fields))
    except (ValueError, OSError):
        return None


def _in_open_tar(fields: Fields, output: RunFolder) -> bool:
    """Whether the files of an image, which are there, lie in a tar that has not got its name yet."""
    if fields.get("pack") is None or fields.get("outputs") is None:
        return False
    tars = (outputs.packed.tar for outputs in Explained.outputs_of(fields) if outputs.packed is not None)
    return any(found is not None and not found[1] for found in (tar_size(output, tar) for tar in tars))


def _size_of(outputs: Outputs, output: RunFolder) -> int:
    """Bytes on disk; OSError if a file is gone, ValueError if it is none."""
    if outputs.packed is not None:
        if not outputs.exist_in(output):
            raise ValueError(f"{outputs.packed.tar!r} is gone or too short")
        return sum(BLOCK + size + len(padding(size)) for _, size in outputs.packed.places.values())
    if isinstance(output, Remote):
        return sum(_bytes_of_object(output, path) for path in outputs.paths.values())
    return sum(_bytes_on_disk(os.path.join(output, path)) for path in outputs.paths.values())  # noqa: PTH118


def _bytes_of_object(output: Remote, path: str) -> int:
    entry = output.entry(path)
    if entry is None:
        raise FileNotFoundError(path)
    return entry.size


def _bytes_on_disk(path: str) -> int:
    status = os.stat(path)  # noqa: PTH116 - a Path costs more, and there may be millions
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path!r} is not a file")
    return status.st_blocks * BLOCK if hasattr(status, "st_blocks") else status.st_size
