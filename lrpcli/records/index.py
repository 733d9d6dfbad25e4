"""What the journals of an output folder know of each image, a few bytes per image however many there are."""

import hashlib
import os
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrpcli.records.description import RunFiles
from lrpcli.records.folder import RunFolder
from lrpcli.records.journal import (
    ALONE,
    CLASHED,
    FAILED,
    FINISHED,
    OK,
    RUN,
    SKIPPED,
    UNFINISHED,
    Line,
    failure_kind,
    open_journal,
    parse_line,
    picked_lines,
    read_lines,
    unreadable,
)

_CRASHED = CLASHED + 1
"""Beside the journal's codes: failed as `crashed`, which does not end the count of deaths."""
_PLACE = 44
"""Bits of a position within its file; above them is the number of the file."""
_HELD = 8
"""Journals that are open at the same time: there may be thousands, and a process may have few files."""


class Known(NamedTuple):
    """What is known of one image: the last that happened, and the runs that ended while it was under way.

    `begun` counts those since anything else happened to it, `deaths` those in which it was alone, also before it was
    reported as `crashed`.
    `finished` is the line of its last finished result, whatever happened since and whatever settings it was made with.
    """

    code: int
    begun: int
    deaths: int
    line: Line
    finished: Line | None


def identity(name: str) -> int:
    """64 bits that stand for the name of an image."""
    return _bits(os.fsencode(name))


