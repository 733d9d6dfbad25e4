"""Convolutions and fully connected layers, and their relevance rules (SPEC section 2).

Notation: z_ij = w_ij x_i, z_j = sum_i z_ij + b_j; v+ = max(v, 0), v- = min(v, 0). `apply` maps inputs to outputs
with any weight of the layer's shape, `spread` is its transpose: sum_j w_ij g_j for every input i.
"""

import copy
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lrpcli.lrp.operation import Operation, Relevances, Rule, Step, safe_divide, stabilise


class LinearOperation(Operation):
    """A layer z = W x + b. Weight variants are prepared once, on first use, and kept."""

    default_rule = "epsilon"
    weight: Tensor
    bias: Tensor | None

    @abstractmethod
    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Outputs (N, D, ...) of inputs (N, C, ...) for a weight of the layer's shape."""

    @abstractmethod
    def spread(self, gradient: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """The transpose of `apply`: (N, D, ...) back to inputs of `shape` (N, C, ...)."""

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """z, before any activation."""
        return self.apply(inputs[0], self.weight, self.bias), None

    @abstractmethod
    def with_parameters(self, weight: Tensor, bias: Tensor) -> "LinearOperation":
        """The same geometry with the numbers of this layer and the BatchNorm behind it."""

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Moves weight and bias and forgets the prepared variants."""
        self.weight = self.weight.to(device, dtype)
        self.bias = None if self.bias is None else self.bias.to(device, dtype)
        for name in ("positive", "negative", "squared", "ones"):
            self.__dict__.pop(name, None)

    @cached_property
    def positive(self) -> Tensor:
        """w+."""
        return self.weight.clamp(min=0)

    @cached_property
    def negative(self) -> Tensor:
        """w-."""
        return self.weight.clamp(max=0)

    @cached_property
    def squared(self) -> Tensor:
        """w^2."""
        return self.weight.square()

    @cached_property
    def ones(self) -> Tensor:
        """1 for every connection."""
        return torch.ones_like(self.weight)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """Shape in which the bias is added to an output (N, D, ...)."""
        raise NotImplementedError

    def bias_part(self, treatment: str, part: str = "whole") -> Tensor | float:
        """The bias, or its positive or negative part, as the denominator holds it; 0 when it is ignored."""
        if self.bias is None or treatment == "ignore":
            return 0.0
        limits = {"whole": {}, "positive": {"min": 0}, "negative": {"max": 0}}[part]
        bias = self.bias.clamp(**limits) if limits else self.bias
        return bias.view(self.bias_shape)

    def positive_sum(self, x: Tensor, nonnegative: bool) -> Tensor:
        """sum_i z+_ij, without the bias: one application where inputs are known to be >= 0, else two."""
        if nonnegative:
            return self.apply(x, self.positive)
        return self.apply(x.clamp(min=0), self.positive) + self.apply(x.clamp(max=0), self.negative)

    def spread_parts(self, x: Tensor, positive: Tensor, negative: Tensor, nonnegative: bool) -> Tensor:
        """sum_j z+_ij p_j + z-_ij n_j for every input i: relevance from shares p and n per unit of z+ and z-."""
        through = self.spread(positive, self.positive, x.shape) + self.spread(negative, self.negative, x.shape)
        if nonnegative:
            return x * through
        crossed = self.spread(positive, self.negative, x.shape) + self.spread(negative, self.positive, x.shape)
        return torch.where(x >= 0, x * through, x * crossed)


class Convolution(LinearOperation):
    """Convolution of one, two or three dimensions, transposed or not, with stride, padding, dilation and groups."""

    kind = "convolution"

    def __init__(self, layer: Any, padding: tuple[int, ...]) -> None:
        self.weight = layer.weight.detach()
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.stride, self.padding, self.dilation, self.groups = layer.stride, padding, layer.dilation, layer.groups
        self.transposed, self.output_padding = layer.transposed, layer.output_padding
        self.channels = layer.in_channels

    def with_parameters(self, weight: Tensor, bias: Tensor) -> "Convolution":
        """See LinearOperation."""
        result = copy.copy(self)
        result.weight, result.bias = weight, bias
        return result

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """See LinearOperation; on a processor, with channels last, in which every layer from here on then computes."""
        super().to(device, dtype)
        if device.type == "cpu" and self.weight.dim() == 4:
            self.weight = self.weight.contiguous(memory_format=torch.channels_last)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """See LinearOperation."""
        return torch.convolution(
            x, weight, bias, self.stride, self.padding, self.dilation, self.transposed, self.output_padding, self.groups
        )

    def spread(self, gradient: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """See LinearOperation; the library's own backward-data kernel, which only reads the input's shape."""
        template = gradient.new_empty(1).expand(shape)
        result: Tensor = torch.ops.aten.convolution_backward(
            gradient, template, weight, None, self.stride, self.padding, self.dilation, self.transposed,
            self.output_padding, self.groups, [True, False, False],
        )[0]  # fmt: skip
        return result

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """(D, 1, ...), for outputs (N, D, ...)."""
        return (-1,) + (1,) * (self.weight.dim() - 2)

    def describe(self) -> str:
        """Geometry for the layer table."""
        size = "x".join(map(str, self.weight.shape[2:]))
        outputs = self.weight.shape[1] * self.groups if self.transposed else self.weight.shape[0]
        text = f"{self.channels}->{outputs} {size} stride {_short(self.stride)} pad {_short(self.padding)}"
        text += f" dilation {_short(self.dilation)}" if any(d != 1 for d in self.dilation) else ""
        return text + (f" groups {self.groups}" if self.groups > 1 else "")


class FullyConnected(LinearOperation):
    """Fully connected layer over the last axis: (N, ..., C) to (N, ..., D)."""

    kind = "fully-connected"
    folded = False

    def __init__(self, layer: nn.Linear) -> None:
        self.weight = layer.weight.detach()
        self.bias = None if layer.bias is None else layer.bias.detach()

    def with_parameters(self, weight: Tensor, bias: Tensor) -> "FullyConnected":
        """See LinearOperation."""
        result = copy.copy(self)
        result.weight, result.bias, result.folded = weight, bias, True
        return result

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """See LinearOperation; ValueError where a folded BatchNorm does not run over the last axis."""
        if self.folded and inputs[0].dim() != 2:
            raise ValueError("a BatchNorm was folded into it, which works for inputs (N, C) alone")
        return super().run(*inputs)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """See LinearOperation."""
        return functional.linear(x, weight, bias)

    def spread(self, gradient: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """See LinearOperation."""
        return gradient @ weight

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """(D,)."""
        return (-1,)

    def describe(self) -> str:
        """Sizes for the layer table."""
        return f"{self.weight.shape[1]}->{self.weight.shape[0]}"


def _short(sizes: tuple[int, ...]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))


@dataclass(frozen=True)
class Epsilon(Rule):
    """R_i = sum_j z_ij / (z_j + epsilon sign(z_j)) R_j [B15]; epsilon 0 is LRP-0."""

    keeps = frozenset({"inputs", "output"})
    epsilon: float = 0.01
    bias: str = "absorb"

    def relevance(self, step: Step, relevance: Tensor) -> Relevances:
        """One application of the transpose."""
        (x,) = step.inputs
        return (x * _epsilon_spread(step, relevance, self.epsilon, self.bias),)


def _epsilon_spread(step: Step, relevance: Tensor, epsilon: float, bias: str) -> Tensor:
    """sum_j w_ij R_j / (z_j + epsilon sign(z_j)) for every input i."""
    layer, total = step.operation, step.output
    assert total is not None
    if bias == "ignore":
        total = total - layer.bias_part("absorb")
    share = safe_divide(relevance, stabilise(total, epsilon))
    spread: Tensor = layer.spread(share, layer.weight, step.shapes[0])
    return spread


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """R_i = sum_j (alpha z+_ij / z+_j - beta z-_ij / z-_j) R_j, alpha = 1 + beta [B15]; a zero sum drops its half."""

    keeps = frozenset({"inputs", "output"})
    beta: float = 1.0
    bias: str = "absorb"

    def relevance(self, step: Step, relevance: Tensor) -> Relevances:
        """One application for z+ (z- = z - z+) and two of the transpose, for inputs that are >= 0."""
        (x,), layer = step.inputs, step.operation
        bare = layer.positive_sum(x, step.nonnegative)
        positive = safe_divide(relevance * (1 + self.beta), bare + layer.bias_part(self.bias, "positive"))
        if self.beta == 0:
            return (_spread_positive(layer, x, positive, step.nonnegative),)
        assert step.output is not None
        rest = (step.output - layer.bias_part("absorb") - bare).clamp_(max=0)
        negative = safe_divide(relevance * -self.beta, rest + layer.bias_part(self.bias, "negative"))
        return (layer.spread_parts(x, positive, negative, step.nonnegative),)


@dataclass(frozen=True)
class ZPlus(Rule):
    """Alpha-beta with beta = 0: R_i = sum_j z+_ij / z+_j R_j, negative inputs included."""

    keeps = frozenset({"inputs"})
    bias: str = "absorb"

    def relevance(self, step: Step, relevance: Tensor) -> Relevances:
        """See AlphaBeta."""
        return AlphaBeta(0.0, self.bias).relevance(step, relevance)


def _spread_positive(layer: LinearOperation, x: Tensor, share: Tensor, nonnegative: bool) -> Tensor:
    """sum_j z+_ij p_j for every input i."""
    through = layer.spread(share, layer.positive, x.shape)
    if nonnegative:
        return x * through
    return torch.where(x >= 0, x * through, x * layer.spread(share, layer.negative, x.shape))


@dataclass(frozen=True)
class Gamma(Rule):
    """Generalised gamma [A21]: z_j >= 0 favours z+ (z_ij + gamma z+_ij), z_j < 0 favours z- (z_ij + gamma z-_ij)."""

    keeps = frozenset({"inputs", "output"})
    gamma: float = 0.25
    bias: str = "absorb"

    def relevance(self, step: Step, relevance: Tensor) -> Relevances:
        """One application and two of the transpose, for inputs that are >= 0."""
        (x,), layer, total = step.inputs, step.operation, step.output
        assert total is not None
        bare = layer.positive_sum(x, step.nonnegative)
        upper = bare + layer.bias_part(self.bias, "positive")
        whole = total if self.bias == "absorb" else total - layer.bias_part("absorb")
        lower = (whole - upper).clamp_(max=0)
        up = whole >= 0
        share = safe_divide(relevance, whole + self.gamma * torch.where(up, upper, lower))
        favoured = share * (1 + self.gamma)
        positive, negative = torch.where(up, favoured, share), torch.where(up, share, favoured)
        return (layer.spread_parts(x, positive, negative, step.nonnegative),)


@dataclass(frozen=True)
class Flat(Rule):
    """Equal share to every input inside the image; padding gets none."""

    def relevance(self, step: Step, relevance: Tensor) -> Relevances:
        """R_i = sum over j in reach of i of R_j / number of inputs of j."""
        return (_by_weight(step, relevance, step.operation.ones),)


@dataclass(frozen=True)
class WSquare(Rule):
    """R_i = sum_j w_ij^2 / sum_i w_ij^2 R_j; padding gets none."""

    def relevance(self, step: Step, relevance: Tensor) -> Relevances:
        """Shares by squared weight."""
        return (_by_weight(step, relevance, step.operation.squared),)


def _by_weight(step: Step, relevance: Tensor, weight: Tensor) -> Tensor:
    """Shares in proportion to a weight alone, the same for every image of the batch."""
    shape = step.shapes[0]
    sums = step.operation.apply(weight.new_ones((1, *shape[1:])), weight)
    spread: Tensor = step.operation.spread(safe_divide(relevance, sums.expand_as(relevance)), weight, shape)
    return spread


@dataclass(frozen=True, eq=False)
class ZBox(Rule):
    """Shares (x_i w_ij - l_i w+_ij - h_i w-_ij) / sum_i(...) for inputs between l and h [M17].

    `low` and `high` broadcast to an input (1, C, H, W); they are the model's pixel range, preprocessed.
    """

    keeps = frozenset({"inputs"})
    low: Tensor | None = None
    high: Tensor | None = None

    def relevance(self, step: Step, relevance: Tensor) -> Relevances:
        """The bounds are the same for every image, so their part of the denominator is computed for one."""
        (x,), layer = step.inputs, step.operation
        assert self.low is not None and self.high is not None
        low = self.low.to(x).expand(1, *x.shape[1:])
        high = self.high.to(x).expand(1, *x.shape[1:])
        constant = layer.apply(low, layer.positive) + layer.apply(high, layer.negative)
        share = safe_divide(relevance, layer.apply(x, layer.weight) - constant)
        return (
            x * layer.spread(share, layer.weight, x.shape)
            - low * layer.spread(share, layer.positive, x.shape)
            - high * layer.spread(share, layer.negative, x.shape),
        )


@dataclass(frozen=True)
class Sign(Rule):
    """R_i = sign(x_i) sum_j w_ij R_j / (z_j + epsilon sign(z_j)), for the input layer; sign(0) = +1."""

    keeps = frozenset({"inputs", "output"})
    epsilon: float = 0.01
    bias: str = "absorb"

    def relevance(self, step: Step, relevance: Tensor) -> Relevances:
        """The epsilon rule with the sign of the input in place of the input."""
        (x,), spread = step.inputs, _epsilon_spread(step, relevance, self.epsilon, self.bias)
        return (torch.where(x >= 0, spread, -spread),)


@dataclass(frozen=True)
class GradientTimesInput(Rule):
    """x_i sum_j w_ij R_j: with `gradient` in every later layer, gradient times input. Not a relevance."""

    keeps = frozenset({"inputs"})

    def relevance(self, step: Step, relevance: Tensor) -> Relevances:
        """One application of the transpose."""
        (x,), layer = step.inputs, step.operation
        return (x * layer.spread(relevance, layer.weight, x.shape),)


RULES: dict[str, type[Rule]] = {
    "epsilon": Epsilon,
    "alpha-beta": AlphaBeta,
    "z-plus": ZPlus,
    "gamma": Gamma,
    "flat": Flat,
    "w-square": WSquare,
    "z-box": ZBox,
    "sign": Sign,
    "gradient-times-input": GradientTimesInput,
}
