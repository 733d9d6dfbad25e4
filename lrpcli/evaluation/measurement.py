"""What was measured on one image, the numbers drawn from it, and its line in the journal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

METRICS = ("auc", "aopc", "lerf_auc", "abpc", "pointing", "share")
"""AUC and AOPC are those of MoRF, or of the random order; docs/evaluation.md has the formulas."""
DIGITS = 8
"""Decimals of a score in the journal: far finer than float32 gives a softmax."""

Curve = NDArray[np.float64]


@dataclass
class Measured:
    """Curves of one image: method -> order (morf, lerf or random) -> scores at steps 0..L, (L + 1,).

    `target` is the predicted class, which is explained and scored. With boxes: `area` is their share of what the model
    saw, and `localisation` holds by method whether it points inside and which share of its relevance lies inside.
    """

    input: str
    target: int
    label: str
    curves: dict[str, dict[str, Curve]]
    area: float | None = None
    localisation: dict[str, tuple[bool, float | None]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def score(self) -> float:
        """The score of the image as it is."""
        return float(next(iter(next(iter(self.curves.values())).values()))[0])

    def metrics(self, method: str) -> dict[str, float | None]:
        """Each of METRICS, None where it was not measured."""
        curves = self.curves[method]
        # A random order backwards is a random order: one curve stands for both.
        morf, lerf = (curves.get(order, curves.get("random")) for order in ("morf", "lerf"))
        auc, lerf_auc = (None if curve is None else float(curve.mean()) for curve in (morf, lerf))
        points, share = self.localisation.get(method, (None, None))
        return {
            "auc": auc,
            "aopc": None if auc is None else self.score - auc,
            "lerf_auc": lerf_auc,
            "abpc": None if auc is None or lerf_auc is None or "random" in curves else lerf_auc - auc,
            "pointing": None if points is None else float(points),
            "share": share,
        }

    def as_row(self) -> dict[str, Any]:
        """JSON values of everything; from_row reads them."""
        return {
            "type": "image",
            "input": self.input,
            "status": "ok",
            "target": self.target,
            "label": self.label,
            "score": round(self.score, DIGITS),
            "area": self.area,
            "localisation": {method: list(values) for method, values in self.localisation.items()},
            "curves": {
                method: {order: [round(float(value), DIGITS) for value in curve] for order, curve in curves.items()}
                for method, curves in self.curves.items()
            },
            "seconds": self.seconds,
        }

    @classmethod
    def from_row(cls, path: str, row: Mapping[str, Any]) -> "Measured":
        """What as_row wrote down of the image at `path`."""
        curves = {
            method: {order: np.array(curve, np.float64) for order, curve in orders.items()}
            for method, orders in row["curves"].items()
        }
        localisation = {method: (values[0], values[1]) for method, values in row["localisation"].items()}
        return cls(path, row["target"], row["label"], curves, row["area"], localisation, row["seconds"])
