"""Elementwise layers, arithmetic on sizes, and the plain gradient."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lrpcli.lrp.layers.call import FunctionOperation
from lrpcli.lrp.operation import (
    Operation,
    Relevances,
    Rule,
    Step,
    at_zeros,
    bias_treatment,
    divide_by_nonnegative,
    safe_divide,
)

Factor = Tensor | float


class Activation(FunctionOperation):
    """An elementwise activation, dropout, or anything else through which R passes unchanged."""

    kind = "activation"

    def __init__(self, function: Callable[..., Tensor], nonnegative: bool = False) -> None:
        super().__init__(function)
        self.nonnegative = nonnegative
        """Whether its output is never negative, for any input."""


class Rectifier(Activation):
    """A ReLU."""

    def __init__(self) -> None:
        super().__init__(torch.relu, nonnegative=True)

    def overwrite(self, x: Tensor) -> Tensor:
        """The same, written over the input."""
        return torch.relu_(x)


def unchanged(x: Tensor) -> Tensor:
    """The input: what dropout and its kin do when a model is used."""
    return x


def is_unchanged(operation: Operation | None) -> bool:
    """Whether a layer gives back its input, as dropout does."""
    return isinstance(operation, Activation) and operation.function is unchanged


class Sum(Operation):
    """Sum of its tensor inputs, each with a factor, plus a constant.

    `fixed` is the factor of a further addend without relevance, such as a size or zeros_like; 0 if there is none.
    """

    kind = "sum"

    def __init__(self, signs: tuple[float, ...], constant: Factor | None = None, fixed: float = 0.0) -> None:
        self.signs, self.constant, self.fixed = signs, constant, fixed
        self.signed = fixed != 0

    def run(self, *inputs: Any) -> tuple[Tensor, None]:
        """The sum; the further addend comes behind the tensor inputs."""
        addends, scalars = inputs[: len(self.signs)], inputs[len(self.signs) :]
        total = addends[0] if self.signs[0] == 1 else self.signs[0] * addends[0]
        for sign, addend in zip(self.signs[1:], addends[1:], strict=True):
            total = total + (addend if sign == 1 else sign * addend)
        offset = self.offset(*scalars)
        return (total if offset is None else total + offset), None

    def offset(self, *scalars: Any) -> Factor | None:
        """What is added to the tensor inputs; None for nothing."""
        if self.fixed:
            offset: Factor = self.fixed * scalars[0]
            return offset
        return self.constant

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Copies a constant tensor."""
        if isinstance(self.constant, Tensor):
            self.constant = self.constant.to(device, dtype, copy=True)


class Affine(Operation):
    """y = scale x + shift per channel: a BatchNorm or Scale layer that no neighbour took in, or a constant factor."""

    kind = "affine"

    def __init__(self, scale: Factor, shift: Factor | None = None, *, per_channel: bool = False) -> None:
        self.scale, self.shift, self.per_channel = scale, shift, per_channel

    def broadcast(self, values: Factor, dimensions: int) -> Factor:
        """Scale or shift in the shape that meets (N, C, ...)."""
        if isinstance(values, Tensor) and self.per_channel:
            return values.view(-1, *[1] * (dimensions - 2))
        return values

    def drop_unscaled(self, relevance: Tensor) -> Tensor:
        """Relevance (N, C, ...) of the output without that of elements whose scale is 0: no input is behind them."""
        scale = self.broadcast(self.scale, relevance.dim())
        if isinstance(scale, Tensor):
            return relevance.masked_fill(scale == 0, 0.0)
        return relevance if scale != 0 else torch.zeros_like(relevance)

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """scale x + shift."""
        (x,) = inputs
        product = x * self.broadcast(self.scale, x.dim())
        return (product if self.shift is None else product + self.broadcast(self.shift, x.dim())), None

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Copies scale and shift."""
        self.scale = self.scale.to(device, dtype, copy=True) if isinstance(self.scale, Tensor) else self.scale
        self.shift = self.shift.to(device, dtype, copy=True) if isinstance(self.shift, Tensor) else self.shift


class Rescaled(FunctionOperation):
    """Product with, or quotient by, what carries no relevance: a size, a mask, zeros_like."""

    kind = "affine"


class Scalar(FunctionOperation):
    """What carries no relevance: sizes and arithmetic on them, masks, tensors made in the shape of others."""

    kind = "scalar"


@dataclass(frozen=True)
class Pass(Rule[Operation]):
    """R unchanged."""

    relevance_at_zero = "passes"

    def relevance(self, step: Step[Operation], relevance: Tensor) -> Relevances:
        """R_i = R_i, summed where the input was broadcast, as by torch.maximum with a fixed tensor."""
        return (relevance.sum_to_size(step.shapes[0]),)


@dataclass(frozen=True)
class SumRule(Rule[Sum]):
    """The z-rule: R in proportion to the addends; a constant is a bias, whose share is lost where it is absorbed.

    With bias = "distribute" the addends share it evenly, and so what a bias or epsilon above left at a sum of 0.
    """

    needs = frozenset({"inputs", "output"})
    relevance_at_zero = "zero"
    bias: str = bias_treatment()

    def relevance(self, step: Step[Sum], relevance: Tensor) -> Relevances:
        """R_i = s_i x_i / (sum of addends) R, summed where an addend was broadcast."""
        total, layer = step.output, step.operation
        assert total is not None
        offset = layer.offset(*step.scalars)
        if self.bias == "ignore" and offset is not None:
            total = total - offset
        divide = divide_by_nonnegative if step.rectified and total is step.output else safe_divide
        share = divide(relevance, total)
        even = None
        if self.bias == "distribute":
            taken = at_zeros(relevance, total) + (0.0 if offset is None else offset * share)
            even = taken / len(step.inputs)
        return [
            _part(addend, share if sign == 1 else sign * share, even)
            for sign, addend in zip(layer.signs, step.inputs, strict=True)
        ]


def _part(addend: Tensor, share: Tensor, even: Tensor | None) -> Tensor:
    part = addend * share
    return (part if even is None else part.add_(even)).sum_to_size(addend.shape)


@dataclass(frozen=True)
class AffineRule(Rule[Affine | Rescaled]):
    """The z-rule of y = scale x + shift: R scale x / y; R unchanged unless the shift absorbs its share."""

    needs = frozenset({"inputs", "output"})
    bias: str = bias_treatment()

    def relevance(self, step: Step[Affine | Rescaled], relevance: Tensor) -> Relevances:
        """R_i = scale x_i / y_i R_i, summed where the input was broadcast."""
        layer, total = step.operation, step.output
        if isinstance(layer, Rescaled):
            return (relevance.sum_to_size(step.shapes[0]),)
        if self.bias != "absorb" or layer.shift is None:
            return (layer.drop_unscaled(relevance).sum_to_size(step.shapes[0]),)
        assert total is not None
        (x,) = step.inputs
        share = safe_divide(relevance, total) * layer.broadcast(layer.scale, x.dim())
        return ((x * share).sum_to_size(x.shape),)


@dataclass(frozen=True)
class Gradient(Rule[Operation]):
    """The plain gradient of any layer, for comparison. Not a relevance: it conserves nothing."""

    needs = frozenset({"inputs"})

    def relevance(self, step: Step[Operation], relevance: Tensor) -> Relevances:
        """R times the Jacobian of the layer, by differentiating this one layer."""
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_() for tensor in step.inputs]
            output = step.operation.run(*leaves, *step.scalars)[0]
            return torch.autograd.grad(output, leaves, relevance, allow_unused=True)
