"""Tables on stdout, for people or as JSON."""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lrpcli.cli.terminal import say, say_json
from lrpcli.records.text import one_line

GAP = "  "
NARROWEST = 20
"""Columns of a terminal in which the last column of a table is still readable."""


def print_table(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Rows of the same keys as a table with a heading, or as a JSON list; a table fits the terminal that shows it."""
    if as_json:
        say_json(rows, indent=2)
        return
    if not rows:
        return
    table = [list(rows[0]), *([one_line(cell_text(value)) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    before = sum(widths[:-1]) + len(GAP) * len(widths[:-1])
    if room is not None and before + NARROWEST > room and before + widths[-1] > room:
        say("\n".join(_stacked(table, room)))
        return
    for line in table:
        first = GAP.join(f"{text:{width}}" for text, width in zip(line[:-1], widths[:-1], strict=True))
        say(_folded(f"{first}{GAP}" if first else "", line[-1], room))


def _folded(first: str, last: str, room: int | None) -> str:
    """A line of a table whose last column takes several lines where it does not fit."""
    if room is None or len(first) + len(last) <= room:
        return f"{first}{last}".rstrip()
    return textwrap.fill(last, max(room, NARROWEST), initial_indent=first, subsequent_indent=" " * len(first))


def _stacked(table: Sequence[Sequence[str]], room: int) -> Iterator[str]:
    """Each row as its first cell and, indented below it, the others with their headings; for narrow terminals."""
    headings, *rows = table
    for first, *others in rows:
        cells = [f"{heading} {text}" for heading, text in zip(headings[1:], others, strict=True) if text != "-"]
        yield first
        yield textwrap.fill(", ".join(cells), max(room, NARROWEST), initial_indent="    ", subsequent_indent="    ")


def cell_text(value: Any) -> str:
    """Shapes as 3x227x227, large numbers and lists with commas, nothing as a dash, of an object its plain values."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items() if not isinstance(item, (dict, list)))
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
