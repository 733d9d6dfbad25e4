"""Factors that a net computes from how large a signal is, as normalisations by hand do: they count as constants.

Root mean square, standard deviation and norms over axes, and what is made of them by roots, quotients and means; as for
the layers of torch.nn that normalise, relevance goes to what they divide or multiply [A22].
"""

import torch

from lrpcli.lrp.layers.elementwise import Activation, Affine, Factor, Sum, is_unchanged
from lrpcli.lrp.layers.products import Deviation, Quotient, Silent, Softmax
from lrpcli.lrp.layers.reductions import Mean
from lrpcli.lrp.layers.views import View
from lrpcli.lrp.tracing.gates import PROBES, values_at_probes
from lrpcli.lrp.tracing.graph import Layer

SMALLEST = 1e-30
POSITIVE = tuple(probe for probe in PROBES if probe > 0)


def is_normaliser(layers: list[Layer], index: int, signal: int) -> bool:
    """Whether a layer is a positive measure of the size of a signal; less its mean or not, in either."""
    measured = _measured(layers, index)
    return measured is not None and {_whole(layers, each) for each in measured} == {_whole(layers, signal)}


def is_measure(layers: list[Layer], index: int) -> bool:
    """Whether a layer is a positive measure of the size of signals."""
    return _measured(layers, index) is not None


def _measured(layers: list[Layer], index: int) -> set[int] | None:
    """The signals whose sizes a layer is made of; None if it is anything else, or may be negative."""
    layer = layers[index]
    if isinstance(layer.operation, Deviation):
        return set(layer.inputs)
    if isinstance(layer.operation, Mean) and _is_square(layers, layer.inputs[0]):
        return set(layers[layer.inputs[0]].inputs)
    if not layer.inputs or not _keeps_positive(layer):
        return None
    found = [_measured(layers, source) for source in layer.inputs]
    return None if None in found else set().union(*(part for part in found if part is not None))


def _keeps_positive(layer: Layer) -> bool:
    """Whether a layer makes something positive of positive inputs, whatever they are."""
    operation = layer.operation
    if isinstance(operation, (View, Mean, Quotient)) or is_unchanged(operation):
        return True
    if isinstance(operation, Sum):
        return min(operation.signs) > 0 and operation.fixed == 0 and _at_least(operation.constant, 0.0)
    if isinstance(operation, Affine):
        return _at_least(operation.scale, SMALLEST) and _at_least(operation.shift, 0.0)
    if not isinstance(operation, (Activation, Silent)) or isinstance(operation, Softmax) or layer.scalars:
        return False
    return bool((operation.run(torch.tensor(POSITIVE).view(1, 1, 1, -1))[0] > 0).all())


def _at_least(value: Factor | None, least: float) -> bool:
    """Whether all numbers of a constant are known and as large; None is 0."""
    numbers = torch.as_tensor(0.0 if value is None else value)
    return not numbers.is_meta and bool((numbers >= least).all())


def _is_square(layers: list[Layer], index: int) -> bool:
    """Whether a layer is the square of its input."""
    inputs = set(layers[index].inputs)
    values = values_at_probes(layers, inputs.pop(), index) if len(inputs) == 1 else None
    return values is not None and torch.allclose(values, torch.tensor(PROBES).square())


def _whole(layers: list[Layer], signal: int) -> int:
    """What a signal was before its own mean over axes was subtracted from it, or itself."""
    layer = layers[signal]
    if not isinstance(layer.operation, Sum) or layer.operation.signs != (1.0, -1.0):
        return signal
    whole, mean = layer.inputs
    return whole if isinstance(layers[mean].operation, Mean) and layers[mean].inputs == (whole,) else signal
