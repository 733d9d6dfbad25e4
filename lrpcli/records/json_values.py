"""JSON values of records: lines, paths of any bytes, and reading what a file says without believing it."""

import base64
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from lrpcli.records.text import json_text

T = TypeVar("T")
JsonObject = Mapping[str, object]
"""An object as json.loads gives it: nothing about its values is known yet."""


def json_line(values: JsonObject) -> str:
    """An object as one line of JSON without the line's end; control characters are escaped."""
    return json_text(json.dumps(values, ensure_ascii=False, separators=(", ", ": ")))


def json_path(path: str) -> str | dict[str, str]:
    """A path for JSON: itself, or {"bytes": base64} where its bytes are not UTF-8."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return {"bytes": base64.b64encode(os.fsencode(path)).decode("ascii")}
    return path


def path_from_json(value: object) -> str:
    """The path that json_path wrote; ValueError for anything else."""
    if isinstance(value, str):
        if not value.isascii():
            os.fsencode(value)  # a surrogate that stands for no byte is a ValueError
        return value
    if isinstance(value, dict) and isinstance(value.get("bytes"), str):
        return os.fsdecode(base64.b64decode(value["bytes"], validate=True))
    raise ValueError(f"{value!r} is not a path")


@dataclass(frozen=True)
class Fields:
    """The fields of a JSON object, each read as the type that is expected. ValueError for a field of another type."""

    values: JsonObject

    def get(self, key: str) -> object:
        """A field, None if it is absent."""
        return self.values.get(key)

    def text(self, key: str) -> str:
        """A text; it has no surrogates but those that stand for bytes."""
        return as_text(self.get(key), key)

    def whole(self, key: str) -> int:
        """A whole number."""
        return as_whole(self.get(key), key)

    def number(self, key: str) -> float:
        """A finite number."""
        return as_number(self.get(key), key)

    def path(self, key: str) -> str:
        """A path as json_path writes it."""
        return path_from_json(self.get(key))

    def inner(self, key: str) -> "Fields":
        """An object of its own."""
        return Fields(self._checked(key, dict))

    def items(self, key: str) -> list[object]:
        """A list."""
        return self._checked(key, list)

    def objects(self, key: str) -> "Iterator[Fields]":
        """A list of objects."""
        return (as_fields(item, key) for item in self.items(key))

    def _checked(self, key: str, kind: type[T]) -> T:
        value = self.get(key)
        if not isinstance(value, kind):
            raise ValueError(f"{key!r} is not a {kind.__name__}")
        return value


def as_fields(value: object, what: str = "it") -> Fields:
    """The fields of an object; ValueError if it is none."""
    if not isinstance(value, dict):
        raise ValueError(f"{what!r} is not an object")
    return Fields(value)


def as_number(value: object, what: str = "it") -> float:
    """A finite number; ValueError if it is none."""
    if type(value) is float and value - value == 0:  # the usual case, and a journal holds millions
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > sys.float_info.max:
        raise ValueError(f"{what!r} is not a finite number")
    if math.isnan(value):
        raise ValueError(f"{what!r} is not a number")
    return float(value)


def as_text(value: object, what: str = "it") -> str:
    """A text without surrogates but those that stand for bytes; ValueError if it is none."""
    if not isinstance(value, str):
        raise ValueError(f"{what!r} is not a text")
    if not value.isascii():
        value.encode("utf-8", "surrogateescape")
    return value


def as_share(value: object, what: str = "it") -> float:
    """A number from 0 to 1, up to rounding; ValueError if it is none."""
    share = as_number(value, what)
    if not 0 <= share <= 1 + 1e-6:
        raise ValueError(f"{what!r} is not from 0 to 1")
    return share


def as_whole(value: object, what: str = "it") -> int:
    """A whole number; ValueError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{what!r} is not a whole number")
    return value