def _bits(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


@dataclass(frozen=True)
class Selection:
    """All that journals hold of some images: the positions of the lines, by the journals' names.

    It lets another process know these images without reading the journals.
    """

    places: Mapping[str, NDArray[np.uint64]]

    def lines(self, output: RunFolder, run: str | None) -> "Callable[[str], Iterator[Line]]":
        """What gives the lines of a journal; see read_lines."""
        return lambda journal: picked_lines(output, journal, run, self.places[journal].tolist())


class Index:
    """The journals' lines about each image, found by its name; `run` is the fingerprint whose results count, None: all.

    Within a journal, a later line is one that stands further down, whatever the clock said. Of several journals the one
    whose last line about the image has the latest time comes last. `seen` is given every line with its journal's name.
    With `contents`, finished images of this run are found by what is in them, too. `journals` are those that are read,
    all unless they are named; `lines` gives those of one, all unless it is given. OutputError if a journal cannot be
    read.
    """

    def __init__(
        self,
        output: RunFolder,
        files: RunFiles,
        run: str | None,
        *,
        seen: Callable[[str, Line], None] = lambda journal, line: None,
        contents: bool = False,
        journals: Sequence[str] | None = None,
        lines: Callable[[str], Iterator[Line]] | None = None,
    ) -> None:
        self.journals = files.journals_in(output) if journals is None else list(journals)
        self._files = _Files(output, self.journals)
        names, codes, places = array("Q"), array("B"), array("Q")
        times: list[NDArray[np.float64]] = []
        self._contents: dict[int, int] = {}
        for number, journal in enumerate(self.journals):
            first, own = len(names), array("d")
            for line in read_lines(output, journal, run) if lines is None else lines(journal):
                seen(journal, line)
                if line.code in (SKIPPED, RUN, CLASHED):
                    continue
                names.append(identity(line.name))
                own.append(line.time)
                codes.append(_CRASHED if _is_crash(line) else line.code)
                places.append(number << _PLACE | line.position)
                if contents and line.code == OK and isinstance(line.fields.get("content"), str):
                    self._contents[_content(str(line.fields.get("content")))] = places[-1]
            times.append(_last_times(np.array(names[first:]), np.asarray(own)))
        # By name, then by time; stable, so that the lines of one journal keep their order.
        order = np.lexsort((np.concatenate(times or [np.empty(0)]), np.asarray(names)))
        self._names, self._codes, self._places = (np.asarray(column)[order] for column in (names, codes, places))

    def of(self, name: str) -> Known | None:
        """What is known of an image, or None."""
        end = self._end(np.uint64(identity(name)))
        line = self._line(end - 1) if end else None
        if line is None or line.name != name:
            return None
        return self._known(end, line)

    def images(self) -> Iterator[Known]:
        """What is known of every image, in the order in which the last lines about them lie in the journals."""
        rows = self._last_rows()
        for row in rows[np.argsort(self._places[rows], kind="stable")].tolist():
            line = self._line(row)
            if line is not None:
                yield self._known(row + 1, line)

    def has_finished(self, name: str) -> bool:
        """Whether the last line about an image says that it is finished; a quick look for counting."""
        end = self._end(np.uint64(identity(name)))
        return end > 0 and int(self._codes[end - 1]) == OK

    def knows(self, names: Iterable[str]) -> bool:
        """Whether there are lines about each of these images."""
        return all(self._end(np.uint64(identity(name))) for name in names)

    def select(self, names: Iterable[str]) -> Selection:
        """Every line about images of these names."""
        wanted = np.fromiter(map(identity, names), np.uint64)
        first, end = (np.searchsorted(self._names, wanted, side) for side in ("left", "right"))
        rows = np.concatenate([np.arange(*ends) for ends in zip(first, end, strict=True)] or [np.empty(0, np.intp)])
        places = np.sort(self._places[rows.astype(np.intp)])
        numbers = places >> np.uint64(_PLACE)
        positions = places & np.uint64((1 << _PLACE) - 1)
        return Selection({self.journals[number]: positions[numbers == number] for number in np.unique(numbers)})

    def _known(self, end: int, line: Line) -> Known:
        """What is known of an image, of whose lines the last one is before `end`."""
        code = int(self._codes[end - 1])
        if code in FINISHED:  # the usual case, and there may be millions
            return Known(code, 0, 0, line, line)
        begun = sum(1 for _ in takewhile(UNFINISHED.__contains__, self._backwards(end)))
        since = takewhile((*UNFINISHED, _CRASHED).__contains__, self._backwards(end))
        deaths = sum(code == ALONE for code in since)
        return Known(FAILED if code == _CRASHED else code, begun, deaths, line, self._finished(end))

    def _backwards(self, end: int) -> Iterator[int]:
        """What the lines of an image say, of which the last one is before `end`, from there on backwards."""
        for place in range(end - 1, -1, -1):
            if self._names[place] != self._names[end - 1]:
                return
            yield int(self._codes[place])

    def last(self, image: int) -> Line | None:
        """The last line about the image that `identity` gave this number for; None if there is none."""
        end = self._end(np.uint64(image))
        return self._line(end - 1) if end else None

    def _end(self, wanted: np.uint64) -> int:
        """Behind the last row of an image; 0 if it has none."""
        end = int(np.searchsorted(self._names, wanted, "right"))
        return end if end > 0 and self._names[end - 1] == wanted else 0

    def _finished(self, end: int) -> Line | None:
        """The last line of a finished result among those of one image, of which the last one is before `end`."""
        finished = (back for back, code in enumerate(self._backwards(end), 1) if code in FINISHED)
        back = next(finished, None)
        return None if back is None else self._line(end - back)

    @property
    def has_contents(self) -> bool:
        """Whether any image can be found by its content."""
        return bool(self._contents)

    def of_content(self, content: str) -> Line | None:
        """The line of a finished image with that content hash, or None."""
        place = self._contents.get(_content(content))
        line = None if place is None else self._line_at(place)
        return line if line is not None and line.fields.get("content") == content else None

    def unfinished(self) -> Iterator[tuple[str, str]]:
        """Journal and name of each image that was begun and not ended."""
        last = np.append(self._names[1:] != self._names[:-1], True)[: len(self._names)]
        for row in np.flatnonzero(last).tolist():
            if self._codes[row] in UNFINISHED:
                line = self._line(row)
                if line is not None:
                    yield self.journals[int(self._places[row]) >> _PLACE], line.name

    def last_lines(self) -> Iterator[tuple[int, Line]]:
        """What became of each image, and the last line about it; in the order in which journals first speak of them."""
        last = self._last_rows()
        if not len(last):
            return
        first = np.minimum.reduceat(self._places, np.append(0, last[:-1] + 1))
        for row in last[np.argsort(first)]:
            code, line = int(self._codes[row]), self._line(int(row))
            if line is not None:
                yield FAILED if code == _CRASHED else code, line

    def _last_rows(self) -> NDArray[np.intp]:
        """Where the last line about each image is."""
        return np.flatnonzero(np.append(self._names[1:] != self._names[:-1], True)[: len(self._names)])

    def _line(self, row: int) -> Line | None:
        return self._line_at(int(self._places[row]))

    def _line_at(self, place: int) -> Line | None:
        return parse_line(self._files.line(place >> _PLACE, place & ((1 << _PLACE) - 1)))

    def close(self) -> None:
        """Lets go of the journals."""
        self._files.close()


class _Files:
    """Lines of journals by position, with few journals open at a time."""

    def __init__(self, output: RunFolder, journals: list[str]) -> None:
        self._output, self._journals = output, journals
        self._open: OrderedDict[int, BinaryIO] = OrderedDict()

    def line(self, number: int, position: int) -> bytes:
        """The line at a position of a journal; OutputError if it cannot be read."""
        name = self._journals[number]
        if number not in self._open:
            if len(self._open) == _HELD:
                self._open.popitem(last=False)[1].close()
            self._open[number] = open_journal(self._output, name)
        self._open.move_to_end(number)
        try:
            self._open[number].seek(position)
            return self._open[number].readline()
        except OSError as error:
            raise unreadable(error, self._output, name) from error

    def close(self) -> None:
        """Closes what is open; a line that is asked for later opens its journal again."""
        for file in self._open.values():
            file.close()
        self._open.clear()


def _content(content: str) -> int:
    return _bits(content.encode("utf-8", "surrogatepass"))


def _last_times(names: NDArray[np.uint64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each line of a journal, when its last line about the same image was written."""
    _, last, image = np.unique(names[::-1], return_index=True, return_inverse=True)
    return times[::-1][last][image][::-1]


def _is_crash(line: Line) -> bool:
    return line.code == FAILED and failure_kind(line.fields) == "crashed"
