"""Images in, what was measured on each out: relevance of all methods, then their perturbed images in full batches."""

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrpcli.errors import ImageError
from lrpcli.evaluation.curves import Progress, Walk, class_scores, fills_for, mean_curves, tracks_for
from lrpcli.evaluation.localisation import Boxes, inside_boxes, points_inside, share_inside
from lrpcli.evaluation.measurement import Measured
from lrpcli.evaluation.methods import RANDOM, Maps, methods_of
from lrpcli.evaluation.perturbation import Grid, default_region
from lrpcli.evaluation.settings import EvaluationSettings
from lrpcli.images.decode import decode
from lrpcli.images.find import STDIN, Source
from lrpcli.images.placement import Placement
from lrpcli.models.model import Model

BATCH_PIXELS = {"cpu": 16 * 224 * 224, "cuda": 128 * 224 * 224}
"""Pixels at once where no batch size is given: larger batches are hardly faster and only take memory."""
LARGEST_BATCH = {"cpu": 256, "cuda": 2048}
FULL_BATCHES = 20
"""Images are taken together until they fill so many batches, so that the last one, half empty, costs little."""


@dataclass(frozen=True)
class Loaded:
    """A photo as the model sees it: pixels (C, h, w), and where they lie on the photo."""

    source: Source
    pixels: NDArray[np.float32]
    placement: Placement


class Evaluator:
    """Measures images with every method of the settings. Errors: ConfigError, UsageError, UnsupportedLayer."""

    def __init__(self, model: Model, settings: EvaluationSettings, boxes: Boxes | None = None) -> None:
        self.model, self.settings, self.boxes = model, settings, boxes
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

    def load(self, source: Source) -> Loaded:
        """Decodes and preprocesses; ImageError if the image cannot be used."""
        image = decode(io.BytesIO(_standard_input()) if source.path == STDIN else source.path, self.settings.decode)
        return Loaded(source, *self.model.preprocessing.apply(image))

    def as_input(self, batch: Sequence[Loaded]) -> Tensor:
        """(N, C, h, w) on the device and in the precision of the evaluation."""
        explainer = self.maps.explainers[0]
        return torch.from_numpy(np.stack([item.pixels for item in batch])).to(explainer.device, explainer.dtype)

    @torch.no_grad()
    def __call__(self, batch: Sequence[Loaded], progress: Progress) -> list[Measured | ImageError]:
        """One answer per image, in order; `progress` is told of images that went through the net."""
        started = perf_counter()
        x = self.as_input(batch)
        logits = self.maps.predict(x)
        progress(len(x))
        target = logits.argmax(1)
        maps = self.maps(x, target)  # (M, N, h, w)
        answers: list[Measured | ImageError] = [ImageError("compute", "")] * len(batch)
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

    def _curves(
        self, x: Tensor, logits: Tensor, target: Tensor, maps: Tensor, progress: Progress
    ) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Method -> order -> (N, L + 1)."""
        walk = self.walk(x, maps)
        score = self.settings.perturbation.score
        start = class_scores(logits, target, score)
        scores = walk.scores(self.maps.predict, target, start, score, self.batch_size, progress)
        return {
            method: {order: values.cpu().numpy() for order, values in orders.items()}
            for method, orders in mean_curves(scores, walk.tracks).items()
        }

    def walk(self, x: Tensor, maps: Tensor) -> Walk:
        """What is put through the net for images (N, C, h, w) whose maps (M, N, h, w) are known."""
        settings = self.settings.perturbation
        fills = fills_for(x, self.model.pixel_range, settings)
        random = RANDOM if any(method.name == RANDOM for method in self.methods) else None
        named = {method.name: scores for method, scores in zip(self.maps.methods, maps, strict=True)}
        return Walk(x, fills, tracks_for(x, named, random, len(fills), self.grid, settings), self.grid, self.steps)

    def _measured(
        self, item: Loaded, target: int, curves: dict[str, dict[str, NDArray[np.float64]]], maps: Tensor, seconds: float
    ) -> Measured:
        measured = Measured(item.source.path, target, self.model.label(target), curves, seconds=seconds)
        boxes = self.boxes.of(item.source.path) if self.boxes else []
        inside = inside_boxes(boxes, item.placement)
        if inside.any():
            measured.area = float(inside.mean())
            for method, scores in zip(self.maps.methods, maps.float().cpu().numpy(), strict=True):
                measured.localisation[method.name] = (points_inside(scores, inside), share_inside(scores, inside))
        return measured

    def _not_finite(self, item: Loaded, finite: Tensor) -> ImageError:
        names = [method.name for method, good in zip(self.maps.methods, finite.tolist(), strict=True) if not good]
        return ImageError("compute", f"The relevance of {item.source.path!r} is not finite under {', '.join(names)}.")


def _batch_size(device: str, pixels: int) -> int:
    size = BATCH_PIXELS.get(device, BATCH_PIXELS["cpu"]) // pixels
    return max(1, min(size, LARGEST_BATCH.get(device, LARGEST_BATCH["cpu"])))


@cache
def _standard_input() -> bytes:
    """The image on standard input, which can be read only once."""
    return sys.stdin.buffer.read()
