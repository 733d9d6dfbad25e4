"""What a tuning did not do, or what its numbers cannot bear, as sentences."""

from collections.abc import Iterator

from lrpcli.evaluation.summary import FEWEST
from lrpcli.tuning.candidates import Candidate
from lrpcli.tuning.guards import Scores
from lrpcli.tuning.halving import Measured
from lrpcli.tuning.run import Tuned


def notes_on(tuned: Tuned) -> list[str]:
    """Every sentence, those on the search first."""
    return [*_on_images(tuned), *_on_candidates(tuned), *_on_rounds(tuned), *_on_check(tuned)]


def _on_images(tuned: Tuned) -> Iterator[str]:
    copies = len(tuned.division.copies)
    if copies:
        yield f"{_count(copies, 'image')} left out, with the same pixels as another one."


def _on_candidates(tuned: Tuned) -> Iterator[str]:
    unfit = tuned.candidates.unfit
    if unfit:
        reason = next(iter(unfit.values()))
        yield f"{_count(len(unfit), 'candidate')} left out, which this net cannot have: {reason}"


def _on_rounds(tuned: Tuned) -> Iterator[str]:
    for number, measured in enumerate(tuned.rounds, 1):
        yield from _on_round(number, measured)
    missing = len(tuned.planned) - len(tuned.rounds)
    if missing > 0:
        yield f"There was no time for the last {_count(missing, 'round')} of the search; raise --minutes."


def _on_round(number: int, measured: Measured[Candidate, Scores]) -> Iterator[str]:
    planned, done = measured.planned, measured.round
    if done.images < planned.images:
        yield f"Round {number} took {done.images} of {planned.images} images: there was no time for more."
    count = len(measured.scores)
    if count < planned.candidates + 1:
        yield f"Round {number} measured {count} of {planned.candidates + 1} candidates: there was no time for more."


def _on_check(tuned: Tuned) -> Iterator[str]:
    held_out = tuned.held_out
    images = held_out.best.images
    if images < held_out.available:
        yield f"The held-out check took {images} of {held_out.available} images: there was no time for more."
    if images < FEWEST:
        yield f"Too few held-out images for an interval, which needs {FEWEST}."
    elif held_out.gain is not None and held_out.gain.images < FEWEST:
        yield f"Too few held-out images with sound maps for an interval, which needs {FEWEST}."


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
