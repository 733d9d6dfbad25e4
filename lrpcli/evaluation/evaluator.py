"""Images in, what was measured on each out: relevance of all methods, then their perturbed images in full batches."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from lrpcli.errors import ImageError, LrpError
from lrpcli.evaluation.curves import Perturbation, Progress, class_scores, fills_for, mean_curves, paths_for
from lrpcli.evaluation.localisation import Boxes, inside_boxes, points_inside, share_inside
from lrpcli.evaluation.measurement import Localisation, Measurement
from lrpcli.evaluation.methods import RANDOM, Maps, methods_of
from lrpcli.evaluation.metrics import Curve
from lrpcli.evaluation.perturbation import Grid, default_region
from lrpcli.evaluation.settings import BATCH_AT_224, EvaluationSettings
from lrpcli.models.model import Model
from lrpcli.pipeline.decode import Preparation, Prepared
from lrpcli.pipeline.explain import compute_error

LARGEST_BATCH = {"cpu": 256, "cuda": 2048}
TINY = 1e-9
FULL_BATCHES = 20
"""Images are taken together until they fill so many batches, so that the last one, half empty, costs little."""


class Evaluator:
    """Measures images with every method of the settings.

    Errors: ConfigError, UsageError, UnsupportedLayer, and ModelError where it is not known how the model is fed.
    """

    def __init__(self, model: Model, settings: EvaluationSettings, boxes: Boxes | None = None) -> None:
        self.model, self.settings, self.boxes = model, settings, boxes
        self.preprocessing = model.known_preprocessing()
        self.methods = methods_of(settings)
        self.maps = Maps(model, self.methods, settings.device, getattr(torch, settings.precision))
        _, height, width = model.input_shape
        self.grid = Grid(height, width, settings.perturbation.region or default_region(height, width))
        self.steps = min(settings.perturbation.steps, self.grid.count)
        self.batch_size = settings.batch_size or _batch_size(self.maps.device.type, height * width)

    @property
    def passes_per_image(self) -> int:
        """How many images go through the net for each image that is measured, the image itself included."""
        settings = self.settings.perturbation
        fills = settings.repeats if settings.fill == "noise" else 1
        mapped = len(self.maps.methods) * len(settings.orders) * fills
        random = settings.repeats if any(method.name == RANDOM for method in self.methods) else 0
        return 1 + (mapped + random) * self.steps

    @property
    def images_at_once(self) -> int:
        """As few as keep the batches full, so that little is lost when a run is stopped."""
        return min(self.batch_size, -(-FULL_BATCHES * self.batch_size // self.passes_per_image))

    @property
    def preparation(self) -> Preparation:
        """What decodes and preprocesses the images."""
        return Preparation(self.settings.decode, self.preprocessing, None, pictures=False)

    def as_input(self, batch: Sequence[Prepared]) -> Tensor:
        """(N, C, h, w) on the device and in the precision of the evaluation."""
        explainer = self.maps.explainers[0]
        return torch.from_numpy(np.stack([item.pixels for item in batch])).to(explainer.device, explainer.dtype)

    @torch.no_grad()
    def __call__(self, batch: Sequence[Prepared], progress: Progress) -> list[Measurement | ImageError]:
        """One answer per image, in order; `progress` is told of images that went through the net."""
        started = perf_counter()
        x = self.as_input(batch)
        logits = self.maps.predict(x)
        progress(len(x))
        target = logits.argmax(1)
        maps = self.maps(x, target)  # (M, N, h, w)
        answers: list[Measurement | ImageError] = [ImageError("compute", "")] * len(batch)
        finite = maps.isfinite().flatten(2).all(2)  # (M, N)
        usable = finite.all(0).nonzero()[:, 0]
        for place in (~finite).any(0).nonzero()[:, 0].tolist():
            answers[place] = self._not_finite(batch[place], finite[:, place])
        if len(usable) > 0:
            curves = self._curves(x[usable], logits[usable], target[usable], maps[:, usable], progress)
            seconds = round((perf_counter() - started) / len(usable), 4)
            for row, place in enumerate(usable.tolist()):
                of_image = {
                    method: {order: values[row] for order, values in orders.items()}
                    for method, orders in curves.items()
                }
                answers[place] = self._measured(batch[place], int(target[place]), of_image, maps[:, place], seconds)
        return answers

    @property
    def score(self) -> str:
        """What is recorded of a class, for class_scores: the model's own probability unless it is the logit."""
        chosen = self.settings.perturbation.score
        return self.maps.explainers[0].graph.head if chosen == "softmax" else chosen

    def _curves(
        self, x: Tensor, logits: Tensor, target: Tensor, maps: Tensor, progress: Progress
    ) -> dict[str, dict[str, Curve]]:
        """Method -> order -> (N, L + 1)."""
        perturbation = self.perturb(x, maps)
        score = self.score
        start = class_scores(logits, target, score)
        scores = perturbation.scores(self.maps.predict, target, start, score, self.batch_size, progress)
        return {
            method: {order: values.cpu().numpy() for order, values in orders.items()}
            for method, orders in mean_curves(scores, perturbation.paths).items()
        }

    def fits(self, measurement: Measurement, path: str) -> bool:
        """Whether a measurement holds all that this evaluator makes of the image at a path, each curve in full."""
        return (
            0 <= measurement.target < (self.model.outputs or sys.maxsize)
            and self._has_every_curve(measurement)
            and self._has_localisation(measurement, path)
        )

    def _has_every_curve(self, measurement: Measurement) -> bool:
        mapped = {method.name: set(self.settings.perturbation.orders) for method in self.maps.methods}
        wanted = {method.name: mapped.get(method.name, {"random"}) for method in self.methods}
        found = {method: set(curves) for method, curves in measurement.curves.items()}
        curves = [curve for orders in measurement.curves.values() for curve in orders.values()]
        if found != wanted or {len(curve) for curve in curves} != {self.steps + 1}:
            return False
        scores = np.stack(curves)
        low, high = (0.0, 1.0) if self.settings.perturbation.score == "softmax" else (-np.inf, np.inf)
        # Up to rounding: a curve may be a mean over repeats.
        alike = np.allclose(scores[:, 0], scores[0, 0], rtol=TINY, atol=TINY)
        return bool(low <= scores.min() and scores.max() <= high + TINY and alike)

    def _has_localisation(self, measurement: Measurement, path: str) -> bool:
        """Where there are boxes, results hold for images with the same ones."""
        boxes, before = ([] if self.boxes is None else self.boxes.of(one) for one in (path, measurement.input))
        if boxes != before or (measurement.area is not None and not boxes):
            return False
        wanted = set() if measurement.area is None else {method.name for method in self.maps.methods}
        return set(measurement.localisation) == wanted

    def perturb(self, x: Tensor, maps: Tensor) -> Perturbation:
        """What is put through the net for images (N, C, h, w) whose maps (M, N, h, w) are known."""
        settings = self.settings.perturbation
        pixel_range = self.model.pixel_range
        assert pixel_range is not None  # asked for when the evaluation began
        fills = fills_for(x, pixel_range, settings)
        random = RANDOM if any(method.name == RANDOM for method in self.methods) else None
        named = {method.name: scores for method, scores in zip(self.maps.methods, maps, strict=True)}
        return Perturbation(
            x, fills, paths_for(x, named, random, len(fills), self.grid, settings), self.grid, self.steps
        )

    def _measured(
        self, item: Prepared, target: int, curves: dict[str, dict[str, Curve]], maps: Tensor, seconds: float
    ) -> Measurement:
        boxes = self.boxes.of(item.source.path) if self.boxes else []
        inside = inside_boxes(boxes, item.placement)
        localisation: dict[str, Localisation] = {}
        if inside.any():
            for method, scores in zip(self.maps.methods, maps.float().cpu().numpy(), strict=True):
                localisation[method.name] = (points_inside(scores, inside), share_inside(scores, inside))
        return Measurement(
            input=item.source.path,
            name=item.source.name,
            target=target,
            label=self.model.label(target),
            curves=curves,
            area=float(inside.mean()) if inside.any() else None,
            localisation=localisation,
            seconds=seconds,
        )

    def _not_finite(self, item: Prepared, finite: Tensor) -> ImageError:
        names = [method.name for method, good in zip(self.maps.methods, finite.tolist(), strict=True) if not good]
        return ImageError("compute", f"The relevance of {item.source.path!r} is not finite under {', '.join(names)}.")


