"""What candidates are measured with: the maps and the perturbation of `lrp evaluate`, kept for images seen before."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lrpcli.evaluation.curves import class_scores, mean_curves
from lrpcli.evaluation.evaluator import FULL_BATCHES, Evaluator
from lrpcli.evaluation.map_metrics import cosines, kept_shares
from lrpcli.evaluation.methods import RANDOM, in_parts
from lrpcli.lrp.batch_limit import BatchLimit
from lrpcli.lrp.explainer import Explainer
from lrpcli.tuning.candidates import Candidate
from lrpcli.tuning.guards import Curves, Floats, Scores
from lrpcli.tuning.halving import Round

Progress = Callable[[int], None]
"""Is told how many images have gone through the net; it may raise, to give up what is under way."""
Compute = Callable[[slice], Floats]
"""Rows (n, ...) for these images."""


@dataclass(frozen=True)
class Photos:
    """Images in the order in which they are used: pixels (n, C, h, w) and logits (n, classes), with their paths."""

    paths: tuple[str, ...]
    pixels: Tensor
    logits: Tensor

    def __len__(self) -> int:
        return len(self.paths)


class Bench:
    """Measures candidates on the first of the photos, and never anything twice.

    `progress` is told of the passes; what it raises ends a measurement, of which finished batches of images are kept.
    """

    def __init__(self, evaluator: Evaluator, photos: Photos, progress: Progress) -> None:
        self.evaluator, self.photos, self.progress = evaluator, photos, progress
        self._known: dict[tuple[str, ...], Floats] = {}
        self._limit = BatchLimit()

    def __call__(self, candidate: Candidate, round: Round) -> Scores:
        """The candidate on the images of a round; see halving.Measure."""
        guards = self._grown(("guards", candidate.name), round.images, 1, lambda part: self._guards(candidate, part))
        second, kept, unsound = guards.T
        curves = None if round.steps == 0 else self._curves(candidate, round)
        if curves is not None:
            unsound = np.maximum(unsound, np.isnan(curves.morf))
        return Scores(second if self.photos.logits.shape[1] > 1 else None, kept, unsound > 0, curves)

    def _curves(self, candidate: Candidate, round: Round) -> Curves:
        stride = self.evaluator.steps // round.steps
        key, passes = ("curves", candidate.name, str(stride)), 2 * round.steps
        mapped = self._grown(key, round.images, passes, lambda part: self._areas(candidate, part, stride))
        random = self._grown((RANDOM, str(stride)), round.images, round.steps, lambda part: self._random(part, stride))
        return Curves(mapped[:, 0], mapped[:, 1], random[:, 0])

    def _grown(self, key: tuple[str, ...], images: int, passes: int, compute: Compute) -> Floats:
        """Rows of the first images, of which each takes so many passes; those computed that are not known yet."""
        known, batch = self._known.get(key), self.evaluator.batch_size
        size = min(batch, -(-FULL_BATCHES * batch // passes))
        for start in range(0 if known is None else len(known), images, size):
            rows = compute(slice(start, min(start + size, images)))
            known = self._known[key] = rows if known is None else np.concatenate([known, rows])
        assert known is not None
        return known[:images]

    def _batch(self, part: slice) -> tuple[Tensor, Tensor]:
        """Images (N, C, h, w) and their logits, on the device in the precision of the evaluation."""
        explainer = self.evaluator.maps.first
        x = self.photos.pixels[part].to(explainer.device, explainer.dtype)
        return x, self.photos.logits[part].to(explainer.device)

    def _guards(self, candidate: Candidate, part: slice) -> Floats:
        """(N, 3): the cosine with the second class's map and the kept share, from the start `one`; whether unsound."""
        x, logits = self._batch(part)
        explainer = self.evaluator.maps.first.with_config(candidate.composite, start="one")
        target = logits.argmax(1)
        second = logits.scatter(1, target[:, None], -torch.inf).argmax(1)
        classes = torch.stack([target, second], 1)[:, : logits.shape[1]]
        maps = self._maps(explainer, x, classes)
        own, other = maps[:, 0], maps[:, -1]
        self.progress(len(x) * maps.shape[1])
        unsound = maps.flatten(1).isnan().any(1)
        kept = kept_shares(own, torch.ones(len(own), device=own.device))
        return torch.stack([cosines(own, other), kept, unsound.double()], 1).cpu().numpy()

    def _areas(self, candidate: Candidate, part: slice, stride: int) -> Floats:
        """(N, 2): the mean scores as the most and the least relevant regions go first; NaN for unsound maps."""
        x, logits = self._batch(part)
        target = logits.argmax(1)
        maps = self._maps(self.evaluator.maps.first.with_config(candidate.composite), x, target[:, None])[:, 0]
        curves = self._scored(x, logits, {candidate.name: maps.nan_to_num()}, None, stride)[candidate.name]
        areas = np.stack([curves["morf"], curves["lerf"]], 1)
        areas[maps.flatten(1).isnan().any(1).cpu().numpy()] = np.nan
        return areas

    def _random(self, part: slice, stride: int) -> Floats:
        """(N, 1): the mean score as regions go in a random order."""
        x, logits = self._batch(part)
        return self._scored(x, logits, {}, RANDOM, stride)[RANDOM]["random"][:, None]

    def _scored(
        self, x: Tensor, logits: Tensor, maps: dict[str, Tensor], random: str | None, stride: int
    ) -> dict[str, dict[str, Floats]]:
        """Name -> order -> mean score over the steps (N,)."""
        evaluator = self.evaluator
        perturbation = evaluator.perturb_by(x, maps, random, stride)
        target = logits.argmax(1)
        start = class_scores(logits, target, evaluator.score)
        scores = perturbation.scores(
            evaluator.maps.predict, target, start, evaluator.score, evaluator.batch_size, self.progress
        )
        return {
            name: {order: curve.mean(1).cpu().numpy() for order, curve in orders.items()}
            for name, orders in mean_curves(scores, perturbation.paths).items()
        }

    def _maps(self, explainer: Explainer, x: Tensor, classes: Tensor) -> Tensor:
        """(N, K, h, w) for classes (N, K), NaN where a map is not finite or its relevance exploded."""

        def explain(x: Tensor, classes: Tensor) -> Tensor:
            result = explainer(x, classes, strict=False)
            maps = result.relevance.sum(-3)
            maps[result.exploded] = torch.nan
            maps[list(result.failures)] = torch.nan
            return maps

        return in_parts(self._limit, explain, x, classes)
