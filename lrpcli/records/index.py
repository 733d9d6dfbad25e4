"""What the journals of an output folder know of each image, a few bytes per image however many there are."""

import hashlib
import os
from array import array
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lrpcli.records.description import RunFiles
from lrpcli.records.journal import (
    ALONE,
    FAILED,
    RUN,
    SKIPPED,
    UNFINISHED,
    Line,
    open_journal,
    parse_line,
    read_lines,
)

_CRASHED = RUN + 1
"""Beside the journal's codes: failed as `crashed`, which does not end the count of deaths."""
_PLACE = 48
"""Bits of a position within its file; above them is the number of the file."""


class Known(NamedTuple):
    """What is known of one image: the last that happened, and the runs that ended while it was under way.

    `begun` counts those since anything else happened to it, `deaths` those in which it was alone, also before it was
    reported as `crashed`.
    """

    code: int
    begun: int
    deaths: int
    line: Line


def identity(name: str) -> int:
    """64 bits that stand for the name of an image."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest())


class Index:
    """The journals' lines about each image, found by its name; `run` is the fingerprint whose results count."""

    def __init__(self, output: Path, files: RunFiles, run: str) -> None:
        self._files = [open_journal(path) for path in files.journals_in(output)]
        names, times, codes, places = array("Q"), array("d"), array("B"), array("Q")
        for number, file in enumerate(self._files):
            for line in read_lines(file, run):
                if line.code not in (SKIPPED, RUN):
                    names.append(identity(line.name))
                    times.append(line.time)
                    codes.append(_CRASHED if _is_crash(line) else line.code)
                    places.append(number << _PLACE | line.position)
        order = np.lexsort((times, names))  # by name, then by time; stable, so that lines of one time keep their order
        self._names, self._codes, self._places = (np.asarray(column)[order] for column in (names, codes, places))

    def of(self, name: str) -> Known | None:
        """What is known of an image, or None."""
        wanted = np.uint64(identity(name))
        end = int(np.searchsorted(self._names, wanted, "right"))
        if end == 0 or self._names[end - 1] != wanted:
            return None
        line = self._line(int(self._places[end - 1]))
        if line is None or line.name != name:
            return None
        begun = sum(1 for _ in takewhile(UNFINISHED.__contains__, self._backwards(end)))
        since = takewhile((*UNFINISHED, _CRASHED).__contains__, self._backwards(end))
        deaths = sum(code == ALONE for code in since)
        code = int(self._codes[end - 1])
        return Known(FAILED if code == _CRASHED else code, begun, deaths, line)

    def _backwards(self, end: int) -> Iterator[int]:
        """What the lines of an image say, of which the last one is before `end`, from there on backwards."""
        for place in range(end - 1, -1, -1):
            if self._names[place] != self._names[end - 1]:
                return
            yield int(self._codes[place])

    def unfinished(self) -> Iterator[tuple[Path, str]]:
        """Journal and name of each image that was begun and not ended."""
        last = np.append(self._names[1:] != self._names[:-1], True)[: len(self._names)]
        for index in np.flatnonzero(last):
            if self._codes[index] in UNFINISHED:
                place = int(self._places[index])
                line = self._line(place)
                if line is not None:
                    yield Path(self._files[place >> _PLACE].name), line.name

    def _line(self, place: int) -> Line | None:
        file = self._files[place >> _PLACE]
        file.seek(place & ((1 << _PLACE) - 1))
        return parse_line(file.readline())

    def close(self) -> None:
        """Lets go of the journals."""
        for file in self._files:
            file.close()


def _is_crash(line: Line) -> bool:
    error = line.fields.get("error")
    return line.code == FAILED and isinstance(error, dict) and error.get("kind") == "crashed"
