"""Entries: one line of a config each, and which of those that match a layer wins (docs/configs.md)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from lrpcli.errors import ConfigError, suggestion
from lrpcli.lrp.operation import Setting
from lrpcli.lrp.rules import KINDS, LINEAR_KINDS, RULES, AnyRule
from lrpcli.lrp.tracing.graph import Layer

TABLES = ("kind", "depth", "position", "name")
"""The tables of a config that hold entries, in the order in which they are read."""
KIND_KEYS = ("any", "linear", *KINDS)
"""The keys of [kind]."""
_RANGE = re.compile(r"(\d+)(?:\.\.(\d+))?")
_SHARES = re.compile(r"(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Entry:
    """One line of a config: where it applies (`table`, `key`), the rule and its parameters."""

    table: str
    key: str
    rule: str
    parameters: tuple[tuple[str, Setting], ...] = ()

    def matches(self, layer: Layer) -> bool:
        """Whether the entry applies to a layer."""
        if self.table == "name":
            return any(fnmatchcase(name, self.key) for name in layer.names)
        if self.table == "position":
            return _at_position(self.key, layer)
        if self.table == "depth":
            return layer.depth is not None and _is_between(layer.depth, *_shares(self.key))
        if self.key == "any":
            return layer.kind in KINDS
        return layer.kind == self.key or (self.key == "linear" and layer.kind in LINEAR_KINDS)

    @property
    def selective(self) -> bool:
        """Whether it stands for those of the matching layers that can have its rule: "any" and patterns do."""
        return self.key == "any" if self.table == "kind" else self.table == "name" and _is_pattern(self.key)

    @property
    def specificity(self) -> tuple[int, float]:
        """Sorts entries: any < linear < kind < depth < range < first, last < pattern < name.

        Of parts and ranges the narrower wins, of patterns the longer.
        """
        if self.table == "override":
            return (9, 0)
        if self.table == "name":
            return (6 if _is_pattern(self.key) else 7, len(self.key))
        if self.table == "position":
            match = _RANGE.fullmatch(self.key)
            return (5, 0) if match is None else (4, -(int(match[2] or match[1]) - int(match[1])))
        if self.table == "depth":
            start, end = _shares(self.key)
            return (3, start - end)
        return ({"any": 0, "linear": 1}.get(self.key, 2), 0)

    @property
    def reason(self) -> str:
        """Why a layer got this rule, for people."""
        if self.table == "override":
            return f"--{self.key}"
        if self.table == "position" and self.key in ("first", "last"):
            return f"it is the {self.key} linear layer"
        return f"{self.table} {self.key!r}"


def best_entry(entries: tuple[Entry, ...], layer: Layer) -> Entry | None:
    """The most specific matching entry, the later of equals; selective ones only where the layer can have the rule."""
    known = RULES[layer.kind]
    fitting = [entry for entry in entries if entry.matches(layer) and (not entry.selective or entry.rule in known)]
    return max(reversed(fitting), key=lambda entry: entry.specificity, default=None)


def parse_entry(table: str, key: str, value: object, title: str) -> Entry:
    """An entry from a rule's name, or a table of `rule` and its parameters; ConfigError says what is wrong."""
    _check_place(table, key, title)
    content = {"rule": value} if isinstance(value, str) else value
    if not isinstance(content, Mapping) or not isinstance(content.get("rule"), str):
        raise ConfigError(
            f"In config {title!r}, the entry {key!r} of [{table}] must be a rule's name, or a table such as "
            '{ rule = "epsilon", epsilon = 0.01 }.'
        )
    name, parameters = content["rule"], {k: v for k, v in content.items() if k != "rule"}
    known = _rules_of(table, key)
    if name not in known:
        raise ConfigError(
            f"Config {title!r} gives {key!r} the unknown rule {name!r}.{suggestion(name, sorted(known))} "
            f"Known there: {', '.join(sorted(known))}."
        )
    check_parameters(known[name], name, parameters, title)  # those of this layer's kind are checked when it is known
    return Entry(table, key, name, tuple(sorted(parameters.items())))


def _check_place(table: str, key: str, title: str) -> None:
    """ConfigError unless the key is one of its table's: a kind, a part such as 0..0.5, or first, last, 3 or 2..4."""
    if table == "kind" and key not in KIND_KEYS:
        raise ConfigError(f"Config {title!r} has a rule for the unknown kind {key!r}.{suggestion(key, KIND_KEYS)}")
    if table == "depth" and not (_SHARES.fullmatch(key) and 0 <= _shares(key)[0] < _shares(key)[1] <= 1):
        raise ConfigError(
            f"In config {title!r}, [depth] has the unknown key {key!r}. It must be a part of the way from the input, "
            "0, to the logits, 1, such as 0..0.5."
        )
    if table != "position" or key in ("first", "last"):
        return
    match = _RANGE.fullmatch(key)
    if match is None or not 1 <= int(match[1]) <= int(match[2] or match[1]):
        raise ConfigError(
            f"In config {title!r}, [position] has the unknown key {key!r}. It must be first, last, the number of a "
            "linear layer (from 1) or a range such as 2..4."
        )


def _rules_of(table: str, key: str) -> dict[str, type[AnyRule]]:
    """The rules that an entry may name; of a name that several kinds have, the first one's."""
    if table in ("position", "depth") or (table == "kind" and key == "linear"):
        kinds: tuple[str, ...] = LINEAR_KINDS
    else:
        kinds = KINDS if table == "name" or key == "any" else (key,)
    return {name: rule for kind in reversed(kinds) for name, rule in RULES[kind].items()}


def check_parameters(rule: type[AnyRule], name: str, given: Mapping[str, Any], title: str, where: str = "") -> None:
    """ConfigError if a config gives a rule a parameter that it does not have, or a value that it cannot be."""
    parameters = rule.parameters()
    check_keys(given, sorted(parameters), title, f"parameter of rule {name!r}{where}")
    for key, value in given.items():
        complaint = parameters[key].complaint(key, value, name)
        if complaint:
            raise ConfigError(f"In config {title!r}, {complaint}")
    exclusive = [key for key in rule.alternatives if key in given]
    if len(exclusive) > 1:
        raise ConfigError(
            f"In config {title!r}, {' and '.join(exclusive)} of rule {name!r} cannot both be given: each stands in "
            "place of the other. Leave one out."
        )


def check_keys(content: Iterable[str], known: Iterable[str], title: str, what: str) -> None:
    """ConfigError if a key is not among the known ones."""
    for key in content:
        if key not in known:
            raise ConfigError(f"Config {title!r} has an unknown {what}, {key!r}.{suggestion(key, known)}")


def _is_pattern(key: str) -> bool:
    return any(mark in key for mark in "*?[")


def _shares(key: str) -> tuple[float, float]:
    """Start and end of a part such as 0..0.5."""
    match = _SHARES.fullmatch(key)
    assert match is not None
    return float(match[1]), float(match[2])


def _is_between(depth: float, start: float, end: float) -> bool:
    return start <= depth < end or (depth == end == 1)


def _at_position(key: str, layer: Layer) -> bool:
    if layer.position is None:
        return False
    if key in ("first", "last"):
        return layer.first if key == "first" else layer.last
    match = _RANGE.fullmatch(key)
    return match is not None and int(match[1]) <= layer.position <= int(match[2] or match[1])
