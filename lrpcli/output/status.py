"""How far an output folder is, counted from its journals."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrpcli.errors import UsageError
from lrpcli.output.journal import FOLDER, read_description
from lrpcli.output.ledger import FAILED, OK, RUN, SKIPPED, UNFINISHED, Line, identity, journals, lines


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
        self.results: dict[int, str | None] = {}  # by image: None if done, the kind of failure, "" if begun
        self.told: set[int] = set()
        with path.open("rb") as file:
            for line in lines(file):
                self._read(line, path.parent.parent)

    def _read(self, line: Line, output: Path) -> None:
        if line.code == RUN:
            self.begun, self.told = line, set()
            return
        image = identity(line.row["name"])
        if line.code == OK:
            self.results[image] = None if _is_there(line.row, output) else ""
        elif line.code == FAILED:
            self.results[image] = str(line.row.get("error", {}).get("kind", "unknown"))
        elif line.code in UNFINISHED:
            self.results[image] = ""
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
    status = Status(int(last.get("images", 0)), shards=int(last.get("part", [1, 1])[1]))
    known: dict[int, str | None] = {}
    for shard in shards.values():
        known.update(shard.results)
    for name, shard in begun.items():
        row = shard.begun.row if shard.begun else {}
        if _belongs(row, last):
            status.journals[name] = {"share": int(row.get("share", 0)), "told": len(shard.told)}
            for image in shard.told:
                _count(known.get(image, ""), status)
    return status


def _belongs(row: dict[str, Any], last: dict[str, Any]) -> bool:
    """Whether a shard's run is part of the last one."""
    return (row.get("run"), row.get("images")) == (last.get("run"), last.get("images")) and (
        row.get("part", [1, 1])[1] == last.get("part", [1, 1])[1]
    )


def _count(result: str | None, status: Status) -> None:
    if result is None:
        status.done += 1
    elif result:
        status.errors[result] += 1


def _is_there(row: dict[str, Any], output: Path) -> bool:
    parts = row.get("explanations", [row])
    return all((output / name).exists() for part in parts for name in part.get("outputs", {}).values())
