"""The numbers drawn from what was measured on one image under one method: one line a metric."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """What was measured on one image under one method.

    `curves`: order (morf, lerf or random) -> scores at steps 0..L; `score` is that of the image as it is. With boxes:
    whether the map `points` inside one, and the `share` of its positive relevance there; else None.
    """

    curves: Mapping[str, Curve]
    score: float
    points: bool | None = None
    share: float | None = None

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

    `name` is its key in JSON and CSV, `heading` its column in the table of its `group`. `better` is lower or higher,
    `note` a sentence for people. The formula gives None where it was not measured.
    """

    name: str
    heading: str
    group: str
    better: str
    formula: Callable[[Observed], float | None]
    note: str = ""


PERTURBATION, LOCALISATION = "perturbation", "localisation"
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
    )
}  # fmt: skip
"""AUC and AOPC are those of MoRF, or of the random order."""


def in_group(group: str) -> list[Metric]:
    """The metrics of a group, in the order of the table."""
    return [metric for metric in METRICS.values() if metric.group == group]
