"""The numbers drawn from what was measured on one image under one method: one line a metric."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """What was measured on one image under one method.

    `curves`: order (morf, lerf or random) -> scores at steps 0..L; `score` is that of the image as it is. With boxes:
    whether the map `points` inside one, and the `share` of its positive relevance there; else None. `values` are those
    of VALUES that were measured on the map itself.
    """

    curves: Mapping[str, Curve]
    score: float
    points: bool | None = None
    share: float | None = None
    values: Mapping[str, float | None] = field(default_factory=dict)

    def mean(self, order: str) -> float | None:
        """Mean score over the steps of an order; a random order backwards is a random order, one stands for both."""
        curve = self.curves.get(order, self.curves.get("random"))
        return None if curve is None else float(curve.mean())


def _aopc(observed: Observed) -> float | None:
    auc = observed.mean("morf")
    return None if auc is None else observed.score - auc


def _abpc(observed: Observed) -> float | None:
    auc, lerf_auc = observed.mean("morf"), observed.mean("lerf")
    return None if auc is None or lerf_auc is None or "random" in observed.curves else lerf_auc - auc


def _pointing(observed: Observed) -> float | None:
    return None if observed.points is None else float(observed.points)


@dataclass(frozen=True)
class Metric:
    """A number per image and method; docs/evaluation.md has the formulas.

    `name` is its key in JSON and CSV, `heading` its column in the table of its `group`, which is the measure that
    --measure names. `better` is lower or higher, or empty for a guard: methods are not ranked by that. `note` says for
    people what it is. The formula gives None where it was not measured. `spread`: the table has quantiles.
    """

    name: str
    heading: str
    group: str
    better: str
    formula: Callable[[Observed], float | None]
    note: str = ""
    spread: bool = False


def _value(name: str, heading: str, group: str, better: str, note: str, *, spread: bool = False) -> Metric:
    """A metric that is measured on the map itself."""
    return Metric(name, heading, group, better, lambda observed: observed.values.get(name), note, spread)


PERTURBATION, LOCALISATION, CLASS, KEPT = "perturbation", "localisation", "class", "kept"
GROUND_TRUTH, FOCUS, RANDOMISE, COMPLEXITY = "ground-truth", "focus", "randomise", "complexity"
METRICS = {
    metric.name: metric
    for metric in (
        Metric("auc", "AUC", PERTURBATION, "lower", lambda observed: observed.mean("morf")),
        Metric("aopc", "AOPC", PERTURBATION, "higher", _aopc),
        Metric("lerf_auc", "LeRF", PERTURBATION, "higher", lambda observed: observed.mean("lerf")),
        Metric("abpc", "ABPC", PERTURBATION, "higher", _abpc),
        Metric("pointing", "point", LOCALISATION, "higher", _pointing, "the map's maximum is in a box."),
        Metric("share", "inside", LOCALISATION, "higher", lambda observed: observed.share,
               "share of positive relevance there."),
        _value("mass", "mass", GROUND_TRUTH, "higher", "the share of positive relevance in the mask."),
        _value("rank", "rank", GROUND_TRUTH, "higher", "that of the most relevant pixels, as many as it has."),
        _value("class_second", "second", CLASS, "", "the mean cosine of a map with that of the second class."),
        _value("class_random", "random", CLASS, "", "with that of a random class."),
        _value("class_second_abs", "|second|", CLASS, "", "of absolute values."),
        _value("class_random_abs", "|random|", CLASS, "", "of absolute values."),
        _value("kept", "median", KEPT, "", "the sum of a map over its start, with 10 and 90 % quantiles.", spread=True),
        _value("wrong_sign", "wrong sign", KEPT, "", "the share of maps whose sum has the other sign."),
        _value("focus", "focus", FOCUS, "higher", "the share of positive relevance in the class's own cells."),
        _value("entropy", "entropy", RANDOMISE, "", "the change of a map's entropy when all parameters are reset."),
        _value("last_layer", "last layer", RANDOMISE, "",
               "Spearman's correlation with the map when the last layer is reset."),
        _value("gini", "Gini", COMPLEXITY, "", "0 for an even map, 1 for a single pixel."),
    )
}  # fmt: skip
"""AUC and AOPC are those of MoRF, or of the random order."""
MAIN = {PERTURBATION: ("abpc", "auc", "lerf_auc"), LOCALISATION: ("share",), GROUND_TRUTH: ("mass",), FOCUS: ("focus",)}
"""The metrics of a group by which methods are compared: the first that was measured."""


def in_group(group: str) -> list[Metric]:
    """The metrics of a group, in the order of the table."""
    return [metric for metric in METRICS.values() if metric.group == group]


VALUES = {
    group: tuple(metric.name for metric in in_group(group))
    for group in (GROUND_TRUTH, CLASS, KEPT, FOCUS, RANDOMISE, COMPLEXITY)
}
"""Measure -> the names of what is measured for it on maps."""
