"""What the best candidate gains over the default on images that the search never saw."""

import math
from dataclasses import dataclass

import numpy as np

from lrpcli.evaluation.summary import paired_intervals
from lrpcli.tuning.budget import Budget, OutOfTime
from lrpcli.tuning.candidates import Candidate
from lrpcli.tuning.guards import Scores
from lrpcli.tuning.halving import Round
from lrpcli.tuning.measuring import Bench

AT_ONCE = 4
"""Images that are measured between two looks at what there is time for; so many are measured at least."""


@dataclass(frozen=True)
class Gain:
    """The mean ABPC of a candidate less that of the default, image by image, over so many images.

    `low` and `high` are the ends of its 95 % interval, None for fewer than 20 images.
    """

    mean: float
    low: float | None
    high: float | None
    images: int

    @property
    def may_be_chance(self) -> bool | None:
        """Whether the interval holds 0; None where there is none."""
        return None if self.low is None or self.high is None else self.low <= 0 <= self.high


@dataclass(frozen=True)
class HeldOut:
    """The held-out check of the best candidate and the default on the same images, of which there are `available`.

    `gain` is None where no image has sound maps of both.
    """

    best: Scores
    default: Scores
    gain: Gain | None
    available: int

    @property
    def confirmed(self) -> bool:
        """Whether the best candidate is ahead of the default here too: guards first, then ABPC."""
        return self.best.key < self.default.key


def check(bench: Bench, best: Candidate, default: Candidate, budget: Budget, seed: int) -> HeldOut:
    """Measures both in full on the bench's images, on as many as there is time for."""
    available, steps = len(bench.photos), bench.evaluator.steps
    found: tuple[Scores, Scores] | None = None
    budget.lift()
    for images in range(min(AT_ONCE, available), available + AT_ONCE, AT_ONCE):
        round = Round(1, min(images, available), steps)
        try:
            budget.check()
            found = bench(best, round), bench(default, round)
        except OutOfTime:
            break
        budget.limit(budget.end)
    assert found is not None
    return HeldOut(*found, gain_of(*found, seed), available)


def gain_of(best: Scores, default: Scores, seed: int) -> Gain | None:
    """The paired difference of their ABPC, as lrp evaluate computes it; None where no image has both."""
    assert best.curves is not None and default.curves is not None
    differences = best.curves.abpc - default.curves.abpc
    known = differences[np.isfinite(differences)]
    if len(known) == 0:
        return None
    low, high = (float(ends[0]) for ends in paired_intervals(differences[:, None], seed))
    mean = float(known.mean())
    return Gain(mean, None, None, len(known)) if math.isnan(low) else Gain(mean, low, high, len(known))
