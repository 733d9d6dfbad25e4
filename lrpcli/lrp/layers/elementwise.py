"""Elementwise layers, what needs no rule of its own (a final softmax, arithmetic on sizes), and the plain gradient."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lrpcli.lrp.operation import Operation, Relevances, Rule, Step, bias_treatment, safe_divide

Factor = Tensor | float


class Activation(Operation):
    """An elementwise activation, dropout, or anything else through which R passes unchanged."""

    kind = "activation"

    def __init__(self, function: Callable[[Tensor], Tensor], nonnegative: bool = False) -> None:
        self.function = function
        self.nonnegative = nonnegative
        """Whether its output is never negative, for any input."""

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """The activation of the input."""
        return self.function(inputs[0]), None

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Copies a module such as PReLU with its parameters."""
        if isinstance(self.function, torch.nn.Module):
            self.function = copy.deepcopy(self.function).to(device, dtype)


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
    """Sum of its tensor inputs, each with a sign, plus a constant."""

    kind = "sum"

    def __init__(self, signs: tuple[float, ...], constant: Factor | None = None) -> None:
        self.signs, self.constant = signs, constant

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """The signed sum."""
        total = inputs[0] if self.signs[0] == 1 else self.signs[0] * inputs[0]
        for sign, addend in zip(self.signs[1:], inputs[1:], strict=True):
            total = total + (addend if sign == 1 else sign * addend)
        return (total if self.constant is None else total + self.constant), None

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Copies a constant tensor."""
        if isinstance(self.constant, Tensor):
            self.constant = self.constant.to(device, dtype, copy=True)


class Product(Operation):
    """Elementwise product of a signal with a gate; `signal` is the index of the signal among the inputs."""

    kind = "product"

    def __init__(self, signal: int) -> None:
        self.signal = signal

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """signal * gate."""
        return inputs[0] * inputs[1], None


class Maximum(Operation):
    """Elementwise maximum of several tensors; the memo: which input won (the first of equals)."""

    kind = "maximum"

    def run(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The maximum and the index of the winning input."""
        best, winner = inputs[0], torch.zeros_like(inputs[0], dtype=torch.uint8)
        for index, challenger in enumerate(inputs[1:], 1):
            wins = challenger > best
            best, winner = torch.where(wins, challenger, best), winner.masked_fill(wins, index)
        return best, winner


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


class Softmax(Operation):
    """A softmax: stripped where it ends the model, refused elsewhere."""

    kind = "softmax"


class Scalar(Operation):
    """Arithmetic on sizes: carries no relevance."""

    kind = "scalar"

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def run(self, *inputs: Any) -> tuple[Any, None]:
        """What the function returns."""
        return self.function(*inputs), None


@dataclass(frozen=True)
class Pass(Rule[Operation]):
    """R unchanged."""

    relevance_at_zero = "passes"

    def relevance(self, step: Step[Operation], relevance: Tensor) -> Relevances:
        """R_i = R_i."""
        return (relevance,)


@dataclass(frozen=True)
class SumRule(Rule[Sum]):
    """The z-rule: R in proportion to the addends; a constant is a bias (its share is lost unless bias = "ignore")."""

    needs = frozenset({"inputs", "output"})
    relevance_at_zero = "zero"
    bias: str = bias_treatment()

    def relevance(self, step: Step[Sum], relevance: Tensor) -> Relevances:
        """R_i = s_i x_i / (sum of addends) R, summed where an addend was broadcast."""
        total, layer = step.output, step.operation
        assert total is not None
        if self.bias == "ignore" and layer.constant is not None:
            total = total - layer.constant
        share = safe_divide(relevance, total)
        return [
            (sign * addend * share).sum_to_size(addend.shape)
            for sign, addend in zip(layer.signs, step.inputs, strict=True)
        ]


@dataclass(frozen=True)
class ProductRule(Rule[Product]):
    """All relevance to the signal, none to the gate."""

    relevance_at_zero = "passes"

    def relevance(self, step: Step[Product], relevance: Tensor) -> Relevances:
        """R to the signal, summed where it was broadcast."""
        signal = step.operation.signal
        return [relevance.sum_to_size(shape) if i == signal else None for i, shape in enumerate(step.shapes)]


@dataclass(frozen=True)
class MaximumRule(Rule[Maximum]):
    """Winner takes all; the first of equals."""

    needs = frozenset({"memo"})
    relevance_at_zero = "passes"

    def relevance(self, step: Step[Maximum], relevance: Tensor) -> Relevances:
        """R where the input won, else 0."""
        winner = step.memo
        assert winner is not None
        return [relevance.where(winner == i, 0.0).sum_to_size(shape) for i, shape in enumerate(step.shapes)]


@dataclass(frozen=True)
class AffineRule(Rule[Affine]):
    """The z-rule of y = scale x + shift: R scale x / y; with bias = "ignore", R unchanged."""

    needs = frozenset({"inputs", "output"})
    bias: str = bias_treatment()

    def relevance(self, step: Step[Affine], relevance: Tensor) -> Relevances:
        """R_i = scale x_i / y_i R_i, summed where the input was broadcast."""
        layer, total = step.operation, step.output
        if self.bias == "ignore" or layer.shift is None:
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
