"""A tuning from its settings to its result: images are read and divided, candidates searched, the best one checked."""

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from lrpcli.evaluation.evaluator import Evaluator
from lrpcli.images.find import Source
from lrpcli.models import load_model
from lrpcli.pipeline.workers import Workers
from lrpcli.records.record import Record
from lrpcli.tuning.budget import Budget, Clock
from lrpcli.tuning.candidates import Candidate, Candidates, choose_candidates
from lrpcli.tuning.guards import Scores
from lrpcli.tuning.halving import Measured, Round, best_of, halve, plan_rounds
from lrpcli.tuning.held_out import HeldOut, check
from lrpcli.tuning.measuring import Bench, Photos
from lrpcli.tuning.photos import Division, Photo, divide, read_photos
from lrpcli.tuning.settings import TuningRunSettings
from lrpcli.tuning.space import Limits, limits_of

RESERVED = 0.25
"""The share of the time that is kept for the held-out check."""
Watch = Callable[[str, int], None]
"""Is told what is under way, and how many images went through the net since the last call."""


class Stopped(Exception):
    """Somebody asked for the end, and nothing has been written."""


@dataclass(frozen=True)
class Tuned:
    """What came out. `best` is the candidate that the search found, `chosen` the one that the check leaves."""

    division: Division
    limits: Limits
    candidates: Candidates
    planned: tuple[Round, ...]
    rounds: tuple[Measured[Candidate, Scores], ...]
    best: Candidate
    held_out: HeldOut

    @property
    def compared(self) -> bool:
        """Whether any candidate was compared with the default by ABPC."""
        return any(measured.compares for measured in self.rounds)

    @property
    def chosen(self) -> Candidate:
        """The best candidate where it is ahead of the default on the held-out images too, else the default."""
        return self.best if self.held_out.confirmed else self.candidates.default

    @property
    def chosen_scores(self) -> Scores:
        """What was measured of the chosen candidate on the held-out images."""
        return self.held_out.best if self.held_out.confirmed else self.held_out.default


class TuningRun:
    """A tuning that is ready to begin: the model is loaded. Its time runs from now on, by `clock`."""

    def __init__(self, settings: TuningRunSettings, evaluator: Evaluator, clock: Clock = monotonic) -> None:
        self.settings, self.evaluator = settings, evaluator
        self.budget = Budget(60 * settings.search.minutes, clock)

    def photos(
        self, sources: Sequence[Source], workers: Workers, stop: threading.Event
    ) -> Generator[Photo | Record, None, None]:
        """See photos.read_photos."""
        yield from read_photos(self.evaluator, sources, workers, stop, self.settings.flow.jobs or 1)

    def tune(
        self, photos: Sequence[Photo], stop: threading.Event | None = None, watch: Watch = lambda what, count: None
    ) -> Tuned:
        """Searches and checks. UsageError for too few images, Stopped once `stop` is set."""
        division = divide(photos, self.settings.search.seed)
        limits = self._limits(division.search)
        candidates = self._candidates(limits)
        total = len(candidates.others)
        rounds = plan_rounds(total, len(division.search), self.evaluator.steps)
        doing = ""

        def passed(count: int) -> None:
            if stop is not None and stop.is_set():
                raise Stopped
            watch(doing, count)
            self.budget.check()

        search = Bench(self.evaluator, division.search, passed)

        def measure(candidate: Candidate, round: Round) -> Scores:
            nonlocal doing
            doing = f"{'maps' if round.steps == 0 else f'{round.steps} steps'} on {round.images} images"
            return search(candidate, round)

        end = self.budget.end - RESERVED * self.budget.seconds
        found = halve(candidates.default, candidates.others, rounds, measure, self.budget, end)
        best, doing = best_of(found, candidates.default), "held-out check"
        bench = Bench(self.evaluator, division.held_out, passed)
        held_out = check(bench, best, candidates.default, self.budget, self.settings.search.seed)
        return Tuned(division, limits, candidates, rounds, tuple(found), best, held_out)

    def _limits(self, photos: Photos) -> Limits:
        graph = self.evaluator.maps.first.graph
        logits = photos.logits
        return limits_of(
            lrn=any(layer.kind == "lrn" for layer in graph.layers),
            classes=logits.shape[1],
            head=graph.head,
            negative=bool((logits.amax(1) < 0).any()),
        )

    def _candidates(self, limits: Limits) -> Candidates:
        search, model = self.settings.search, self.evaluator.model
        graph = self.evaluator.maps.first.graph
        return choose_candidates(graph, model.pixel_range, limits, search.candidates, search.seed)


def prepare_run(settings: TuningRunSettings, clock: Clock = monotonic) -> TuningRun:
    """The model is loaded; LrpError for a setting that does not fit it. Nothing has been written then."""
    model = load_model(settings.model.name, **settings.model.keywords())
    evaluation = replace(settings.evaluation, device=settings.flow.device, measures=("perturbation",))
    return TuningRun(settings, Evaluator(model, evaluation), clock)
