"""Successive halving by a fake measure: the best survives, guards come first, and the clock ends any round."""

from dataclasses import dataclass
from itertools import pairwise

import pytest

from lrpcli.tuning.budget import Budget, OutOfTime
from lrpcli.tuning.halving import Round, best_of, halve, plan_rounds, whole_steps

FIRST, BEST = 0, 37
ROUNDS = plan_rounds(60, 40, 100)


@dataclass(frozen=True)
class Worth:
    failed: int
    abpc: float | None

    @property
    def key(self):
        return (self.failed, 0 if self.abpc is None else -self.abpc)

    @property
    def ranked(self):
        return self.abpc is not None


class Bench:
    """Candidates are numbers, worth `abpc` of them; each pass through the net takes a second of the fake clock."""

    def __init__(self, abpc, failed=lambda candidate: 0, seconds=1e9):
        self.abpc, self.failed, self.now, self.measured = abpc, failed, 0.0, []
        self.budget = Budget(seconds, lambda: self.now)

    def __call__(self, candidate, round):
        self.now += round.cost
        self.budget.check()
        self.measured.append((candidate, round))
        return Worth(self.failed(candidate), self.abpc(candidate) if round.steps else None)

    def halve(self, rounds=ROUNDS):
        return halve(FIRST, list(range(1, 61)), rounds, self, self.budget, self.budget.end)


def closeness(candidate):
    """How good a candidate is: BEST is the best."""
    return -abs(candidate - BEST)


def test_the_best_survives():
    bench = Bench(lambda candidate: 1 if candidate == BEST else closeness(candidate), lambda candidate: candidate > 45)
    found = bench.halve()
    assert best_of(found, FIRST) == BEST
    assert [len(measured.scores) for measured in found] == [61, 46, 11, 4]  # 45 of 60 pass the guards
    assert [(measured.round.images, measured.round.steps) for measured in found] == [
        (8, 0),
        (8, 10),
        (16, 20),
        (40, 100),
    ]


def test_what_goes_on_is_the_ranking_of_the_round_before():
    found = Bench(closeness, lambda candidate: candidate > 4).halve()
    assert [candidate for candidate, _ in found[1].scores] == list(range(21))  # the guards alone: in the order drawn
    assert [candidate for candidate, _ in found[2].scores] == [FIRST, 4, 3, 2, 1, 20, 19, 18, 17, 16, 15]
    assert [candidate for candidate, _ in found[3].scores] == [FIRST, 4, 3, 2]
    assert best_of(found, FIRST) == 4


def test_guards_come_before_abpc():
    bench = Bench(lambda candidate: candidate, lambda candidate: 0 if candidate == 5 else 1 + candidate % 2)
    found = bench.halve()
    assert best_of(found, FIRST) == 5
    assert all(found_round.ranking[0] == 5 for found_round in found)
    odd = [candidate for candidate, _ in found[1].scores if candidate % 2 and candidate != 5]
    assert not odd  # those that fail two guards go first


def test_where_no_candidate_passes_all_guards_those_that_pass_most_are_ranked():
    bench = Bench(lambda candidate: candidate, lambda candidate: 1 if candidate in (10, 12) else 2)
    assert best_of(bench.halve(), FIRST) == 12


def test_the_first_candidate_is_in_every_round_and_wins_ties():
    found = Bench(lambda candidate: 1 - candidate % 2).halve()
    assert all(measured.scores[0][0] == FIRST for measured in found)
    assert best_of(found, FIRST) == FIRST


@pytest.mark.parametrize("number", range(4))
def test_the_clock_ends_any_round(number):
    """The time is that of all rounds before and of a part of this one, shared so that each gets what it takes."""
    bench = Bench(closeness)
    stops = iter(range(10**6))
    allowed = sum(len(found.scores) for found in Bench(closeness).halve()[:number]) + 3

    def measure(candidate, round):
        if next(stops) >= allowed:
            raise OutOfTime
        return bench(candidate, round)

    found = halve(FIRST, list(range(1, 61)), ROUNDS, measure, bench.budget, bench.budget.end)
    assert [len(measured.scores) for measured in found][: number + 1][-1] == 3
    assert len(bench.measured) == allowed
    best = best_of(found, FIRST)
    if number == 0:
        assert best == FIRST  # guards alone choose nothing
    else:
        scores = dict(found[number].scores)
        assert best in scores and closeness(best) == max(map(closeness, scores))


def test_no_time_at_all_leaves_the_first_candidate():
    bench = Bench(closeness, seconds=1)
    found = bench.halve()
    assert bench.measured == [] and [measured.scores for measured in found] == [()]
    assert best_of(found, FIRST) == FIRST


@pytest.mark.parametrize("seconds", [100, 500, 3000, 10_000, 30_000, 100_000])
def test_a_short_time_is_kept_and_shared(seconds):
    bench = Bench(closeness, seconds=seconds)
    found = bench.halve()
    last = max((measured.round.cost for measured in found), default=0)
    assert bench.now <= seconds + last  # what was under way at the end was given up
    assert sum(round.cost for _, round in bench.measured) <= seconds
    for measured in found:
        assert measured.round.images <= measured.planned.images
        assert len({round.images for _, round in bench.measured if round.steps == measured.round.steps}) <= 1


def test_a_round_that_has_no_time_for_two_is_not_begun():
    rounds = [Round(60, 8, 0), Round(20, 8, 10), Round(4, 8, 10_000)]
    needed = sum(round.cost * count for round, count in zip(rounds[:2], (61, 61), strict=True))
    bench = Bench(closeness, seconds=2.2 * needed)
    found = bench.halve(rounds)
    assert [round.steps for round in (measured.round for measured in found)] == [0, 10]
    assert best_of(found, FIRST) == BEST and bench.now <= 2.2 * needed


def test_images_are_made_fewer_before_candidates():
    plenty = Bench(closeness).halve()
    needed = sum(len(measured.scores) * measured.round.cost for measured in plenty)
    short = Bench(closeness, seconds=0.7 * needed).halve()
    assert short[3].round.images < plenty[3].round.images
    assert len(short[3].scores) == len(plenty[3].scores)


@pytest.mark.parametrize(("candidates", "images", "steps"), [(1, 4, 1), (17, 4, 7), (144, 100, 100), (5000, 3, 1000)])
def test_rounds_narrow_down(candidates, images, steps):
    rounds = plan_rounds(candidates, images, steps)
    assert rounds[0] == Round(candidates, min(8, images), 0) and rounds[-1].steps == steps
    assert rounds[-1].images == images
    for before, after in pairwise(rounds):
        assert after.candidates <= before.candidates and after.images >= before.images and after.steps >= before.steps
    assert all(round.candidates >= min(3, candidates) for round in rounds)


@pytest.mark.parametrize("steps", [1, 5, 12, 19, 29, 47, 59, 99, 100, 101, 1099])
@pytest.mark.parametrize("wanted", [10, 20])
def test_coarse_steps_are_whole_multiples(steps, wanted):
    coarse = whole_steps(wanted, steps)
    stride = steps // coarse
    assert steps // stride == coarse and coarse <= max(2 * wanted, steps % wanted + wanted)
    assert coarse >= min(wanted, steps)
