"""What the journals of an output folder know of each image, a few bytes per image however many there are."""

import hashlib
import json
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from lrpcli.errors import OutputError
from lrpcli.records.journal import FOLDER, row_from_json

PATTERN = "journal-*.jsonl"
START, ALONE, DROPPED, FAILED, OK, SKIPPED, RUN = range(7)
"""What a line says: begun, begun with nothing else under way, given up, failed, finished, found finished, a new run."""
UNFINISHED = (START, ALONE)
_PLACE = 48
"""Bits of a position within its file; above them is the number of the file."""


class Line(NamedTuple):
    """A line of a journal: what it says, when (seconds since 1970), where it starts, and its row."""

    code: int
    time: float
    position: int
    row: dict[str, Any]


class Known(NamedTuple):
    """What is known of one image: the last that happened, and how often it was begun alone and never ended."""

    code: int
    deaths: int
    row: dict[str, Any]


def journals(output: Path) -> list[Path]:
    """The journals of an output folder."""
    return sorted((output / FOLDER).glob(PATTERN))


def open_journal(path: Path) -> BinaryIO:
    """A journal to be read. OutputError if it cannot be."""
    try:
        return path.open("rb")
    except OSError as error:
        raise OutputError(f"The journal {os.fspath(path)!r} cannot be read: {error.strerror}.") from error


def lines(file: BinaryIO, run: str | None = None) -> Iterator[Line]:
    """The lines of a journal; torn ones are passed over. What was finished or failed in another `run` is dropped."""
    position = 0
    for data in file:
        start, position = position, position + len(data)
        row = _parsed(data)
        if row is None:
            continue
        code = _code(row)
        if code in (FAILED, OK, SKIPPED) and run is not None and row.get("run") != run:
            code = DROPPED
        yield Line(code, float(row.get("time", 0)), start, row)


def identity(name: str) -> int:
    """64 bits that stand for the name of an image."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest())


class Ledger:
    """The journals' lines about each image, found by its name; `run` is the fingerprint whose results count."""

    def __init__(self, output: Path, run: str) -> None:
        self._files = [open_journal(path) for path in journals(output)]
        names, times, codes, places = array("Q"), array("d"), array("B"), array("Q")
        for number, file in enumerate(self._files):
            for line in lines(file, run):
                if line.code not in (SKIPPED, RUN):
                    names.append(identity(line.row["name"]))
                    times.append(line.time)
                    codes.append(line.code)
                    places.append(number << _PLACE | line.position)
        order = np.lexsort((times, names))  # by name, then by time; stable, so that lines of one time keep their order
        self._names, self._codes, self._places = (np.asarray(column)[order] for column in (names, codes, places))

    def of(self, name: str) -> Known | None:
        """What is known of an image, or None."""
        wanted = np.uint64(identity(name))
        end = int(np.searchsorted(self._names, wanted, "right"))
        if end == 0 or self._names[end - 1] != wanted:
            return None
        row = self._row(int(self._places[end - 1]))
        if row is None or row["name"] != name:
            return None
        first = end
        while first > 0 and self._names[first - 1] == wanted and self._codes[first - 1] == ALONE:
            first -= 1
        return Known(int(self._codes[end - 1]), end - first, row)

    def unfinished(self) -> Iterator[tuple[Path, str]]:
        """Journal and name of each image that was begun and not ended."""
        last = np.append(self._names[1:] != self._names[:-1], True)[: len(self._names)]
        for index in np.flatnonzero(last):
            if self._codes[index] in UNFINISHED:
                place = int(self._places[index])
                row = self._row(place)
                if row is not None:
                    yield Path(self._files[place >> _PLACE].name), row["name"]

    def _row(self, place: int) -> dict[str, Any] | None:
        file = self._files[place >> _PLACE]
        file.seek(place & ((1 << _PLACE) - 1))
        return _parsed(file.readline())

    def close(self) -> None:
        """Lets go of the journals."""
        for file in self._files:
            file.close()


def _parsed(data: bytes) -> dict[str, Any] | None:
    """A line's row; None if it is torn or not ours."""
    try:
        row = row_from_json(json.loads(data))
        usable = data.endswith(b"\n") and (_is_run(row) if row.get("type") == "run" else isinstance(row["name"], str))
        return row if usable and isinstance(row.get("time", 0), (int, float)) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _is_run(row: dict[str, Any]) -> bool:
    numbers = (*row["part"], row["images"], row["share"])
    return len(numbers) == 4 and all(isinstance(number, int) for number in numbers)


def _code(row: dict[str, Any]) -> int:
    if row.get("type") == "start":
        return ALONE if row.get("alone") else START
    if row.get("type") == "done":
        return OK if row.get("status") == "ok" else FAILED
    return {"run": RUN, "skip": SKIPPED}.get(str(row.get("type")), DROPPED)
