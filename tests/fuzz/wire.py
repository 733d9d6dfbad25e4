"""Damage to messages of protobuf that keeps the lengths of what holds the damaged field, so that it is reached."""

import random
from collections.abc import Callable

from tests.models.files import varint

NUMBERS = (0, 1, 2, 3, 127, 128, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
Field = tuple[int, int, "int | bytes"]
"""Number, wire type (0 varint, 1 eight bytes, 2 bytes, 5 four bytes) and value."""


def parsed(data: bytes) -> list[Field] | None:
    """The fields of a message; None if the bytes are not one."""
    place, fields = 0, list[Field]()
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(data, place)
            fields.append((tag >> 3, kind, value))
        elif kind in (1, 2, 5):
            length, place = _varint(data, place) if kind == 2 else (8 if kind == 1 else 4, place)
            fields.append((tag >> 3, kind, data[place : place + length]))
            place += length
        if kind not in (0, 1, 2, 5) or tag >> 3 == 0 or place > len(data):
            return None
    return fields


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number and where the next begins; beyond the end of the data if it is cut off."""
    value = shift = 0
    while place < len(data) and shift < 70:
        value |= (data[place] & 127) << shift
        shift, place = shift + 7, place + 1
        if data[place - 1] < 128:
            return value, place
    return value, len(data) + 1


def serialised(fields: list[Field]) -> bytes:
    """What `parsed` took apart."""
    parts = []
    for number, kind, value in fields:
        parts.append(varint(number << 3 | kind))
        parts.append(varint(value) if isinstance(value, int) else (varint(len(value)) if kind == 2 else b"") + value)
    return b"".join(parts)


def damaged(chance: random.Random, data: bytes, other: bytes, more: Callable[[bytes], bytes]) -> bytes:
    """A message with one change to a field at any depth; `more` damages bytes. The data if it is none."""
    fields = parsed(data)
    if not fields:
        return data
    place = chance.randrange(len(fields))
    number, kind, value = fields[place]
    if kind == 2 and isinstance(value, bytes) and parsed(value) and chance.random() < 0.8:
        fields[place] = (number, kind, damaged(chance, value, other, more))
        return serialised(fields)
    sort = chance.randrange(6)
    if sort == 0:
        del fields[place]
    elif sort == 1:
        fields[place:place] = [fields[place]] * chance.choice([1, 1, 2, 30])
    elif sort == 2:
        fields.insert(chance.randrange(len(fields) + 1), fields.pop(place))
    elif sort == 3:
        donors = parsed(other) or fields
        fields.insert(place, chance.choice(donors))
    else:
        fields[place] = (number, kind, _value(chance, value, more))
    return serialised(fields)


def _value(chance: random.Random, value: int | bytes, more: Callable[[bytes], bytes]) -> int | bytes:
    if isinstance(value, int):
        return chance.choice([*NUMBERS, max(0, value - 1), value + 1, value * 2]) % 2**64
    if len(value) in (4, 8) and chance.random() < 0.3:
        return chance.choice([b"\0", b"\xff", b"\x7f"]) * len(value)
    return more(value) if value else b"x"
