"""How far an output folder is, counted from its journals."""

from array import array
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lrpcli.errors import UsageError
from lrpcli.records.description import EVALUATE_FILES, EXPLAIN_FILES, FOLDER, RunFiles, read_description
from lrpcli.records.explained import Explained
from lrpcli.records.index import Index, identity
from lrpcli.records.journal import CLASHED, FAILED, OK, RUN, SKIPPED, Line, RunLine, failure_kind
from lrpcli.records.json_values import Fields
from lrpcli.records.record import CLASH


@dataclass
class Status:
    """`images` of the last run over all its shards; of these `done`, failed by kind in `errors`, and `missing`.

    Missing is what was not reached, was under way when a run was killed, or whose files are gone. `shards` is their
    number; `journals` says for each that has begun which share of the images it has and how many of those it reports.
    """

    images: int
    done: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    shards: int = 1
    journals: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Images that failed."""
        return sum(self.errors.values())

    @property
    def missing(self) -> int:
        """Images without a result."""
        return max(0, self.images - self.done - self.failed)


class _Shard:
    """What one journal says of its last run: when that began, and which images it reported."""

    def __init__(self) -> None:
        self.begun: RunLine | None = None
        self.run, self.time = "", 0.0
        self.reported, self.clashed = array("Q"), array("Q")

    def read(self, line: Line) -> None:
        """Takes in the next line."""
        if line.code == RUN:
            self.begun, self.run, self.time = line.begun, line.run, line.time
            self.reported, self.clashed = array("Q"), array("Q")
        elif line.code in (OK, FAILED, SKIPPED):
            self.reported.append(identity(line.name))
        elif line.code == CLASHED:
            self.clashed.append(identity(line.name))

    def is_part_of(self, other: "_Shard") -> bool:
        """Whether both belong to one run."""
        if self.begun is None or other.begun is None:
            return False
        same = self.begun.images == other.begun.images and self.begun.count == other.begun.count
        return same and self.run == other.run


def read_status(output: Path) -> Status:
    """The status of what was explained into a folder, or else evaluated. UsageError if nothing ever was."""
    for files in (EXPLAIN_FILES, EVALUATE_FILES):
        status = _read_status(output, files)
        if status is not None:
            return status
    raise UsageError(
        f"{str(output)!r} holds no journal ({FOLDER}/journal-*.jsonl); nothing was explained or evaluated into it."
    )


def _read_status(output: Path, files: RunFiles) -> Status | None:
    shards: dict[str, _Shard] = {}

    def seen(journal: str, line: Line) -> None:
        shards.setdefault(files.shard(journal), _Shard()).read(line)

    with closing(Index(output, files, None, seen=seen)) as index:
        begun = {name: shard for name, shard in shards.items() if shard.begun is not None}
        if not begun:
            return None
        read_description(output, files)
        last = max(begun.values(), key=lambda shard: shard.time)
        assert last.begun is not None
        status, reported, clashed = Status(last.begun.images, shards=last.begun.count), array("Q"), array("Q")
        for name, shard in begun.items():
            if shard.begun is not None and shard.is_part_of(last):
                told = len(_different(shard.reported)) + len(_different(shard.clashed))
                status.journals[name] = {"share": shard.begun.share, "told": told}
                reported.extend(shard.reported)
                clashed.extend(shard.clashed)
        for image in _different(reported):
            _count(index.last(image), output, status)
        if clashed:
            status.errors[CLASH] += len(_different(clashed))
    return status


def _different(images: "array[int]") -> list[int]:
    return [int(image) for image in np.unique(np.asarray(images))]


def _count(line: Line | None, output: Path, status: Status) -> None:
    """Counts an image that was reported, by the last line about it."""
    if line is not None and line.code == OK:
        status.done += _is_there(line.fields, output)
    elif line is not None and line.code == FAILED:
        kind = failure_kind(line.fields) or ""
        status.errors[kind if kind.isidentifier() else "unknown"] += 1


def _is_there(fields: Fields, output: Path) -> bool:
    """Whether the files of an image are there; a record without files needs none."""
    try:
        return fields.get("outputs") is None or all(
            outputs.exist_in(output) for outputs in Explained.outputs_of(fields)
        )
    except ValueError:
        return False
