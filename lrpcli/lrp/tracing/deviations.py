"""Layer normalisation that is written by hand: which divisor is the standard deviation of what it divides.

It is measured: signal and divisor are computed for random values of the layer that both are made of, and the divisor
must be sqrt(S + eps) or sqrt(S) + eps of the signal's variance or mean square S over axes behind the first.
"""

import math
from itertools import product

import torch
from torch import Tensor

from lrpcli.lrp.layers.elementwise import Activation, Affine, Rescaled, Scalar, Sum
from lrpcli.lrp.layers.products import Product, Silent, Softmax
from lrpcli.lrp.layers.reductions import Mean
from lrpcli.lrp.layers.views import View
from lrpcli.lrp.tracing.graph import Layer

MADE_OF = (Activation, Affine, Rescaled, Scalar, Sum, Product, Silent, Mean, View)
"""What a deviation is made of."""
NEAR = 16
"""How many layers may lie between the two and what they are made of."""
SHAPES = ((3, 6, 5, 4), (3, 5, 6), (3, 6), (3, 4, 3, 5, 2))
SCALES = (1e-3, 1.0, 30.0)
"""Sizes of the random values: an eps shows at the smallest."""
TOLERANCE = 1e-6


def is_deviation(layers: list[Layer], signal: int, divisor: int, *, reciprocal: bool = False) -> bool:
    """Whether a layer is the deviation of a signal, or its `reciprocal`."""
    path = _path(layers, signal, divisor)
    if not any(isinstance(layers[index].operation, (Mean, Silent)) for index in path[1:]):
        return False
    for shape in SHAPES:
        try:
            pairs = [_values(layers, path, scale * _random(shape), (signal, divisor)) for scale in SCALES]
            signals, divisors = (torch.cat(part) for part in zip(*pairs, strict=True))
            return _fits(signals, 1 / divisors if reciprocal else divisors)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):  # made for another shape
            continue
    return False


def _path(layers: list[Layer], *ends: int) -> list[int]:
    """The last layer that all ends are made of, and the layers from there on; nothing if there is none near."""
    path: list[int] = []
    edge = set(ends)
    while len(edge) > 1 and len(path) < NEAR:
        index = max(edge)
        edge.remove(index)
        layer = layers[index]
        if not isinstance(layer.operation, MADE_OF) or isinstance(layer.operation, Softmax):
            return []
        path.append(index)
        edge.update(layer.sources)
    return [*edge, *reversed(path)] if len(edge) == 1 else []


def _values(layers: list[Layer], path: list[int], x: Tensor, ends: tuple[int, int]) -> list[Tensor]:
    """What the ends are where the first layer of the path is x."""
    values = {path[0]: x}
    for index in path[1:]:
        layer = layers[index]
        inputs, scalars = ([values[i] for i in part] for part in (layer.inputs, layer.scalars))
        values[index] = layer.operation.settled(*scalars).run(*inputs, *scalars)[0]
    return [values[index] for index in ends]


def _random(shape: tuple[int, ...]) -> Tensor:
    """Values whose means and deviations differ from place to place, always the same."""
    generator = torch.Generator().manual_seed(0)
    values, sizes = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return values * sizes + 0.3


def _fits(signal: Tensor, divisor: Tensor) -> bool:
    """Whether divisors are deviations of signals (N, ...) over those axes along which they are 1 long."""
    if signal.dim() != divisor.dim() or not bool((divisor > 0).all()):
        return False
    axes = [axis for axis, side in enumerate(divisor.shape) if side == 1 and signal.shape[axis] > 1]
    if not axes or axes[0] == 0 or any(
        divisor.shape[axis] != side for axis, side in enumerate(signal.shape) if axis not in axes
    ):  # fmt: skip
        return False
    count = math.prod(signal.shape[axis] for axis in axes)
    sizes = (signal.var(axes, correction=0, keepdim=True), signal.square().mean(axes, keepdim=True))
    return any(
        _is_size_and_eps(divisor, size * factor, power)
        for size, factor, power in product(sizes, (1.0, count / (count - 1)), (1, 2))
    )


def _is_size_and_eps(divisor: Tensor, size: Tensor, power: int) -> bool:
    """Whether divisor^power is sqrt(size)^power + eps with one eps, zero or larger."""
    sizes = size.sqrt().pow(power)
    eps = float((divisor.pow(power) - sizes).flatten()[size.argmin()])
    expected = (sizes + max(eps, 0.0)).pow(1 / power)
    return bool(((expected - divisor).abs() <= TOLERANCE * divisor).all())
