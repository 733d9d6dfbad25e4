"""Text in the columns of a terminal: how many it takes, padded, shortened and wrapped to so many."""

import re
from collections.abc import Iterator

NOTHING = ("Mn", "Me", "Cf")
"""Categories of characters that take no column: accents, joiners."""
SOFT_HYPHEN = "\u00ad"
JAMO = range(0x1160, 0x1200)
"""Vowels and finals of Hangul, which are drawn into the syllable before them."""
DOTS = "..."
_WORDS = re.compile(r"\s+|-*(?:[^\s-]|-+(?![^\W\d_-]))+-*|-+")
"""Spaces, and what stands between them, up to a hyphen that has a letter behind it."""
_WHOLE = re.compile(r"\s+|\S+")


def width(text: str) -> int:
    """The columns that a line of text takes: two for each wide character, none for an accent of its own.

    >>> from lrpcli.cli.columns import width
    >>> width("cat"), width("\u732b"), width("e\u0301")
    (3, 2, 1)
    """
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(character: str) -> int:
    if character.isascii() or character == SOFT_HYPHEN:
        return 1
    import unicodedata  # here, as it is large, and most text is ASCII

    if unicodedata.category(character) in NOTHING or ord(character) in JAMO:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def padded(text: str, room: int, *, right: bool = False) -> str:
    """A text filled up with spaces to so many columns, in front of it with `right`."""
    spaces = " " * (room - width(text))
    return spaces + text if right else text + spaces


def shortened(text: str, room: int) -> str:
    """A text of at most so many columns, with three dots for what was left out at its end."""
    if width(text) <= room:
        return text
    return _beginning(text, max(room - len(DOTS), 0)) + DOTS[: max(room, 0)]


def _beginning(text: str, room: int) -> str:
    taken = 0
    for place, character in enumerate(text):
        taken += _cells(character)
        if taken > room:
            return text[:place]
    return text


def longest_word(text: str) -> int:
    """Columns of the longest part that `wrapped` would rather not break."""
    return max((width(word) for word in _WORDS.findall(text)), default=0)


def wrapped(text: str, room: int, *, cut: bool = True) -> list[str]:
    """The lines of a text in so many columns, broken at spaces and between a hyphen and a letter; at least one.

    A longer word is broken too; with `cut` off words stay whole, on a longer line if need be, so that they can be
    copied.
    """
    lines = [""]
    for word in (_WORDS if cut else _WHOLE).findall(text):
        for piece in _pieces(word, room) if cut else [word]:
            if lines[-1] and width(lines[-1]) + width(piece.rstrip()) > room:
                lines[-1] = lines[-1].rstrip()
                lines.append("")
            lines[-1] += piece if lines[-1] or not piece.isspace() else ""
    lines[-1] = lines[-1].rstrip()
    return lines if lines[-1] or len(lines) == 1 else lines[:-1]


def _pieces(word: str, room: int) -> Iterator[str]:
    while width(word) > room and len(_beginning(word, room)) > 0 and not word.isspace():
        piece = _beginning(word, room)
        yield piece
        word = word[len(piece) :]
    yield word