def _batch_size(device: str, pixels: int) -> int:
    size = BATCH_AT_224.get(device, BATCH_AT_224["cpu"]) * 224 * 224 // pixels
    return max(1, min(size, LARGEST_BATCH.get(device, LARGEST_BATCH["cpu"])))


@dataclass(frozen=True)
class Measuring:
    """The work stage of an evaluation: batches of `size` images, `progress` is told of those that went through the net.

    A smaller batch is filled up with copies of its last image: the last digits of a score depend on the size of the
    batch, and a run that was stopped and goes on has other images left than one that was not.
    """

    evaluator: Evaluator
    progress: Progress | None = None
    size: int = 1

    def sized(self, size: int) -> "Measuring":
        """See stages.Work."""
        return replace(self, size=size)

    def __call__(self, batch: Sequence[Prepared]) -> list[Measurement | ImageError]:
        """See stages.Work; passes of copies, and those that a failed batch made in vain, do not count."""
        left = len(batch) * self.evaluator.passes_per_image

        def passed(count: int) -> None:
            nonlocal left
            if self.progress is not None:
                self.progress(min(count, left))
            left -= min(count, left)

        try:
            return self.evaluator([*batch, *[batch[-1]] * (self.size - len(batch))], passed)[: len(batch)]
        except LrpError:
            raise
        except (RuntimeError, MemoryError):
            return [self._alone(item, passed) for item in batch]

    def _alone(self, item: Prepared, passed: Progress) -> Measurement | ImageError:
        """One of the images of a batch that failed: the others need not suffer for it."""
        try:
            return self.evaluator([item], passed)[0]
        except LrpError:
            raise
        except (RuntimeError, MemoryError) as error:
            return compute_error(error, item.source.path)
