"""The record of an image that was evaluated: what was measured under every method."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lrpcli.evaluation.metrics import METRICS, Curve, Observed
from lrpcli.records.json_values import Fields, as_number, as_share
from lrpcli.records.record import Record

DIGITS = 8
"""Decimals of the score that --json prints: far finer than float32 gives a softmax."""
LARGEST = float(np.finfo(np.float32).max)
Localisation = tuple[bool, float | None]
"""Whether a map points inside a box, and the share of its positive relevance there."""


@dataclass(frozen=True, kw_only=True)
class Measurement(Record):
    """Curves of one image: method -> order (morf, lerf or random) -> scores at steps 0..L, (L + 1,).

    `target` is the predicted class, which is explained and scored. With boxes: `area` is their share of what the model
    saw, and `localisation` holds by method whether it points inside and which share of its relevance lies inside.
    With a mask: `mask` is the hash of its file, and `mask_area` its share, None where it is empty. `values`: method ->
    what was measured on its map, by the name of the metric. `score` is that of the image as it is.
    """

    target: int
    label: str
    curves: Mapping[str, Mapping[str, Curve]]
    area: float | None = None
    localisation: Mapping[str, Localisation] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    mask: str | None = None
    mask_area: float | None = None
    first: float | None = None
    """The score of the image where there are no curves."""
    note: str = ""
    """What the decoder printed."""

    @property
    def score(self) -> float:
        """The score of the image as it is."""
        return self.first if self.first is not None else float(next(iter(next(iter(self.curves.values())).values()))[0])

    def metrics(self, method: str) -> dict[str, float | None]:
        """Each of METRICS, None where it was not measured."""
        points, share = self.localisation.get(method, (None, None))
        observed = Observed(self.curves.get(method, {}), self.score, points, share, self.values.get(method, {}))
        return {name: metric.formula(observed) for name, metric in METRICS.items()}

    def as_json(self) -> dict[str, object]:
        """See Record; scores in full, so that a run that goes on reports the same numbers."""
        return {
            **super().as_json(),
            "target": self.target,
            "label": self.label,
            "area": self.area,
            "localisation": {method: list(values) for method, values in self.localisation.items()},
            "curves": {
                method: {order: curve.tolist() for order, curve in curves.items()}
                for method, curves in self.curves.items()
            },
            "values": {method: dict(values) for method, values in self.values.items()},
            **({} if self.mask is None else {"mask": self.mask, "mask_area": self.mask_area}),
            **({} if self.first is None else {"score": self.first}),
            **({"note": self.note} if self.note else {}),
        }

    def as_shown(self) -> dict[str, object]:
        """The numbers of each method, without the curves."""
        values = self.as_json()
        first = {key: values[key] for key in ("type", "input", "status", "target", "label")}
        return {
            **first, "score": round(self.score, DIGITS), "area": self.area, "mask_area": self.mask_area,
            "seconds": self.seconds,
            "methods": {method: self.metrics(method) for method in (self.curves or self.values)},
        }  # fmt: skip

    @classmethod
    def from_json(cls, fields: Fields) -> "Measurement":
        """See Record."""
        curves, localisation = fields.inner("curves"), fields.inner("localisation")
        first = None if fields.get("score") is None else fields.number("score")
        if not curves.values and first is None:
            raise ValueError("'curves' is empty")
        values = fields.inner("values")
        return cls(
            **vars(Record.from_json(fields)),
            target=fields.whole("target"),
            label=fields.text("label"),
            curves={method: _curves(curves.inner(method)) for method in curves.values},
            area=None if fields.get("area") is None else as_share(fields.get("area"), "area"),
            localisation={method: _localisation(localisation.items(method)) for method in localisation.values},
            values={method: _values(values.inner(method)) for method in values.values},
            mask=None if fields.get("mask") is None else fields.text("mask"),
            mask_area=None if fields.get("mask_area") is None else as_share(fields.get("mask_area"), "mask_area"),
            first=first,
            note=fields.text("note") if fields.get("note") is not None else "",
        )


def _curves(orders: Fields) -> dict[str, Curve]:
    found = {order: np.array([as_number(value, order) for value in orders.items(order)]) for order in orders.values}
    lengths = {len(curve) for curve in found.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError("the curves of a method are not of one length")
    if any(abs(curve).max() > LARGEST for curve in found.values()):
        raise ValueError("the scores of a method are larger than float32 has any")
    return found


def _values(fields: Fields) -> dict[str, float | None]:
    found = {name: None if value is None else as_number(value, name) for name, value in fields.values.items()}
    if any(value is not None and abs(value) > LARGEST for value in found.values()):
        raise ValueError("'values' are larger than float32 has any")
    return found


def _localisation(values: list[object]) -> Localisation:
    if len(values) != 2 or not isinstance(values[0], bool):
        raise ValueError("'localisation' is not whether a map points inside and a share")
    return values[0], None if values[1] is None else as_share(values[1], "localisation")
