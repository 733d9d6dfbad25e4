"""The ways in which maps are made, one for every combination of what is named. Imports nothing heavy."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import PurePath
from typing import TypeVar

T = TypeVar("T")
MOST = 8
"""Maps beside a photo: a page with more is wider than any screen or paper."""
IN_WORDS = {"top": "predicted class", "from-folder": "class of the folder"}


@dataclass(frozen=True)
class Variant:
    """One way to make maps: the number of the model, and the rest as options have it, None for the config's own.

    `name` says in what it differs from the others.
    """

    model: int
    config: str
    lrn: str | None
    start: str | None
    target: str | None
    name: str


def variants_of(
    models: Sequence[str], configs: Sequence[str], lrn: Sequence[str], starts: Sequence[str], targets: Sequence[str]
) -> tuple[Variant, ...]:
    """Every combination, models first.

    >>> from lrpcli.compare.variants import variants_of
    >>> [variant.name for variant in variants_of(["cifar10"], ["epsilon", "composite"], ["identity"], [], ["cat", "3"])]
    ['epsilon, cat', 'epsilon, class 3', 'composite, cat', 'composite, class 3']
    """
    parts = product(
        _named(range(len(models)), _short(models)),
        _named(configs, _short(configs)),
        _named(lrn or (None,), [f"LRN {rule}" for rule in lrn]),
        _named(starts or (None,), [f"start {start}" for start in starts]),
        _named(targets or (None,), [_target_in_words(target) for target in targets]),
    )
    return tuple(
        Variant(model, config, rule, start, target, ", ".join(filter(None, (m, c, r, s, t))))
        for (model, m), (config, c), (rule, r), (start, s), (target, t) in parts
    )


def _named(values: Sequence[T], names: Sequence[str]) -> list[tuple[T, str]]:
    """Each value with its name, and without one where it is the only one."""
    return list(zip(values, names if len(values) > 1 else [""], strict=True))


def _short(names: Sequence[str]) -> list[str]:
    """Names of files without their folders, as long as that tells them apart."""
    short = [PurePath(name).name or name for name in names]
    return short if len(set(short)) == len(short) else list(names)


def _target_in_words(target: str) -> str:
    """Nothing for the best classes: each of them has a name of its own."""
    if _classes(target) > 1:
        return ""
    return IN_WORDS.get(target) or (f"class {target}" if target.isdecimal() else target)


def count_maps(variants: Sequence[Variant]) -> int:
    """How many maps an image gets, where no config asks for several by itself."""
    return sum(_classes(variant.target) for variant in variants)


def _classes(target: str | None) -> int:
    found = re.fullmatch(r"top(\d{1,6})", target or "")
    return int(found[1]) if found else 1
