"""The records of an output folder as a table: a row for each class of each image, one after the other."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lrpcli.errors import UsageError
from lrpcli.records.clashes import Clashes
from lrpcli.records.description import EXPLAIN_FILES, RunDescription, read_description
from lrpcli.records.explained import Explained, ExplainedClass, TopClass
from lrpcli.records.folder import RunFolder, shown, without_journal
from lrpcli.records.index import Index
from lrpcli.records.journal import FAILED, OK, OUTDATED, Line
from lrpcli.records.json_values import json_path
from lrpcli.records.record import PRINTED, Record
from lrpcli.records.segments import forget
from lrpcli.records.text import FORMULAS, for_spreadsheets, one_line

Cell = str | int | float | bool | None
TOP = 5
"""Best classes of an image that have columns."""


class Entry(NamedTuple):
    """What a row is about: an image, and one of its classes; None where it failed."""

    record: Record
    one: ExplainedClass | None


@dataclass(frozen=True)
class Column:
    """A column: its heading, the type of its cells (Path for paths), and the cell of an entry."""

    name: str
    type: type
    cell: Callable[[Entry], Cell]


@dataclass
class Records:
    """Every image's last record in an output folder of `lrp explain`, with its files as paths that begin with it.

    Images come in the order in which the journals first name them, shard by shard: that of the inputs of the run that
    met them first. `outdated`, `unfinished` and `damaged` count, once all were read, the images that are left out: made
    with other settings than run.json says, under way when a run was stopped, and with a line that cannot be read.
    UsageError if nothing was explained into the folder, OutputError if it cannot be read.
    """

    output: RunFolder
    below: str | None = None
    """What paths begin with where it is not the folder as it is named here."""
    outdated: int = 0
    unfinished: int = 0
    damaged: int = 0

    def __post_init__(self) -> None:
        forget(self.output)
        self.description = read_description(self.output, EXPLAIN_FILES)
        if not EXPLAIN_FILES.journals_in(self.output):
            raise UsageError(
                f"{without_journal(self.output, ' of lrp explain')}. Name a folder with its results; lrp evaluate "
                "writes its table by itself, results.csv."
            )

    def __iter__(self) -> Iterator[Record]:
        folder = shown(self.output) if self.below is None else self.below
        yield from (record.below(folder) for record in self.plain())

    def plain(self) -> Iterator[Record]:
        """The records as the journals have them, with the paths of files below the folder."""
        self.outdated = self.unfinished = self.damaged = 0
        clashes = Clashes()
        run = None if self.description is None else self.description.fingerprint
        with closing(Index(self.output, EXPLAIN_FILES, run, seen=clashes.see)) as index:
            for code, line in index.last_lines():
                yield from self._record(code, line)
        for line in clashes.lines(self.output):
            yield from self._record(FAILED, line)

    def _record(self, code: int, line: Line | None) -> Iterator[Record]:
        try:
            if line is not None and code == OK:
                yield Explained.from_json(line.fields)
            elif line is not None and code == FAILED:
                yield Record.from_json(line.fields)
            else:
                self.outdated += code == OUTDATED
                self.unfinished += code != OUTDATED
        except ValueError:
            self.damaged += 1

    def left_out(self) -> str:
        """What was left out and why, as a sentence; empty if nothing was."""
        reasons = {
            "made with other settings than the last run's": self.outdated,
            "not finished": self.unfinished,
            "of a line in the journal that cannot be read": self.damaged,
        }
        found = ", ".join(
            f"{count} {'image' if count == 1 else 'images'} {reason}" for reason, count in reasons.items() if count
        )
        return f"Left out: {found}. The command that made the others does these too." if found else ""


def entries(records: Iterable[Record], *, failed: bool = False) -> Iterator[Entry]:
    """The rows of records; with `failed` of those that failed."""
    for record in records:
        if isinstance(record, Explained) and not failed:
            yield from (Entry(record, one) for one in record.classes)
        elif record.failure is not None:
            yield Entry(record, None)


def columns(description: RunDescription | None) -> list[Column]:
    """The columns of the results that a description is of: the same for all, then those of its own."""
    output = None if description is None else description.settings.get("output")
    saved = output.get("save") if isinstance(output, dict) else None
    kinds = list(dict.fromkeys(kind for kind in saved if isinstance(kind, str))) if isinstance(saved, list) else []
    known = [*_ABOUT, *map(_file, PRINTED), *(column for place in range(TOP) for column in _top(place))]
    names = {column.name for column in known}
    known += [_file(kind) for kind in kinds if kind.isidentifier() and kind not in names]
    if isinstance(output, dict) and output.get("pack") is not None:
        known += [_TAR, *(column for kind in kinds for column in _place(kind))]
    return known


def _of_class(name: str, kind: type, cell: Callable[[ExplainedClass], Cell]) -> Column:
    return Column(name, kind, lambda entry: None if entry.one is None else cell(entry.one))


_ABOUT = [
    Column("input", Path, lambda entry: entry.record.input),
    Column("name", Path, lambda entry: entry.record.name),
    Column("status", str, lambda entry: entry.record.status),
    Column("error", str, lambda entry: None if entry.record.failure is None else entry.record.failure.kind),
    Column("message", str, lambda entry: None if entry.record.failure is None else entry.record.failure.message),
    _of_class("target", int, lambda one: one.target),
    _of_class("label", str, lambda one: one.label),
    _of_class("score", float, lambda one: one.score),
    _of_class("start", float, lambda one: one.relevance.start),
    _of_class("total", float, lambda one: one.relevance.total),
    _of_class("kept", float, lambda one: one.relevance.kept),
    _of_class("positive", float, lambda one: one.relevance.positive),
    _of_class("negative", float, lambda one: one.relevance.negative),
    _of_class("min", float, lambda one: one.relevance.min),
    _of_class("max", float, lambda one: one.relevance.max),
    _of_class("exploded", bool, lambda one: one.relevance.exploded),
    _of_class("scale", float, lambda one: one.scale),
    Column("seconds", float, lambda entry: entry.record.seconds),
]


def _file(kind: str) -> Column:
    return _of_class(kind, Path, lambda one: one.outputs.paths.get(kind))


_TAR = _of_class("tar", Path, lambda one: None if one.outputs.packed is None else one.outputs.packed.tar)


def _place(kind: str) -> list[Column]:
    """Where the content of a file begins in its tar, and its size, in bytes."""

    def of(one: ExplainedClass, part: int) -> int | None:
        place = None if one.outputs.packed is None else one.outputs.packed.places.get(kind)
        return None if place is None else place[part]

    return [
        _of_class(f"{kind}_offset", int, lambda one: of(one, 0)),
        _of_class(f"{kind}_size", int, lambda one: of(one, 1)),
    ]


def _top(place: int) -> list[Column]:
    """The index, label and score of the class at a place among the best ones."""

    def of(entry: Entry) -> TopClass | None:
        top = entry.record.top if isinstance(entry.record, Explained) else ()
        return top[place] if place < len(top) else None

    def column(name: str, kind: type, cell: Callable[[TopClass], Cell]) -> Column:
        def of_entry(entry: Entry) -> Cell:
            found = of(entry)
            return None if found is None else cell(found)

        return Column(f"top{place + 1}_{name}", kind, of_entry)

    return [column("target", int, lambda one: one.target), column("label", str, lambda one: one.label),
            column("score", float, lambda one: one.score)]  # fmt: skip


def path_text(path: str) -> str:
    """A path as valid text: itself, or where its bytes are not UTF-8 the JSON object that --json prints."""
    found = json_path(path)
    return found if isinstance(found, str) else json.dumps(found)


def csv_lines(shown: list[Column], rows: Iterable[Entry]) -> Iterator[bytes]:
    """The lines of a CSV file in UTF-8, the headings first. Nothing in them is computed by a spreadsheet."""
    yield _csv_line([column.name for column in shown])
    for entry in rows:
        yield _csv_line([_csv_cell(column, column.cell(entry)) for column in shown])


def _csv_line(cells: list[Cell]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)  # with the end that makes it quote any line break
    return (text.getvalue().removesuffix("\r\n") + "\n").encode("utf-8", "backslashreplace")


def _csv_cell(column: Column, value: Cell) -> Cell:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    if column.type is not Path:
        return for_spreadsheets(one_line(value))
    text = path_text(value)
    return f"./{text}" if text.startswith(FORMULAS) else text
