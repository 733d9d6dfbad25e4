"""How far an output folder is, counted from its journals."""

from collections import Counter
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from lrpcli.errors import UsageError
from lrpcli.records.description import EVALUATE_FILES, EXPLAIN_FILES, FOLDER, RunFiles, read_description
from lrpcli.records.explained import Explained
from lrpcli.records.index import identity
from lrpcli.records.journal import FAILED, OK, RUN, SKIPPED, UNFINISHED, Line, RunLine, open_journal, read_lines
from lrpcli.records.json_values import Fields

Result = tuple[float, str | None]
"""Of an image: when, and None if done, the kind of failure, or "" if begun or gone."""


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


class _ShardLines:
    """What one journal says since its last run began; results of images that were skipped lie before that."""

    def __init__(self, path: Path) -> None:
        self.begun: RunLine | None = None
        self.run, self.time = "", 0.0
        self.results: dict[int, Result] = {}
        self.reported: set[int] = set()
        with open_journal(path) as file:
            for line in read_lines(file):
                self._read(line, path.parent.parent)

    def _read(self, line: Line, output: Path) -> None:
        if line.code == RUN:
            self.begun, self.run, self.time, self.reported = line.begun, line.run, line.time, set()
            return
        image = identity(line.name)
        if line.code == OK:
            self.results[image] = (line.time, None if _is_there(line.fields, output) else "")
        elif line.code == FAILED:
            self.results[image] = (line.time, _failure_kind(line.fields))
        elif line.code in UNFINISHED:
            self.results[image] = (line.time, "")
        if line.code in (OK, FAILED, SKIPPED):
            self.reported.add(image)

    def is_part_of(self, other: "_ShardLines") -> bool:
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
    shards = {files.shard(path.name): _ShardLines(path) for path in files.journals_in(output)}
    begun = {name: shard for name, shard in shards.items() if shard.begun is not None}
    if not begun:
        return None
    read_description(output, files)
    last = max(begun.values(), key=lambda shard: shard.time)
    assert last.begun is not None
    status = Status(last.begun.images, shards=last.begun.count)
    known: dict[int, Result] = {}
    for shard in shards.values():
        for image, result in shard.results.items():
            known[image] = max(known.get(image, result), result, key=itemgetter(0))
    for name, shard in begun.items():
        if shard.begun is not None and shard.is_part_of(last):
            status.journals[name] = {"share": shard.begun.share, "told": len(shard.reported)}
            for image in shard.reported:
                _count(known[image][1] if image in known else "", status)
    return status


def _count(result: str | None, status: Status) -> None:
    if result is None:
        status.done += 1
    elif result:
        status.errors[result] += 1


def _failure_kind(fields: Fields) -> str:
    error = fields.get("error")
    return str(error.get("kind", "unknown")) if isinstance(error, dict) else "unknown"


def _is_there(fields: Fields, output: Path) -> bool:
    """Whether the files of an image are there; a record without files needs none."""
    try:
        return fields.get("outputs") is None or all(
            outputs.exist_in(output) for outputs in Explained.outputs_of(fields)
        )
    except ValueError:
        return False
