"""Tables on stdout, for people or as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from lrpcli.cli.columns import longest_word, padded, width, wrapped
from lrpcli.cli.terminal import BOLD, Part, as_shown, columns, on_terminal, say, say_json, say_parts
from lrpcli.records.text import one_line

GAP, INDENT = "  ", "    "
NARROWEST = 10
"""Columns that a cell of several words has at least, where the terminal leaves the choice."""
Table = Sequence[Sequence[str]]
"""Rows of texts, the headings first."""


def print_table(rows: Sequence[Mapping[str, Any]], as_json: bool, spare: Sequence[str] = ()) -> None:
    """Rows of the same keys as a table with a heading, or as a JSON list; a table fits the terminal that shows it.

    There cells take several lines, but for the first column, whose names people copy. Where that is not enough the
    last column stands below the others; then the columns in `spare` are left out, the first one first, which a last
    line says; and at last all columns stand below the first.
    """
    if as_json:
        say_json(rows, indent=2)
        return
    if not rows:
        return
    table = [list(rows[0]), *([as_shown(cell_text(value)) for value in row.values()] for row in rows)]
    room = columns() if on_terminal() else None
    for count in range(len(spare) + 1):
        if _print_if_it_fits(_without(table, spare[:count]), room):
            if count:
                say_folded(f"Left out for want of room: {', '.join(spare[:count])}; --json has all.", "")
            return
    say("\n".join(_stacked(table, room or 0)))


def _print_if_it_fits(table: Table, room: int | None) -> bool:
    """Prints a table if a terminal has the room for it, the last column below the others if need be."""
    if room is None or _least(table) <= room:
        _print_columns(table, room)
    elif len(table[0]) > 2 and _together(_natural(_without(table, table[0][-1:]))) <= room:
        _print_columns(_without(table, table[0][-1:]), room, [line[-1] for line in table])
    else:
        return False
    return True


def _print_columns(table: Table, room: int | None, below: Sequence[str] = ()) -> None:
    """Prints the rows, and below each the text that is `below` it."""
    widths = _fitting(table, room)
    for number, line in enumerate(table):
        lines = _row(line, widths)
        if below:
            lines += [INDENT + text for text in wrapped(below[number], max((room or 0) - len(INDENT), NARROWEST))]
        for text in lines:
            say_parts(Part(text.rstrip(), "" if number else BOLD))


def _row(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The lines of a row: each cell in its column, on as many lines as it takes."""
    cells = [wrapped(text, room) for text, room in zip(line, widths, strict=True)]
    return [
        GAP.join(padded(piece, room) for piece, room in zip(pieces, widths, strict=True))
        for pieces in zip_longest(*cells, fillvalue="")
    ]


def _natural(table: Table) -> list[int]:
    """The columns that each column takes on one line."""
    return [max(map(width, column)) for column in zip(*table, strict=True)]


def _smallest(table: Table) -> list[int]:
    """The columns that each column takes at least: the first has one line, and no word is broken."""
    natural = _natural(table)
    words = [max(map(longest_word, column)) for column in zip(*table, strict=True)]
    return [natural[0], *(max(word, min(NARROWEST, whole)) for word, whole in zip(words[1:], natural[1:], strict=True))]


def _least(table: Table) -> int:
    return _together(_smallest(table))


def _together(widths: Sequence[int]) -> int:
    """The columns of a line of cells that are so wide."""
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _fitting(table: Table, room: int | None) -> list[int]:
    """The widths of the columns in a room that is large enough: the widest ones become narrower."""
    widths, smallest = _natural(table), _smallest(table)
    while room is not None and _together(widths) > room:
        widest = max((place for place in range(len(widths)) if widths[place] > smallest[place]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _without(table: Table, headings: Sequence[str]) -> list[list[str]]:
    kept = [place for place, heading in enumerate(table[0]) if heading not in headings]
    return [[line[place] for place in kept] for line in table]


def _stacked(table: Table, room: int) -> Iterator[str]:
    """Each row as its first cell and, indented below it, the others with their headings; for narrow terminals."""
    headings, *rows = table
    for first, *others in rows:
        known = ((heading, text) for heading, text in zip(headings[1:], others, strict=True) if text not in ("", "-"))
        text = ", ".join(f"{heading} {cell}" for heading, cell in known)
        yield first
        yield from (INDENT + line for line in wrapped(text, max(room - len(INDENT), NARROWEST)))


def print_facts(facts: Mapping[str, str], indent: int) -> None:
    """Lines of a heading and a text, which begins `indent` columns further; on a terminal a long text takes several.

    Words, such as paths and hashes, stay whole. Where the terminal is narrow, texts stand below their headings.
    """
    room = columns() if on_terminal() else None
    below = room is not None and room - indent < 2 * NARROWEST
    for heading, text in facts.items():
        lines = _fact_lines(as_shown(text), len(INDENT) if below else indent, room)
        if below:
            lines.insert(0, as_shown(heading))
        else:
            lines[0] = f"{padded(as_shown(heading), indent - 1)} {lines[0].lstrip()}"
        say("\n".join(line.rstrip() for line in lines))


def _fact_lines(text: str, indent: int, room: int | None) -> list[str]:
    lines = [text] if room is None else wrapped(text, max(room - indent, NARROWEST), cut=False)
    return [" " * indent + line for line in lines]


def say_folded(text: str, indent: str = INDENT) -> None:
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
