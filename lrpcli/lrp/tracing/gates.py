"""Which layers are gates, and which are elementwise functions of one signal: what a product asks of its factors."""

import torch
from torch import Tensor

from lrpcli.lrp.layers.elementwise import Activation, Affine, Rescaled, Sum, is_unchanged
from lrpcli.lrp.layers.products import Deviation, Product, Silent, Softmax
from lrpcli.lrp.layers.selection import Maximum, Selection
from lrpcli.lrp.tracing.graph import Layer

ELEMENTWISE = (Activation, Affine, Rescaled, Sum, Product, Silent, Maximum, Selection)
KEEPING = {"view", "concat", "max-pool", "average-pool", "maximum", "product", "affine", "sum", "pad"}
"""Kinds of layers that make a gate of gates: parts and means of gates, 1 - gate, the product of two."""
PROBES = (-1e4, -1e2, -10.0, -3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0, 10.0, 1e2, 1e4)
NEAR = 16
"""How many layers may lie between a gate and the signal that it is a function of."""


def is_gate(layers: list[Layer], index: int) -> bool:
    """Whether a layer opens and shuts: a softmax, any spelling of a (hard) sigmoid, and what is made of such."""
    layer = layers[index]
    operation = layer.operation
    if isinstance(operation, Softmax):
        return not operation.logarithm
    keeps = layer.kind in KEEPING or is_unchanged(operation)
    if keeps and layer.inputs and all(is_gate(layers, source) for source in layer.inputs):
        return True
    return any(
        _opens_and_shuts(values_at_probes(layers, source, index))
        for source in reversed(range(max(0, index - NEAR), index))
    )


def is_function_of(layers: list[Layer], source: int, index: int) -> bool:
    """Whether each value of a layer is a function of the same value of `source` and of nothing else that varies."""
    known = {source}
    for place in range(index + 1):
        layer = layers[place]
        read = [*layer.inputs, *(i for i in layer.scalars if layers[i].kind == "scalar")]
        elementwise = isinstance(layer.operation, ELEMENTWISE) and not isinstance(layer.operation, (Softmax, Deviation))
        fits = layer.kind == "scalar" or (elementwise and layer.inputs)
        if fits and all(i in known for i in read):
            known.add(place)
    return index in known


def values_at_probes(layers: list[Layer], source: int, index: int) -> Tensor | None:
    """What a layer is where `source` is each of PROBES; None if that is no function of numbers alone."""
    if not is_function_of(layers, source, index):
        return None
    values = {source: torch.tensor(PROBES).view(1, 1, 1, -1)}

    def value(place: int) -> Tensor:
        if place not in values:
            layer = layers[place]
            if isinstance(layer.operation, Affine) and layer.operation.per_channel:
                raise ValueError("it differs by channel")
            values[place] = layer.operation.run(*map(value, (*layer.inputs, *layer.scalars)))[0]
        return values[place]

    try:
        found = value(index)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return None
    return found.flatten() if found.shape == values[source].shape else None


def _opens_and_shuts(values: Tensor | None) -> bool:
    """Whether values at PROBES rise or fall between two bounds, neither negative, and lie between them at 0."""
    if values is None or not values.isfinite().all():
        return False
    low, high = float(values.min()), float(values.max())
    span, steps = high - low, values.diff()
    level = bool(steps[[0, -1]].abs().max() <= 0.02 * span)
    monotone = bool((steps >= -1e-6 * span).all() or (steps <= 1e-6 * span).all())
    half_open = low + 0.05 * span < float(values[PROBES.index(0.0)]) < high - 0.05 * span
    return low >= 0 and span > 0 and level and monotone and half_open
