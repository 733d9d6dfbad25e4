"""Tables on stdout, for people or as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lrpcli.cli.columns import longest_word, padded, width, wrapped
from lrpcli.cli.terminal import BOLD, Part, as_shown, columns, on_terminal, say, say_json, say_parts
from lrpcli.records.text import one_line

GAP = "  "
NARROWEST = 12
"""Columns that a cell of several words has at least, where the terminal leaves the choice."""
Table = Sequence[Sequence[str]]
"""Rows of texts, the headings first."""


def print_table(rows: Sequence[Mapping[str, Any]], as_json: bool, spare: Sequence[str] = ()) -> None:
    """Rows of the same keys as a table with a heading, or as a JSON list; a table fits the terminal that shows it.

    There cells take several lines, but for the first column, whose names people copy. Where that is not enough the
    columns in `spare` are left out, the first one first, which a last line says; and at last each row takes several
    lines.
    """
    if as_json:
        say_json(rows, indent=2)
        return
    if not rows:
        return
    table = [list(rows[0]), *([as_shown(cell_text(value)) for value in row.values()] for row in rows)]
    room, spared = columns() if on_terminal() else None, []
    for heading in spare:
        if room is None or _least(table) <= room:
            break
        table = _without(table, heading)
        spared.append(heading)
    if room is not None and _least(table) > room:
        say("\n".join(_stacked(table, room)))
    else:
        _print_columns(table, _fitting(table, room))
    if spared:
        say(f"Left out for want of room: {', '.join(spared)}; --json has all.")


def _print_columns(table: Table, widths: Sequence[int]) -> None:
    for number, line in enumerate(table):
        cells = [wrapped(text, room) for text, room in zip(line, widths, strict=True)]
        for place in range(max(map(len, cells))):
            pieces = [cell[place] if place < len(cell) else "" for cell in cells]
            text = GAP.join(padded(piece, room) for piece, room in zip(pieces, widths, strict=True)).rstrip()
            say_parts(Part(text, "" if number else BOLD))


def _natural(table: Table) -> list[int]:
    """The columns that each column takes on one line."""
    return [max(map(width, column)) for column in zip(*table, strict=True)]


def _smallest(table: Table) -> list[int]:
    """The columns that each column takes at least: the first has one line, and no word is broken."""
    natural = _natural(table)
    words = [max(map(longest_word, column)) for column in zip(*table, strict=True)]
    return [natural[0], *(max(word, min(NARROWEST, whole)) for word, whole in zip(words[1:], natural[1:], strict=True))]


def _least(table: Table) -> int:
    smallest = _smallest(table)
    return sum(smallest) + len(GAP) * (len(smallest) - 1)


def _fitting(table: Table, room: int | None) -> list[int]:
    """The widths of the columns in a room that is large enough: the widest ones become narrower."""
    widths, smallest = _natural(table), _smallest(table)
    while room is not None and sum(widths) + len(GAP) * (len(widths) - 1) > room:
        widest = max((place for place in range(len(widths)) if widths[place] > smallest[place]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _without(table: Table, heading: str) -> list[list[str]]:
    place = list(table[0]).index(heading)
    return [[*line[:place], *line[place + 1 :]] for line in table]


def _stacked(table: Table, room: int) -> Iterator[str]:
    """Each row as its first cell and, indented below it, the others with their headings; for narrow terminals."""
    headings, *rows = table
    for first, *others in rows:
        cells = [
            f"{heading} {text}" for heading, text in zip(headings[1:], others, strict=True) if text not in ("", "-")
        ]
        yield first
        yield from (f"    {line}" for line in wrapped(", ".join(cells), max(room - 4, NARROWEST)))


def print_facts(facts: Mapping[str, str], indent: int) -> None:
    """Lines of a heading and a text, which begins `indent` columns further; on a terminal a long text takes several.

    Words, such as paths and hashes, stay whole.
    """
    room = max(columns() - indent, NARROWEST) if on_terminal() else None
    for heading, text in facts.items():
        shown = as_shown(text)
        lines = [shown] if room is None else wrapped(shown, room, cut=False)
        for place, line in enumerate(lines):
            start = padded("" if place else as_shown(heading), indent - 1)
            say(f"{start} {line}".rstrip())


def say_folded(text: str, indent: str = "    ") -> None:
    """Writes a line, on a terminal several where it is longer, all but the first indented."""
    first, *others = wrapped(as_shown(text), max(columns() - len(indent), NARROWEST)) if on_terminal() else [text]
    for line in (first, *(indent + other for other in others)):
        say(one_line(line))


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
