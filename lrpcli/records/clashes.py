"""Images whose name belonged to the result of another: their lines belong to no result, and are read by position."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from lrpcli.records.folder import RunFolder
from lrpcli.records.journal import CLASHED, RUN, Line, picked_lines


@dataclass
class Clashes:
    """Where the clashes of each journal's last run stand; `see` takes the lines of journals one by one."""

    places: dict[str, "array[int]"] = field(default_factory=dict)

    def see(self, journal: str, line: Line) -> None:
        """Takes in the next line of a journal."""
        if line.code == RUN:
            self.places[journal] = array("Q")
        elif line.code == CLASHED:
            self.places.setdefault(journal, array("Q")).append(line.position)

    def lines(self, output: RunFolder) -> Iterator[Line]:
        """The lines again, journal by journal. OutputError if one cannot be read."""
        for journal, places in self.places.items():
            yield from picked_lines(output, journal, None, places) if places else ()
