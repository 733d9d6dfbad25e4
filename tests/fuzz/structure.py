"""Damage that leaves the structure of a file as it is: that of messages, of text, of a header with its length."""

import random
from collections.abc import Callable

from tests.fuzz import tokens, wire
from tests.fuzz.dictionary import words

MESSAGES = ("caffemodel", "onnx", "mean")
"""Targets whose files are messages of protobuf."""
BINARY = ("hdf5", "mask", "state dict", "pt2")
"""Targets of whose structure nothing is known here."""


def damaged(
    name: str, chance: random.Random, data: bytes, other: bytes, more: Callable[[bytes], bytes]
) -> bytes | None:
    """A file of the target with one change to its content, `more` damages bytes; None where no structure is known."""
    if name in BINARY or not data:
        return None
    if name in MESSAGES:
        return wire.damaged(chance, data, other, more)
    change = tokens.damaged_header if name == "safetensors" else tokens.damaged
    return change(chance, data, other, words(name))
