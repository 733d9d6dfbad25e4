"""How far an output folder is, counted from its journals."""

from collections import Counter
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from lrpcli.errors import UsageError
from lrpcli.records.index import FAILED, OK, RUN, SKIPPED, UNFINISHED, Line, identity, journals, lines, open_journal
from lrpcli.records.journal import FOLDER, read_description

Result = tuple[float, str | None]
"""Of an image: when, and None if done, the kind of failure, or "" if begun or gone."""


@dataclass
class Status:
    """`images` of the last run over all its parts; of these `done`, failed by kind in `errors`, and `missing`.

    Missing is what was not reached, was under way when a run was killed, or whose files are gone. `shards` is the
    number of parts; `journals` says for each that has begun which share it has and how much of that it told of.
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
    """What one journal says since its last run began; results of images that were skipped lie before that."""

    def __init__(self, path: Path) -> None:
        self.begun: Line | None = None
        self.results: dict[int, Result] = {}
        self.told: set[int] = set()
        with open_journal(path) as file:
            for line in lines(file):
                self._read(line, path.parent.parent)

    def _read(self, line: Line, output: Path) -> None:
        if line.code == RUN:
            self.begun, self.told = line, set()
            return
        image = identity(line.row["name"])
        if line.code == OK:
            self.results[image] = (line.time, None if _is_there(line.row, output) else "")
        elif line.code == FAILED:
            error = line.row.get("error")
            kind = str(error.get("kind", "unknown")) if isinstance(error, dict) else "unknown"
            self.results[image] = (line.time, kind)
        elif line.code in UNFINISHED:
            self.results[image] = (line.time, "")
        if line.code in (OK, FAILED, SKIPPED):
            self.told.add(image)


def read_status(output: Path) -> Status:
    """The status of an output folder. UsageError if nothing was ever explained into it."""
    shards = {path.stem.removeprefix("journal-"): _Shard(path) for path in journals(output)}
    begun = {name: shard for name, shard in shards.items() if shard.begun is not None}
    if not begun:
        raise UsageError(f"{str(output)!r} holds no journal ({FOLDER}/journal-*.jsonl); nothing was explained into it.")
    read_description(output)
    last = max((shard.begun for shard in begun.values() if shard.begun), key=lambda line: line.time).row
    status = Status(last["images"], shards=last["part"][1])
    known: dict[int, Result] = {}
    for shard in shards.values():
        for image, result in shard.results.items():
            known[image] = max(known.get(image, result), result, key=itemgetter(0))
    for name, shard in begun.items():
        row = shard.begun.row if shard.begun else last
        if _belongs(row, last):
            status.journals[name] = {"share": row["share"], "told": len(shard.told)}
            for image in shard.told:
                _count(known[image][1] if image in known else "", status)
    return status


def _belongs(row: dict[str, Any], last: dict[str, Any]) -> bool:
    """Whether a shard's run is part of the last one."""
    one, other = ((line.get("run"), line["images"], line["part"][1]) for line in (row, last))
    return one == other


def _count(result: str | None, status: Status) -> None:
    if result is None:
        status.done += 1
    elif result:
        status.errors[result] += 1


def _is_there(row: dict[str, Any], output: Path) -> bool:
    parts = row.get("explanations", [row])
    return all((output / name).exists() for part in parts for name in part.get("outputs", {}).values())
