"""Text that may come from anywhere, made harmless for a terminal and for a spreadsheet."""

import re

# C0 but tab and line feed, DEL, C1 (a terminal takes U+009B for the start of a command), and what turns text round.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What the cells begin with that spreadsheets compute."""


def printable(text: str) -> str:
    """The text with control characters, and bytes that were no text, as escapes; tabs and line feeds stay."""
    return _CONTROL.sub(_escaped, text)


def one_line(text: str) -> str:
    r"""Like printable, with tabs and line feeds as escapes too: a name cannot pass itself off as lines of its own.

    >>> from lrpcli.records.text import one_line
    >>> print(one_line("a.png\nError: \x1b[2Jb"))
    a.png\nError: \x1b[2Jb
    """
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def json_text(text: str) -> str:
    """JSON with its remaining control characters as JSON escapes, which mean the same."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def for_spreadsheets(text: str) -> str:
    """A text for a cell of a table, with an apostrophe before one that a spreadsheet would take for a formula.

    >>> from lrpcli.records.text import for_spreadsheets
    >>> for_spreadsheets("tabby"), for_spreadsheets("=1+1")
    ('tabby', "'=1+1")
    """
    return f"'{text}" if text.startswith(FORMULAS) else text


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
