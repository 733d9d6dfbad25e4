"""Where relevance goes on its way from the score to the pixels: a row for each layer, for people."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrpcli.lrp.channels import FIRST, channel_axes
from lrpcli.lrp.explainer import Explainer

INPUT = "input"
STRONGEST = 5
"""Channels that a row names."""
COLUMNS = ("layer", "kind", "rule", "total", "absorbed", "kept", "positive", "negative", "channels")


@dataclass(frozen=True)
class LayerFlow:
    """The relevance of one layer's output for one map, in units of the start value.

    `name`, `kind` and `rule` are the layer's as in `lrp configs show --model`; the last row is the input, the map.
    `total` is the sum of the relevance at the layer's output: of layers on parallel branches each has its part of the
    whole. `positive` and `negative` are the sums of what speaks for the class and against it. `absorbed` is what the
    layer did not hand on to its inputs, as its bias and its stabiliser took it; negative where they added to it.
    `kept` is the share of the start that is left below the layer: 1 less what this layer and all above it absorbed; at
    the input, the kept share of the map. None for starts that are not a score of the class. `channels` are the output's
    channels with the largest sums of positive relevance and those sums, at most STRONGEST; empty where the order of the
    axes is not known.

    >>> import lrpcli
    >>> rows = lrpcli.explain("cat.jpg", "cifar10").layer_table()
    >>> rows[0].kind, rows[-1].name, [row.rule for row in rows if row.kind == "lrn"]
    ('fully-connected', 'input', ['taylor', 'taylor'])
    """

    name: str
    kind: str
    rule: str
    total: float
    absorbed: float
    kept: float | None
    positive: float
    negative: float
    channels: tuple[tuple[int, float], ...]


def flow_of(
    explainer: Explainer,
    relevance: NDArray[np.float32],
    layers: Mapping[str, NDArray[np.float32]],
    absorbed: Mapping[str, float],
    start: float | None,
) -> list[LayerFlow]:
    """A row for each layer that relevance reached, from the logits down to the input.

    `relevance` (C, h, w) is the map, `layers` that of each layer's output by its name and `absorbed` what it absorbed,
    as an Explainer gives them for one class of one image; `start` is what the shares are shares of, or None.
    """
    axes = channel_axes(explainer.graph)
    rows: list[LayerFlow] = []
    gone = 0.0
    for assignment, axis in reversed(list(zip(explainer.assignments[1:], axes[1:], strict=True))):
        name, kind = assignment.layer.name, assignment.layer.kind
        if name in layers:
            gone += absorbed[name]
            kept = 1 - gone / start if start else None
            rows.append(_row((name, kind, assignment.rule_name), layers[name], axis, absorbed[name], kept))
    kept = kept_share(relevance, start) if start else None
    return [*rows, _row((INPUT, INPUT, ""), relevance, FIRST, 0.0, kept)]


def _row(
    texts: tuple[str, str, str], values: NDArray[np.float32], axis: int | None, absorbed: float, kept: float | None
) -> LayerFlow:
    positive, negative = (float(part.sum(dtype=np.float64)) for part in (values.clip(min=0), values.clip(max=0)))
    return LayerFlow(*texts, positive + negative, absorbed, kept, positive, negative, _strongest(values, axis))


def _strongest(values: NDArray[np.float32], axis: int | None) -> tuple[tuple[int, float], ...]:
    """The channels with the most positive relevance, and how much they have."""
    if axis is None and values.ndim > 1:
        return ()
    by_channel = np.moveaxis(values, FIRST if axis is None else axis, 0).reshape(values.shape[axis or FIRST], -1)
    sums = by_channel.clip(min=0).sum(1, dtype=np.float64)
    best = np.argsort(-sums, kind="stable")[:STRONGEST]
    return tuple((int(channel), float(sums[channel])) for channel in best if sums[channel] > 0)


def kept_share(relevance: NDArray[np.float32], start: float) -> float | None:
    """Sum of a map / what the backward pass began with; None where that is zero."""
    return float(relevance.sum(dtype=np.float64)) / float(start) if start else None


def flow_csv(rows: Sequence[LayerFlow]) -> bytes:
    """The rows as the content of a CSV file, UTF-8; channels as "12:0.53 40:0.31", what is not known empty.

    >>> from lrpcli.pipeline.layer_flow import LayerFlow, flow_csv
    >>> row = LayerFlow("fc", "fully-connected", "epsilon", 2.0, 0.5, 0.75, 3.0, -1.0, ((1, 2.5), (0, 0.5)))
    >>> print(flow_csv([row]).decode(), end="")
    layer,kind,rule,total,absorbed,kept,positive,negative,channels
    fc,fully-connected,epsilon,2,0.5,0.75,3,-1,1:2.5 0:0.5
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for row in rows:
        numbers = (row.total, row.absorbed, row.kept, row.positive, row.negative)
        channels = " ".join(f"{channel}:{amount:.6g}" for channel, amount in row.channels)
        texts = ("" if number is None else f"{number:.6g}" for number in numbers)
        lines.writerow((row.name, row.kind, row.rule, *texts, channels))
    return text.getvalue().encode("utf-8", "backslashreplace")
