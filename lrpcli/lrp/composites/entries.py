"""Which entry of a config applies to a layer: the most specific that matches."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from lrpcli.errors import ConfigError
from lrpcli.lrp.tracing.graph import Layer

_RANGE = re.compile(r"(\d+)(?:\.\.(\d+))?")
_LINEAR = ("convolution", "fully-connected")


@dataclass(frozen=True)
class Entry:
    """One line of a config: where it applies (`table`, `key`), the rule and its parameters."""

    table: str
    key: str
    rule: str
    parameters: tuple[tuple[str, Any], ...] = ()

    def matches(self, layer: Layer) -> bool:
        """Whether the entry applies to a layer."""
        if self.table == "name":
            return any(fnmatchcase(name, self.key) for name in layer.names)
        if self.table == "position":
            return _at_position(self.key, layer)
        if self.key == "any":
            return layer.kind != "scalar"
        return layer.kind == self.key or (self.key == "linear" and layer.kind in _LINEAR)

    @property
    def selective(self) -> bool:
        """Whether it stands for those of the matching layers that can have its rule: "any" and patterns do."""
        return self.key == "any" if self.table == "kind" else self.table == "name" and _is_pattern(self.key)

    @property
    def specificity(self) -> tuple[int, int]:
        """Sorts entries: any < linear < kind < range (narrow wins) < first, last < pattern (long wins) < name."""
        if self.table == "override":
            return (9, 0)
        if self.table == "name":
            return (5 if _is_pattern(self.key) else 6, len(self.key))
        if self.table == "position":
            match = _RANGE.fullmatch(self.key)
            return (4, 0) if match is None else (3, -(int(match[2] or match[1]) - int(match[1])))
        return ({"any": 0, "linear": 1}.get(self.key, 2), 0)

    @property
    def reason(self) -> str:
        """Why a layer got this rule, for people."""
        if self.table == "override":
            return f"--{self.key}"
        if self.table == "position" and self.key in ("first", "last"):
            return f"it is the {self.key} linear layer"
        return f"{self.table} {self.key!r}"


def best_entry(entries: tuple[Entry, ...], layer: Layer, available: set[str]) -> Entry | None:
    """The most specific matching entry, the later of equals; selective ones need their rule among the `available`."""
    fitting = [entry for entry in entries if entry.matches(layer) and (not entry.selective or entry.rule in available)]
    return max(reversed(fitting), key=lambda entry: entry.specificity, default=None)


def check_position(key: str, title: str) -> None:
    """ConfigError unless `key` is first, last, a number or a range such as 2..4."""
    match = _RANGE.fullmatch(key)
    if key in ("first", "last") or (match and 1 <= int(match[1]) <= int(match[2] or match[1])):
        return
    raise ConfigError(
        f"In config {title!r}, [position] has the unknown key {key!r}. It must be first, last, the number of a linear "
        "layer (from 1) or a range such as 2..4."
    )


def _is_pattern(key: str) -> bool:
    return any(mark in key for mark in "*?[")


def _at_position(key: str, layer: Layer) -> bool:
    if layer.position is None:
        return False
    if key in ("first", "last"):
        return layer.first if key == "first" else layer.last
    match = _RANGE.fullmatch(key)
    return match is not None and int(match[1]) <= layer.position <= int(match[2] or match[1])
