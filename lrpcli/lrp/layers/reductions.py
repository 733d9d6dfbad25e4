"""Maxima, sums and means over axes, pooling in one or three dimensions, and linear maps with fixed weights.

Their rules are those of pooling.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lrpcli.lrp.layers.call import FunctionOperation, pull_back
from lrpcli.lrp.operation import Operation


class AnyMaxPool(Operation):
    """Max pooling of any sort; the memo: index of each winner."""

    kind = "max-pool"
    returns_indices = False
    """Whether the traced call returns (values, indices), of which the values alone are known here."""

    def scatter(self, values: Tensor, winners: Tensor, shape: torch.Size) -> Tensor:
        """Each value added to its winner in zeros of `shape`."""
        raise NotImplementedError

    def averaging(self) -> Operation:
        """Average pooling over the same windows, which are not dilated."""
        raise NotImplementedError


class PoolByIndex(AnyMaxPool):
    """Max pooling in one or three dimensions, or over sizes that are read off other tensors.

    `function` gives maxima and their flat indices, as torch's own do; `average` averages over the same windows, None if
    they are dilated.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, Tensor]], average: Callable[..., Tensor] | None) -> None:
        self.function, self.average = function, average

    def settled(self, *scalars: Any) -> "PoolByIndex":
        """See Operation."""
        if not scalars:
            return self
        function, average = self.function, self.average
        return PoolByIndex(lambda x: function(x, *scalars), average and (lambda x: average(x, *scalars)))

    def run(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Maxima (N, C, ...) and their flat indices."""
        return self.function(inputs[0])

    def scatter(self, values: Tensor, winners: Tensor, shape: torch.Size) -> Tensor:
        """Each value added to its winner in zeros of `shape` (N, C, ...)."""
        result = values.new_zeros(shape).flatten(2)
        return result.scatter_add_(2, winners.flatten(2), values.flatten(2)).view(shape)

    def averaging(self) -> "LinearMap":
        """See AnyMaxPool."""
        assert self.average is not None
        return LinearMap(self.average)


class MaxOverAxes(AnyMaxPool):
    """Maximum over axes, or minimum; the memo: place of each winner among the values of its axes."""

    def __init__(self, axes: tuple[int, ...], keep: bool, *, smallest: bool = False) -> None:
        self.axes, self.keep, self.smallest = axes, keep, smallest

    def run(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The maxima, and the place of the first in row-major order."""
        axes = _counted(self.axes, inputs[0].dim())
        values = inputs[0].movedim(axes, _last(axes)).flatten(-len(axes))
        best, winners = values.min(-1) if self.smallest else values.max(-1)
        for axis in axes if self.keep else ():
            best, winners = best.unsqueeze(axis), winners.unsqueeze(axis)
        return best, winners

    def scatter(self, values: Tensor, winners: Tensor, shape: torch.Size) -> Tensor:
        """Each value at its winner in zeros of `shape`."""
        axes = _counted(self.axes, len(shape))
        behind = values.new_zeros(shape).movedim(axes, _last(axes)).contiguous()  # the axes last
        flat = behind.flatten(-len(axes))
        flat.scatter_(-1, winners.reshape(*flat.shape[:-1], 1), values.reshape(*flat.shape[:-1], 1))
        return flat.view(behind.shape).movedim(_last(axes), axes)

    def averaging(self) -> "Mean":
        """See AnyMaxPool."""
        return Mean(self.axes, self.keep)


class LinearMap(FunctionOperation):
    """A linear function with fixed weights: bilinear upsampling, average pooling over one or three dimensions."""

    kind = "average-pool"

    def __init__(self, function: Callable[..., Tensor], *, signed: bool = False) -> None:
        super().__init__(function)
        self.signed = signed

    def settled(self, *scalars: Any) -> "LinearMap":
        """See Operation."""
        function = self.function
        return LinearMap(lambda x: function(x, *scalars), signed=self.signed) if scalars else self

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """The function of the input."""
        return self.function(inputs[0]), None

    def spread(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The transpose of `run`."""
        return pull_back(self.function, gradient, shape)


class Mean(Operation):
    """Mean over axes, as global average pooling is often written."""

    kind = "average-pool"

    def __init__(self, axes: tuple[int, ...], keep: bool) -> None:
        self.axes, self.keep = axes, keep

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """Means over the axes."""
        return inputs[0].mean(self.axes, keepdim=self.keep), None

    def spread(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The transpose of `run`."""
        count = 1
        for axis in _counted(self.axes, len(shape)):
            count *= shape[axis]
            if not self.keep:
                gradient = gradient.unsqueeze(axis)
        return (gradient / count).expand(shape)


class SumOverAxes(Mean):
    """Sum over axes."""

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """Sums over the axes."""
        return inputs[0].sum(self.axes, keepdim=self.keep), None

    def spread(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The transpose of `run`."""
        if not self.keep:
            for axis in _counted(self.axes, len(shape)):
                gradient = gradient.unsqueeze(axis)
        return gradient.expand(shape)


def _counted(axes: tuple[int, ...], dimensions: int) -> list[int]:
    """Axes counted from the front, in order."""
    return sorted(axis % dimensions for axis in axes)


def _last(axes: list[int]) -> list[int]:
    return list(range(-len(axes), 0))
