"""Images in, what was measured on each out: relevance of all methods, then their perturbed images in full batches."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from lrpcli.errors import ImageError, LrpError
from lrpcli.evaluation.classes import ClassFolders, MosaicPreparation, PreparedWithMosaic
from lrpcli.evaluation.curves import Perturbation, Progress, class_scores, fills_for, mean_curves, paths_for
from lrpcli.evaluation.localisation import Boxes, inside_boxes, points_inside, share_inside
from lrpcli.evaluation.map_measures import MapMeasures, Values
from lrpcli.evaluation.masks import MaskPreparation, Masks, PreparedWithMask
from lrpcli.evaluation.measurement import LARGEST, Localisation, Measurement
from lrpcli.evaluation.measures import Allowed, choose_measures
from lrpcli.evaluation.methods import RANDOM, Maps, methods_of
from lrpcli.evaluation.metrics import Curve
from lrpcli.evaluation.perturbation import Grid, default_region
from lrpcli.evaluation.settings import BATCH_AT_224, EvaluationSettings
from lrpcli.models.model import Model
from lrpcli.pipeline.decode import Preparation, Prepared
from lrpcli.pipeline.explain import compute_error

LARGEST_BATCH = {"cpu": 256, "cuda": 2048}
TINY = 1e-9
DRAWN = ("noise", "road")
"""Fills that are drawn anew for each repeat."""
FULL_BATCHES = 20
"""Images are taken together until they fill so many batches, so that the last one, half empty, costs little."""


class Evaluator:
    """Measures images with every method of the settings.

    Errors: ConfigError, UsageError, UnsupportedLayer, and ModelError where it is not known how the model is fed.

    `boxes` are for localisation, `folders` for focus, `masks` for ground-truth. `measures` are those that are taken,
    `left_out` are sentences about those that are not.
    """

    def __init__(
        self,
        model: Model,
        settings: EvaluationSettings,
        boxes: Boxes | None = None,
        folders: ClassFolders | None = None,
        masks: Masks | None = None,
    ) -> None:
        self.model, self.settings, self.boxes, self.folders, self.masks = model, settings, boxes, folders, masks
        self.preprocessing = model.known_preprocessing()
        usable = folders is not None and folders.usable
        allowed = Allowed(boxes is not None, usable, model.outputs, masks is not None)
        self.measures, self.left_out = choose_measures(settings, allowed)
        self.perturbs = "perturbation" in self.measures
        self.methods = tuple(method for method in methods_of(settings) if method.has_map or self.perturbs)
        self.maps = self._maps_of(model)
        self.on_maps = MapMeasures(model, self.maps, self.measures, settings.perturbation.seed, self._maps_of)
        _, height, width = model.input_shape
        self.grid = Grid(height, width, settings.perturbation.region or default_region(height, width))
        self.steps = min(settings.perturbation.steps, self.grid.count)
        self.batch_size = settings.batch_size or _batch_size(self.maps.device.type, height * width)

    def _maps_of(self, model: Model) -> Maps:
        return Maps(model, self.methods, self.settings.device, getattr(torch, self.settings.precision))

    @property
    def passes_per_image(self) -> int:
        """How many images go through the net for each image that is measured, the image itself included.

        The map of each method is not counted; every further map is.
        """
        return 1 + (self._perturbed_per_image if self.perturbs else 0) + self.on_maps.passes_per_image

    @property
    def _perturbed_per_image(self) -> int:
        settings = self.settings.perturbation
        fills = settings.repeats if settings.fill in DRAWN else 1
        mapped = len(self.maps.methods) * len(settings.orders) * fills
        random = settings.repeats if any(method.name == RANDOM for method in self.methods) else 0
        return (mapped + random) * self.steps

    @property
    def images_at_once(self) -> int:
        """As few as keep the batches full, so that little is lost when a run is stopped."""
        return min(self.batch_size, -(-FULL_BATCHES * self.batch_size // self.passes_per_image))

    @property
    def preparation(self) -> Preparation:
        """What decodes and preprocesses the images, their masks, and those of their mosaics."""
        settings = self.settings
        folders = self.folders if self.folders is not None and "focus" in self.measures else ClassFolders({}, {})
        if not folders.images and self.masks is None:
            return Preparation(settings.decode, self.preprocessing, None, pictures=False)
        prepared = MosaicPreparation(
            settings.decode, self.preprocessing, None, pictures=False, folders=folders, seed=settings.perturbation.seed
        )
        return prepared if self.masks is None else MaskPreparation(**vars(prepared), masks=self.masks)

    def as_input(self, batch: Sequence[Prepared]) -> Tensor:
        """(N, C, h, w) on the device and in the precision of the evaluation."""
        explainer = self.maps.first
        return torch.from_numpy(np.stack([item.pixels for item in batch])).to(explainer.device, explainer.dtype)

    @torch.no_grad()
    def __call__(self, batch: Sequence[Prepared], progress: Progress) -> list[Measurement | ImageError]:
        """One answer per image, in order; `progress` is told of images that went through the net."""
        started = perf_counter()
        x = self.as_input(batch)
        logits = self.maps.predict(x)
        progress(len(x))
        target = logits.argmax(1)
        mosaics = [item.mosaic if isinstance(item, PreparedWithMosaic) else None for item in batch]
        insides = [item.inside if isinstance(item, PreparedWithMask) else None for item in batch]
        maps, values = self.on_maps(x, logits, target, mosaics, insides, progress)  # (M, N, h, w)
        answers: list[Measurement | ImageError] = [ImageError("compute", "")] * len(batch)
        finite = maps.isfinite().flatten(2).all(2)  # (M, N)
        usable = finite.all(0).nonzero()[:, 0]
        for place in (~finite).any(0).nonzero()[:, 0].tolist():
            answers[place] = self._not_finite(batch[place], finite[:, place])
        curves: dict[str, dict[str, Curve]] = {}
        if self.perturbs and len(usable) > 0:
            curves = self._curves(x[usable], logits[usable], target[usable], maps[:, usable], progress)
        scores = [] if self.perturbs else class_scores(logits, target, self.score).tolist()
        seconds = round((perf_counter() - started) / max(len(usable), 1), 4)
        for row, place in enumerate(usable.tolist()):
            of_image = {
                method: {order: found[row] for order, found in orders.items()} for method, orders in curves.items()
            }
            measured = self._measured(batch[place], int(target[place]), of_image, maps[:, place], seconds)
            first = None if self.perturbs else scores[place]
            answers[place] = replace(measured, values=self._values(values, place), first=first)
        return answers

    @property
    def score(self) -> str:
        """What is recorded of a class, for class_scores: the model's own probability unless it is the logit."""
        chosen = self.settings.perturbation.score
        return self.maps.first.graph.head if chosen == "softmax" else chosen

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

    def _values(self, values: list[Values], place: int) -> dict[str, dict[str, float | None]]:
        """Method -> metric -> what was measured on the map of one image; None where it is not defined."""
        return {
            method.name: {
                name: number if abs(number) <= LARGEST else None
                for name, number in ((name, float(found[place])) for name, found in of_method.items())
            }
            for method, of_method in zip(self.maps.methods, values if self.on_maps.names else (), strict=False)
        }

    def fits(self, measurement: Measurement, path: str) -> bool:
        """Whether a measurement holds all that this evaluator makes of the image at a path, each curve in full."""
        return (
            0 <= measurement.target < (self.model.outputs or sys.maxsize)
            and self._has_every_curve(measurement)
            and self._has_every_value(measurement, path)
            and self._has_localisation(measurement, path)
            and measurement.mask == (None if self.masks is None else self.masks.hash_of(path))
        )

    def _has_every_value(self, measurement: Measurement, path: str) -> bool:
        """Results with mosaics hold for an image of the same class."""
        names = self.on_maps.names
        wanted = {method.name: names for method in self.maps.methods} if names else {}
        found = {method: set(values) for method, values in measurement.values.items()}
        folders = self.folders if "focus" in self.measures else None
        return found == wanted and (folders is None or folders.of_path(path) == folders.of_path(measurement.input))

    def _has_every_curve(self, measurement: Measurement) -> bool:
        if not self.perturbs:
            return not measurement.curves and measurement.first is not None
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
        random = RANDOM if any(method.name == RANDOM for method in self.methods) else None
        named = {method.name: scores for method, scores in zip(self.maps.methods, maps, strict=True)}
        return self.perturb_by(x, named, random)

    def perturb_by(
        self, x: Tensor, maps: Mapping[str, Tensor], random: str | None = None, stride: int = 1
    ) -> Perturbation:
        """The same for maps (N, h, w) by name and a random order of that name, `stride` regions in each step."""
        settings = self.settings.perturbation
        pixel_range = self.model.pixel_range
        assert pixel_range is not None  # asked for when the evaluation began
        fills = fills_for(x, pixel_range, settings)
        paths = paths_for(x, maps, random, len(fills), self.grid, settings)
        road = pixel_range if settings.fill == "road" else None
        return Perturbation(x, fills, paths, self.grid, self.steps // stride, road, stride)

    def _measured(
        self, item: Prepared, target: int, curves: dict[str, dict[str, Curve]], maps: Tensor, seconds: float
    ) -> Measurement:
        boxes = self.boxes.of(item.source.path) if self.boxes else []
        inside = inside_boxes(boxes, item.placement)
        localisation: dict[str, Localisation] = {}
        if inside.any():
            for method, scores in zip(self.maps.methods, maps.float().cpu().numpy(), strict=True):
                localisation[method.name] = (points_inside(scores, inside), share_inside(scores, inside))
        mask, mask_area = (item.mask_hash, item.mask_area) if isinstance(item, PreparedWithMask) else (None, None)
        return Measurement(
            input=item.source.path,
            name=item.source.name,
            target=target,
            label=self.model.label(target),
            curves=curves,
            area=float(inside.mean()) if inside.any() else None,
            localisation=localisation,
            mask=mask,
            mask_area=mask_area,
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
