"""Successive halving: many candidates on few images, then fewer on more (Jamieson and Talwalkar 2016).

It knows nothing of nets: `measure` says what a candidate is worth, `Budget` how long it may take.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from lrpcli.tuning.budget import Budget, OutOfTime

SHRINK = (1, 3, 6, 24)
"""So many times fewer candidates than there are go into each round, at least."""
LAST_CANDIDATES = 3
"""At least so many are compared in every round, where there are as many."""
FIRST_IMAGES, SECOND_IMAGES = 8, 16
"""Images of the first two rounds and of the third."""
COARSE, FINE = 10, 20
"""Steps of the second and third round."""
MAPS = 4
"""What the maps of a candidate cost for an image, in passes through the net."""

C = TypeVar("C")


@dataclass(frozen=True)
class Round:
    """At least so many candidates beside the first one, each on so many images; without `steps` the maps alone."""

    candidates: int
    images: int
    steps: int

    @property
    def cost(self) -> int:
        """About how many passes through the net a candidate takes."""
        return self.images * (MAPS + 2 * self.steps)


class Worth(Protocol):
    """What was measured of a candidate: the smaller key is better; `ranked`: whether that compares maps by ABPC."""

    @property
    def key(self) -> tuple[float, ...]:
        """What candidates are sorted by."""

    @property
    def ranked(self) -> bool:
        """Whether there was more to measure than guards."""


W = TypeVar("W", bound=Worth)
Measure = Callable[[C, Round], W]
"""Measures a candidate on the images of a round; OutOfTime gives the round up."""


@dataclass(frozen=True)
class Measured(Generic[C, W]):
    """What a round found: `scores` in the order of measuring. `planned` is the round as it was meant to be."""

    planned: Round
    round: Round
    scores: tuple[tuple[C, W], ...]

    @property
    def ranking(self) -> list[C]:
        """The candidates that were measured, best first; of equals the one that was measured first."""
        return [candidate for candidate, _ in sorted(self.scores, key=lambda pair: pair[1].key)]

    @property
    def compares(self) -> bool:
        """Whether the first candidate and another were measured by more than guards."""
        return len(self.scores) > 1 and self.scores[0][1].ranked


def plan_rounds(candidates: int, images: int, steps: int) -> tuple[Round, ...]:
    """The rounds for so many candidates beside the first one, search images, and steps of the full measure.

    >>> from lrpcli.tuning.halving import plan_rounds
    >>> [(round.candidates, round.images, round.steps) for round in plan_rounds(144, 50, 100)]
    [(144, 8, 0), (48, 8, 10), (24, 16, 20), (6, 50, 100)]
    """
    sizes = [(FIRST_IMAGES, 0), (FIRST_IMAGES, COARSE), (SECOND_IMAGES, FINE), (images, steps)]
    counts = (min(candidates, max(LAST_CANDIDATES, -(-candidates // shrink))) for shrink in SHRINK)
    return tuple(
        Round(count, min(most, images), whole_steps(recorded, steps))
        for count, (most, recorded) in zip(counts, sizes, strict=True)
    )


def whole_steps(wanted: int, steps: int) -> int:
    """About `wanted` steps such that each is as many of the `steps`, whole."""
    return steps // max(1, steps // wanted) if wanted else 0


def halve(
    first: C, others: Sequence[C], rounds: Sequence[Round], measure: Measure[C, W], budget: Budget, end: float
) -> list[Measured[C, W]]:
    """What each round found. `first` is measured in every round, before the others; those go on by their ranking.

    All that are as good as the best go on, however many: after a round of guards these are all that pass.
    Each round has its share of the time up to `end`, by the budget's clock: first its images are made fewer, then its
    candidates, the worse ones of the round before first. A round that has no time for two is not begun, and the search
    ends.
    """
    found: list[Measured[C, W]] = []
    going = list(others)
    rate: float | None = None
    for number, least in enumerate(rounds):
        if number > 0:
            going = _going_on(found[-1], first, least.candidates)
        planned = replace(least, candidates=len(going))
        started = budget.clock()
        budget.limit(started + (end - started) / (len(rounds) - number))
        fitted = _fitted(planned, found, rate, budget.left)
        if rate is not None and budget.left < 2 * rate * fitted.cost:
            break
        found.append(Measured(planned, fitted, _measured([first, *going], fitted, measure, budget)))
        count = len(found[-1].scores)
        if count < 2:
            break
        rate = (budget.clock() - started) / (count * fitted.cost)
    return found


def _measured(candidates: Sequence[C], round: Round, measure: Measure[C, W], budget: Budget) -> tuple[tuple[C, W], ...]:
    """Those candidates that there was time for, in their order, with what they are worth."""
    scores: list[tuple[C, W]] = []
    with suppress(OutOfTime):
        for candidate in candidates:
            budget.check()
            scores.append((candidate, measure(candidate, round)))
    return tuple(scores)


def _going_on(measured: Measured[C, W], first: C, count: int) -> list[C]:
    """The best `count` candidates of a round, and those beyond that are as good as the best; without the first one."""
    scores = sorted(((candidate, worth) for candidate, worth in measured.scores if candidate is not first),
                    key=lambda pair: pair[1].key)  # fmt: skip
    equal = sum(worth.key == scores[0][1].key for _, worth in scores)
    return [candidate for candidate, _ in scores[: max(count, equal)]]


def _fitted(planned: Round, before: Sequence[Measured[C, W]], rate: float | None, seconds: float) -> Round:
    """The round on as many images as there is time for, no fewer than the round before had."""
    if rate is None or rate <= 0:
        return planned
    least = min(before[-1].round.images, planned.images)
    each = rate * (planned.candidates + 1) * replace(planned, images=1).cost
    return replace(planned, images=max(least, min(planned.images, int(seconds / each))))


def best_of(found: Sequence[Measured[C, W]], first: C) -> C:
    """The best candidate by the last round that compares, or the first one where none does."""
    comparing = [measured for measured in found if measured.compares]
    return comparing[-1].ranking[0] if comparing else first
