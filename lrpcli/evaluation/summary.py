"""Means over images, and paired bootstrap intervals for the differences between methods; the types of results.json."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from lrpcli.evaluation.limits import LARGEST_COSINE
from lrpcli.evaluation.measurement import Measurement
from lrpcli.evaluation.methods import Method
from lrpcli.evaluation.metrics import METRICS

Floats = NDArray[np.float64]
RESAMPLES = 10_000
LEVEL = 0.95
FEWEST = 20
"""Images of which there are intervals: those of fewer are too narrow for what they claim."""
AT_ONCE = 2_000_000
"""Numbers held at once while resampling."""


class MeanOf(TypedDict):
    """A mean over images with its standard error."""

    mean: float
    standard_error: float


class Quantiles(TypedDict):
    """The median over images, with 10 and 90 % quantiles."""

    low: float
    median: float
    high: float


class MeanCurve(TypedDict):
    """Means over images at steps 0..L with their standard errors."""

    mean: list[float]
    standard_error: list[float]


class Interval(TypedDict):
    """A mean difference with the ends of its 95 % interval, None for fewer than FEWEST images."""

    mean: float
    low: float | None
    high: float | None


Intervals = dict[str, Interval | None]
"""Metric -> interval, None where it was not measured."""


class MethodResult(TypedDict):
    """What came out for one method; `difference` is that to the first method, whose name is under "to".

    `quantiles` are those of metrics with a spread; `place` is that by ABPC among the configs, 1 for the highest.
    """

    name: str
    config: str | None
    lrn: str | None
    control: bool
    metrics: dict[str, MeanOf | None]
    quantiles: dict[str, Quantiles | None]
    place: int | None
    curves: dict[str, MeanCurve]
    difference: dict[str, Interval | str | None]


class SummaryResults(TypedDict):
    """What came out over all images; `lrn` has a row for each LRN rule of a config against the config's first one.

    `warnings` are sentences about what the numbers cannot bear.
    """

    images: int
    images_with_boxes: int
    box_area: float | None
    images_with_masks: int
    mask_area: float | None
    score: float | None
    warnings: list[str]
    methods: list[MethodResult]
    lrn: list[dict[str, Interval | str | None]]


class Results(SummaryResults):
    """The whole file: `settings` is the description of the run."""

    settings: dict[str, object]


def interval_of(row: dict[str, Interval | str | None], metric: str) -> Interval | None:
    """The interval of a metric in a row of differences."""
    found = row.get(metric)
    return None if found is None or isinstance(found, str) else found


def paired_intervals(differences: Floats, seed: int = 0) -> tuple[Floats, Floats]:
    """Lower and upper ends (K,) of the 95 % interval of the mean of differences (n, K), one row per image.

    Percentile bootstrap over the images, 10,000 resamples, the same for all columns. NaN in a column is an image that
    does not count there; a column with fewer than FEWEST images has no interval, NaN.
    """
    low, high = np.full((2, differences.shape[1]), np.nan)
    known = np.isfinite(differences)
    for mask in np.unique(known, axis=1).T:
        columns = (known == mask[:, None]).all(0)
        if mask.sum() >= FEWEST:
            low[columns], high[columns] = _bootstrap(differences[mask][:, columns], seed)
    return low, high


def _bootstrap(values: Floats, seed: int) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    images = len(values)
    means = []
    for start in range(0, RESAMPLES, block := max(1, AT_ONCE // images)):
        size = min(block, RESAMPLES - start)
        # How often each image is drawn: the same as drawing images with replacement, in one matrix product.
        counts = generator.multinomial(images, np.full(images, 1 / images), size=size)
        means.append(counts @ values / images)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    return low, high


class Summary:
    """Collects images one by one; of their curves it keeps only sums."""

    def __init__(self, methods: Sequence[Method], seed: int = 0, left_out: Sequence[str] = ()) -> None:
        self.methods, self.seed, self.left_out = methods, seed, left_out
        self.images: list[Measurement] = []
        """What was measured, without the curves."""
        self.metrics: list[dict[str, dict[str, float | None]]] = []
        self._curves: dict[tuple[str, str], tuple[Floats, Floats]] = {}

    def add(self, measured: Measurement) -> None:
        """One more image."""
        self.metrics.append({method.name: measured.metrics(method.name) for method in self.methods})
        for method, orders in measured.curves.items():
            for order, curve in orders.items():
                total, squares = self._curves.get((method, order), (np.zeros_like(curve), np.zeros_like(curve)))
                self._curves[method, order] = (total + curve, squares + curve**2)
        ends = {method: {order: curve[:1] for order, curve in orders.items()}
                for method, orders in measured.curves.items()}  # fmt: skip
        self.images.append(replace(measured, curves=ends, localisation={}, values={}))

    def results(self) -> SummaryResults:
        """All of it as JSON values; docs/evaluation.md describes them."""
        areas = [image.area for image in self.images if image.area is not None]
        masked = [image.mask_area for image in self.images if image.mask_area is not None]
        values = {metric: self._values(metric) for metric in METRICS}
        compared = {metric: found for metric, found in values.items() if METRICS[metric].better}
        differences = {metric: found - found[:, :1] for metric, found in compared.items()}
        places = self._places(values["abpc"])
        return {
            "images": len(self.images),
            "images_with_boxes": len(areas),
            "box_area": float(np.mean(areas)) if areas else None,
            "images_with_masks": len(masked),
            "mask_area": float(np.mean(masked)) if masked else None,
            "score": float(np.mean([image.score for image in self.images])) if self.images else None,
            "warnings": [
                *self.left_out, *_warnings(len(self.images), len(areas), len(masked)), *self._mask_warnings(),
                *self._class_warnings(values["class_second"]),
            ],
            "methods": [
                {
                    "name": method.name, "config": method.config, "lrn": method.lrn, "control": method.control,
                    "metrics": {metric: _mean(values[metric][:, place]) for metric in METRICS},
                    "quantiles": {metric: _quantiles(values[metric][:, place]) for metric in METRICS
                                  if METRICS[metric].spread},
                    "place": places.get(method.name),
                    "curves": self._mean_curves(method.name),
                    "difference": {"to": self.methods[0].name, **row},
                }
                for place, (method, row) in enumerate(
                    zip(self.methods, self._intervals(differences), strict=True)
                )
            ],
            "lrn": self._lrn_differences(compared),
        }  # fmt: skip

    def _values(self, metric: str) -> Floats:
        """(n, M), NaN where it was not measured."""
        rows = [[row[method.name][metric] for method in self.methods] for row in self.metrics]
        return np.array(rows, np.float64).reshape(len(rows), len(self.methods))

    def _places(self, abpc: Floats) -> dict[str, int]:
        """Config -> its place by mean ABPC, the SRG measure of Blücher et al. 2024; the controls have none."""
        means = {
            method.name: found["mean"]
            for place, method in enumerate(self.methods)
            if not method.control and (found := _mean(abpc[:, place])) is not None
        }
        ranked = sorted(means, key=means.__getitem__, reverse=True)
        return {name: place for place, name in enumerate(ranked, 1)}

    def _mask_warnings(self) -> list[str]:
        """How many images ground-truth leaves out, where any image has a mask."""
        without = sum(image.mask is None for image in self.images)
        empty = sum(image.mask is not None and image.mask_area is None for image in self.images)
        if without == len(self.images) or not without + empty:
            return []
        parts = [f"{without} without a mask"] if without else []
        parts += [f"{empty} whose mask is empty in what the net sees"] if empty else []
        return [f"ground-truth leaves out images: {', and '.join(parts)}."]

    def _class_warnings(self, cosines: Floats) -> list[str]:
        """Which configs make maps that are nearly the same for another class."""
        found = []
        for place, method in enumerate(self.methods):
            mean = None if method.control else _mean(cosines[:, place])
            if mean is not None and mean["mean"] > LARGEST_COSINE:
                found.append(
                    f"The maps of {method.name} hardly depend on the class: their mean cosine with those of the second "
                    f"class is {mean['mean']:.3f}. See --start of lrp explain."
                )
        return found

    def _lrn_differences(self, values: dict[str, Floats]) -> list[dict[str, Interval | str | None]]:
        """Every LRN rule of a config against that config's first one."""
        names = [method.name for method in self.methods]
        first = {method.config: method for method in reversed(self.methods) if method.lrn is not None}
        pairs = [(m, first[m.config]) for m in self.methods if m.lrn is not None and m is not first[m.config]]
        if not pairs:
            return []
        left, right = ([names.index(pair[side].name) for pair in pairs] for side in (0, 1))
        rows = self._intervals({metric: found[:, left] - found[:, right] for metric, found in values.items()})
        return [
            {"config": one.config, "lrn": one.lrn, "to": other.lrn, **row}
            for (one, other), row in zip(pairs, rows, strict=True)
        ]

    def _intervals(self, differences: dict[str, Floats]) -> list[Intervals]:
        """For each column of (n, K) differences: metric -> mean, low and high, or None."""
        together = np.concatenate(list(differences.values()), axis=1)
        low, high = paired_intervals(together, self.seed)
        count = together.shape[1] // len(differences)
        rows = []
        for column in range(count):
            row: Intervals = {}
            for place, (metric, found) in enumerate(differences.items()):
                mean, at = _mean(found[:, column]), place * count + column
                ends = (None, None) if np.isnan(low[at]) else (float(low[at]), float(high[at]))
                row[metric] = None if mean is None else {"mean": mean["mean"], "low": ends[0], "high": ends[1]}
            rows.append(row)
        return rows

    def _mean_curves(self, method: str) -> dict[str, MeanCurve]:
        """Order -> mean and standard error at steps 0..L."""
        images = len(self.images)
        found: dict[str, MeanCurve] = {}
        for (name, order), (total, squares) in self._curves.items():
            if name == method:
                mean = total / images
                variance = np.maximum(squares - images * mean**2, 0) / max(images - 1, 1)
                found[order] = {"mean": mean.tolist(), "standard_error": np.sqrt(variance / images).tolist()}
        return found


def _mean(values: Floats) -> MeanOf | None:
    """Mean and standard error of values (n,) without NaN; None if there are none."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return None
    error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else 0.0
    return {"mean": float(known.mean()), "standard_error": error}


def _quantiles(values: Floats) -> Quantiles | None:
    """Median, 10 and 90 % quantile of values (n,) without NaN; None if there are none."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return None
    low, median, high = (float(value) for value in np.quantile(known, (0.1, 0.5, 0.9)))
    return {"low": low, "median": median, "high": high}


def _warnings(images: int, with_boxes: int, with_masks: int) -> list[str]:
    """What is too few to bear an interval."""
    if images < FEWEST:
        few = [(images, "measured")]
    else:
        few = [(count, what) for count, what in ((with_boxes, "with boxes"), (with_masks, "with masks"))
               if 0 < count < FEWEST]  # fmt: skip
    return [
        f"{count} image{'' if count == 1 else 's'} {what}: too few for intervals, which need {FEWEST}."
        for count, what in few
    ]
