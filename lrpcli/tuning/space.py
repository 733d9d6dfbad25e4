"""The space that is searched, as data: which rules a candidate has in which part of a net, and from what it starts."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product

from lrpcli.lrp.composites.composite import Composite, parse_composite

SPLITS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Share of the way from the input up to which the lower rule holds: at 0 nowhere, at 1 everywhere."""
LOWER: dict[str, dict[str, str | float]] = {
    "epsilon 0.01": {"rule": "epsilon", "relative": 0.01},
    "epsilon 0.25": {"rule": "epsilon", "relative": 0.25},
    "gamma 0.1": {"rule": "gamma", "gamma": 0.1},
    "gamma 0.25": {"rule": "gamma", "gamma": 0.25},
    "gamma 1": {"rule": "gamma", "gamma": 1.0},
    "beta 0": {"rule": "alpha-beta", "beta": 0.0},
    "beta 1": {"rule": "alpha-beta", "beta": 1.0},
}
"""The rules of the lower part; those called epsilon are relative."""
WORDS = {"epsilon": "Relative epsilon", "gamma": "Gamma", "beta": "Alpha-beta with beta"}
UPPER = (0.001, 0.01, 0.1, 0.3, 1.0)
"""The relative epsilon of the upper part."""
LAST = 0.01
"""The most that it is in the last layer, where a larger one would scale the map and do no more."""
SAME = "same"
FIRST = (SAME, "z-box", "flat", "w-square")
"""The rule of the first layers; the first of these leaves them that of their part."""
LRN = ("taylor", "identity")
STARTS = ("logit", "one", "softmax-gradient", "contrastive", "contrastive-positive")
"""Starts whose maps differ by more than a positive factor: `probability` is left out, whose maps are those of `one`."""
SINGLE = ("logit", "one")
"""Those that differ where a class has no others to compare it to: a single output, or sigmoids."""


@dataclass(frozen=True)
class Point:
    """One place in the space; `lower` is a key of LOWER, `lrn` None for a net without LRN.

    `lower` is None at the split 0, `epsilon` at the split 1, where they have no layer.
    """

    split: float
    lower: str | None
    epsilon: float | None
    first: str
    lrn: str | None
    start: str


@dataclass(frozen=True)
class Limits:
    """What of the space suits a net: the starts, and whether it has LRN."""

    lrn: bool
    starts: tuple[str, ...]


def limits_of(*, lrn: bool, classes: int, head: str, negative: bool) -> Limits:
    """The limits for a net with so many outputs and that head, see targets.HEADS.

    `negative`: whether any image's predicted class has a negative logit. Where none has, the start `one` gives the maps
    of `logit` but for a positive factor, and is left out; where one has, `logit` turns its map round.
    """
    starts = STARTS if head == "softmax" and classes > 1 else SINGLE
    return Limits(lrn, tuple(start for start in starts if start != "one" or negative))


def size(limits: Limits) -> int:
    """How many points there are."""
    return sum(1 for _ in points(limits))


def points(limits: Limits) -> Iterator[Point]:
    """Every point once, in a fixed order."""
    parts: list[tuple[float, str | None, float | None]] = [(0.0, None, epsilon) for epsilon in UPPER]
    parts += list(product(SPLITS[1:-1], LOWER, UPPER))
    parts += [(1.0, lower, None) for lower in LOWER]
    lrn: Sequence[str | None] = LRN if limits.lrn else (None,)
    for (split, lower, epsilon), first, rule, start in product(parts, FIRST, lrn, limits.starts):
        yield Point(split, lower, epsilon, first, rule, start)


def drawn(limits: Limits, seed: int) -> list[Point]:
    """All points in a random order, the same for the same seed."""
    found = list(points(limits))
    random.Random(f"space {seed}").shuffle(found)
    return found


def composite_at(point: Point, title: str) -> Composite:
    """The config of a point.

    >>> from lrpcli.tuning.space import Point, composite_at
    >>> point = Point(0.5, "gamma 0.25", 0.1, "flat", "taylor", "logit")
    >>> [f"{entry.key}: {entry.rule}" for entry in composite_at(point, "mine").entries]
    ['linear: epsilon', 'lrn: taylor', '0..0.5: gamma', 'last: epsilon', 'first: flat']
    """
    kind: dict[str, object] = {}
    depth: dict[str, object] = {}
    position: dict[str, object] = {}
    if point.epsilon is None:
        kind["linear"] = _lower(point)
    else:
        kind["linear"] = {"rule": "epsilon", "relative": point.epsilon}
        position["last"] = {"rule": "epsilon", "relative": min(point.epsilon, LAST)}
        if point.lower is not None:
            depth[f"0..{point.split:g}"] = _lower(point)
    if point.lrn is not None:
        kind["lrn"] = point.lrn
    if point.first != SAME:
        position["first"] = point.first
    words = {"description": in_words(point), "start": point.start}
    return parse_composite({**words, "kind": kind, "depth": depth, "position": position}, title)


def _lower(point: Point) -> dict[str, str | float]:
    assert point.lower is not None
    return LOWER[point.lower]


def in_words(point: Point) -> str:
    """What a point is, as a sentence."""
    if point.lower is None:
        parts = [f"Relative epsilon {point.epsilon:g} in every layer"]
    elif point.epsilon is None:
        parts = [f"{_rule_in_words(point.lower)} in every layer"]
    else:
        parts = [
            f"{_rule_in_words(point.lower)} up to {point.split:g} of the way from the input",
            f"relative epsilon {point.epsilon:g} above",
        ]
    parts += [f"{point.first} in the first layer"] if point.first != SAME else []
    parts += [f"LRN {point.lrn}"] if point.lrn is not None else []
    return f"{', '.join(parts)}; start {point.start}."


def _rule_in_words(lower: str) -> str:
    name, _, number = lower.partition(" ")
    return f"{WORDS[name]} {number}"


def space_as_json(limits: Limits) -> dict[str, object]:
    """The space with its size, for tune.json."""
    return {
        "split": list(SPLITS), "lower": dict(LOWER), "epsilon": list(UPPER), "epsilon_of_last_layer_at_most": LAST,
        "first": list(FIRST), "lrn": list(LRN) if limits.lrn else [], "start": list(limits.starts),
        "size": size(limits),
    }  # fmt: skip


def point_as_json(point: Point) -> dict[str, str | float | None]:
    """A point by the names of its fields."""
    return asdict(point)
