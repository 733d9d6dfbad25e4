"""Tables on stdout, for people or as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from lrpcli.cli.terminal import say, say_json
from lrpcli.records.text import one_line


def print_table(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Rows of the same keys as a table with a heading, or as a JSON list."""
    if as_json:
        say_json(rows, indent=2)
        return
    if not rows:
        return
    table = [list(rows[0]), *([one_line(cell_text(value)) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        say("  ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


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
