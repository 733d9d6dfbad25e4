"""The factor of global response normalisation: how large the norm of each channel is beside that of the others.

x is multiplied by ||x|| / (mean of ||x|| + eps), or by 1 plus a multiple of that (Woo et al. 2023). It measures an
image by itself, as the deviation of a LayerNorm does, and counts as a constant for the same reason [A22]: all relevance
goes to x.
"""

import torch

from lrpcli.lrp.layers.elementwise import Affine, Factor, Sum, is_unchanged
from lrpcli.lrp.layers.products import Norm, Quotient
from lrpcli.lrp.layers.reductions import Mean
from lrpcli.lrp.layers.views import View
from lrpcli.lrp.tracing.graph import Layer

SMALLEST = 1e-30


def is_response(layers: list[Layer], index: int, signal: int) -> bool:
    """Whether a layer is a positive quotient of norms of a signal, or a positive multiple of that plus a constant."""
    layer = layers[index]
    if isinstance(layer.operation, Quotient):
        return all(_measured(layers, part) == signal for part in layer.inputs)
    return _keeps_positive(layer) and all(is_response(layers, source, signal) for source in layer.inputs)


def is_size(layers: list[Layer], index: int) -> bool:
    """Whether a layer is a norm of a signal over axes, or a mean of such norms plus a constant."""
    return _measured(layers, index) is not None


def _measured(layers: list[Layer], index: int) -> int | None:
    """The signal whose norm a layer is made of; None if it is anything else, or may be negative."""
    layer = layers[index]
    if isinstance(layer.operation, Norm):
        return layer.inputs[0]
    return _measured(layers, layer.inputs[0]) if _keeps_positive(layer) else None


def _keeps_positive(layer: Layer) -> bool:
    """Whether a layer makes something positive of one positive input, and of nothing else."""
    operation = layer.operation
    if len(layer.inputs) != 1:
        return False
    if isinstance(operation, Sum):
        return min(operation.signs) > 0 and operation.fixed == 0 and _is_at_least(operation.constant, 0.0)
    if isinstance(operation, Affine):
        return _is_at_least(operation.scale, SMALLEST) and _is_at_least(operation.shift, 0.0)
    return isinstance(operation, (View, Mean)) or is_unchanged(operation)


def _is_at_least(value: Factor | None, least: float) -> bool:
    """Whether all numbers of a constant are known and as large; None is 0."""
    numbers = torch.as_tensor(0.0 if value is None else value)
    return not numbers.is_meta and bool((numbers >= least).all())
