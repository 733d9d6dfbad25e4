"""Damage to text that leaves it made of words, numbers and strings, so that most of it still means something."""

import random
import re

TOKEN = re.compile(rb'"(?:[^"\\\n]|\\.)*"|[-+]?\d[\d.eE+-]*|\w+|\s+|.', re.DOTALL)
NUMBERS = (b"0", b"1", b"2", b"-1", b"0.5", b"1e30", b"-3.5", b"100000", b"4294967296", b"1e400", b"nan")


def damaged(chance: random.Random, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    """A text with one token, or one line, changed; new ones come from the text, another one, or `words`."""
    if chance.random() < 0.3:
        return _lines(chance, data, other)
    tokens = TOKEN.findall(data)
    places = [place for place, token in enumerate(tokens) if not token.isspace()]
    if not places:
        return data
    place = chance.choice(places)
    sort = chance.randrange(5)
    if sort == 0:
        del tokens[place]
    elif sort == 1:
        tokens.insert(place, chance.choice(words))
    else:
        tokens[place] = _another(chance, tokens[place], tokens + TOKEN.findall(other), words)
    return b"".join(tokens)


def _another(chance: random.Random, token: bytes, known: list[bytes], words: tuple[bytes, ...]) -> bytes:
    """A token of the same sort."""
    alike = [one for one in known if one != token and one[:1].isdigit() == token[:1].isdigit()
             and one[:1].isalpha() == token[:1].isalpha() and (one[:1] == b'"') == (token[:1] == b'"')]  # fmt: skip
    if token[:1].isdigit() and chance.random() < 0.5:
        return chance.choice(NUMBERS)
    return chance.choice(alike) if alike and chance.random() < 0.8 else chance.choice(words)


def _lines(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """One line is left out, written twice or elsewhere, or one of another text is put in."""
    lines, others = data.splitlines(keepends=True), other.splitlines(keepends=True)
    if not lines or not others:
        return data
    place, sort = chance.randrange(len(lines)), chance.randrange(4)
    if sort == 0:
        del lines[place]
    elif sort == 1:
        lines.insert(place, lines[place])
    elif sort == 2:
        lines.insert(chance.randrange(len(lines)), lines.pop(place))
    else:
        lines.insert(place, chance.choice(others))
    return b"".join(lines)


def damaged_header(chance: random.Random, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    """The JSON of a safetensors file damaged, and its length set right."""
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= len(data) - 8:
        return data
    length_there = min(int.from_bytes(other[:8], "little"), len(other))
    header = damaged(chance, data[8 : 8 + length], other[8 : 8 + length_there] or b"{}", words)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]
