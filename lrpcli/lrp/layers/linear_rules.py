"""Relevance rules of convolutions and fully connected layers (docs/rules.md).

Notation: z_ij = w_ij x_i, z_j = sum_i z_ij + b_j; v+ = max(v, 0), v- = min(v, 0).

Operations dominate the time, so each rule says how many of `apply` and `spread` it needs where inputs are known to be
>= 0, as they are after a ReLU. `Step.rectified` saves more: relevance is zero where the output is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from lrpcli.errors import ConfigError
from lrpcli.lrp.epsilon import Stabilised, is_never_zero, signed, stabilise
from lrpcli.lrp.layers.linear import LinearOperation
from lrpcli.lrp.operation import (
    Relevances,
    Rule,
    Setting,
    Step,
    Surroundings,
    bias_treatment,
    divide_by_nonnegative,
    divide_by_own,
    number,
    safe_divide,
    smallest,
    tensor,
)

LinearStep = Step[LinearOperation]
ROUNDING = 16
"""A negative sum of so many units in the last place of the positive one, or fewer, has no right digit."""


@dataclass(frozen=True)
class WithEpsilon(Stabilised[LinearOperation]):
    """Base of the rules that divide by z_j + epsilon sign(z_j)."""

    needs = frozenset({"inputs", "output"})
    bias: str = bias_treatment()

    def remember(self, operation: LinearOperation, output: Tensor, memo: Tensor | None) -> Tensor | None:
        """The relative epsilon of each image, by z_j before any ReLU; without their biases if those are ignored."""
        epsilon = self.epsilon_for(self._denominators(operation, output)) if self.relative is not None else None
        return epsilon if isinstance(epsilon, Tensor) else None

    def _denominators(self, layer: LinearOperation, output: Tensor) -> Tensor:
        return layer.without_bias(output) if self.bias == "ignore" else output

    def redistribute(self, step: LinearStep, relevance: Tensor, factor: Callable[[Tensor], Tensor]) -> Tensor:
        """sum_j w_ij f_i R_j / (z_j + epsilon sign(z_j)) for every input i, `factor` making f_i of it in place.

        With bias = "distribute", what bias and epsilon take of each output is shared equally by its inputs [Ar17].
        """
        share = self.share(step, relevance)
        result = factor(_spread(step, share, "signed"))
        if self.bias != "distribute":
            return result
        assert step.output is not None
        epsilon = self.epsilon if step.memo is None else step.memo
        assert epsilon is not None
        taken = signed(step.output, epsilon)
        return result.add_(_spread_evenly(step, share * step.operation.with_bias(taken)))

    def share(self, step: LinearStep, relevance: Tensor) -> Tensor:
        """R_j / (z_j + epsilon sign(z_j)) of every output j."""
        assert step.output is not None
        total = self._denominators(step.operation, step.output)
        rectified = step.rectified and self.bias == "absorb"
        epsilon = self.epsilon if step.memo is None else step.memo
        assert epsilon is not None
        if rectified and isinstance(epsilon, Tensor):
            epsilon = epsilon.clamp(min=smallest(total.dtype))
        if rectified and (isinstance(epsilon, Tensor) or epsilon > smallest(total.dtype)):
            return divide_by_own(relevance, total + epsilon)
        if is_never_zero(epsilon, total.dtype):
            return divide_by_own(relevance, stabilise(total, epsilon))
        return safe_divide(relevance, stabilise(total, epsilon))


@dataclass(frozen=True)
class Epsilon(WithEpsilon):
    """R_i = sum_j z_ij / (z_j + epsilon sign(z_j)) R_j [B15]; epsilon 0 is LRP-0."""

    relevance_at_zero = "zero"

    def relevance(self, step: LinearStep, relevance: Tensor) -> Relevances:
        """One spread."""
        (x,) = step.inputs
        return (self.redistribute(step, relevance, lambda spread: spread.mul_(x)),)


def _spread(step: LinearStep, share: Tensor, kernel: str, gamma: float = 0.0) -> Tensor:
    return step.operation.spread(share, step.operation.kernel(kernel, gamma), step.shapes[0])


def _spread_evenly(step: LinearStep, amount: Tensor) -> Tensor:
    """An amount of every output in equal parts to the inputs that it reads; padding gets none."""
    layer, shape = step.operation, step.shapes[0]
    counts = layer.prepare(("counts", shape[1:]), lambda: layer.input_counts(shape).clamp_(min=1))
    return layer.spread_evenly(amount / counts, shape)


@dataclass(frozen=True)
class AlphaBeta(Rule[LinearOperation]):
    """R_i = sum_j (alpha z+_ij / z+_j - beta z-_ij / z-_j) R_j, alpha = 1 + beta [B15]; a zero sum drops its half.

    z-_j is z_j - z+_j, which saves an application and leaves it an error of about 1e-7 z+_j in float32: where it is
    n digits smaller than z+_j, 7 - n of its own are right. Take float64 for a net with next to no negative weights.
    """

    needs = frozenset({"inputs", "output"})
    relevance_at_zero = "zero"
    beta: float = number(1.0, least=0)
    bias: str = bias_treatment()

    def relevance(self, step: LinearStep, relevance: Tensor) -> Relevances:
        """One application for z+, as z- = z - z+, and two spreads: see _positive_sum and _spread_signed."""
        upper = _positive_sum(step, self.bias)
        positive = divide_by_nonnegative(relevance, upper)
        negative = None if self.beta == 0 else divide_by_nonnegative(relevance, self._negative_sum(step, upper))
        result = _spread_signed(step, positive, negative, 1 + self.beta, self.beta, _is_positive(step, self.bias))
        return (_with_even_bias(step, self.bias, result, positive, negative, 1 + self.beta, self.beta),)

    def _negative_sum(self, step: LinearStep, upper: Tensor) -> Tensor:
        """-z-_j, written over z+_j where that is no longer needed; 0 where it is rounding and magnitudes are spread."""
        assert step.output is not None
        total = step.operation.without_bias(step.output) if self.bias == "ignore" else step.output
        if not _is_positive(step, self.bias):
            return upper.sub_(total)
        lower = upper - total
        return lower.masked_fill_(lower <= upper.mul_(ROUNDING * torch.finfo(upper.dtype).eps), 0.0)


def _is_positive(step: LinearStep, bias: str) -> bool:
    """Whether the layer reads inputs of any sign and only outputs z_j > 0 have relevance, so that |z-_j| < z+_j.

    Sums and shares then come of magnitudes, z+ = (z + |z|) / 2, with half the operations and no digit less.
    """
    absorbed = bias != "ignore" or step.operation.bias is None
    return not step.nonnegative and step.rectified and step.output is not None and absorbed


def _positive_sum(step: LinearStep, bias: str) -> Tensor:
    """z+_j = sum_i z+_ij, with b+ unless the bias is ignored: one application, two where z_j <= 0 has relevance too.

    One is enough for inputs >= 0, and for any where |z|_j = sum_i |z_ij| + |b_j| makes z+_j = (z_j + |z|_j) / 2.
    """
    (x,), layer = step.inputs, step.operation
    if _is_positive(step, bias):
        assert step.output is not None
        return layer.apply(x.abs(), layer.kernel("magnitude"), layer.bias_magnitude()).add_(step.output).mul_(0.5)
    offset = None if bias == "ignore" else layer.positive_bias()
    if step.nonnegative:
        return layer.apply(x, layer.kernel("positive"), offset)
    positive = layer.apply(x.clamp(min=0), layer.kernel("positive"), offset)
    return positive.add_(layer.apply(x.clamp(max=0), layer.kernel("negative")))


def _with_even_bias(
    step: LinearStep, bias: str, result: Tensor, positive: Tensor, negative: Tensor | None, alpha: float, beta: float
) -> Tensor:
    """With a bias that is distributed: plus sum_j (alpha b+_j p_j + beta b-_j n_j) / n_j for every input i."""
    own = step.operation.bias
    if bias != "distribute" or own is None:
        return result
    own = own.view(step.operation.bias_shape)
    amount = own.clamp(min=0) * positive * alpha
    if negative is not None:
        amount = amount + own.clamp(max=0) * negative * beta
    return result.add_(_spread_evenly(step, amount))


def _spread_signed(
    step: LinearStep, positive: Tensor, negative: Tensor | None, alpha: float, beta: float, by_magnitude: bool = False
) -> Tensor:
    """sum_j alpha z+_ij p_j + beta z-_ij n_j for every input i; `by_magnitude` as z_ij and |z_ij| give it."""
    (x,) = step.inputs
    if by_magnitude and negative is not None:
        favoured, opposed = positive * (alpha / 2), negative * (beta / 2)
        signs, sizes = _spread(step, favoured + opposed, "signed"), _spread(step, favoured - opposed, "magnitude")
        return signs.mul_(x).addcmul_(sizes, x.abs())
    through = _spread_pair(step, positive, negative, alpha, beta, ("positive", "negative"))
    if step.nonnegative:
        return through.mul_(x)
    crossed = _spread_pair(step, positive, negative, alpha, beta, ("negative", "positive"))
    return torch.where(x >= 0, through, crossed).mul_(x)


def _spread_pair(
    step: LinearStep, positive: Tensor, negative: Tensor | None, alpha: float, beta: float, kernels: tuple[str, str]
) -> Tensor:
    total = _spread(step, positive, kernels[0])
    if alpha != 1:
        total.mul_(alpha)
    return total if negative is None else total.add_(_spread(step, negative, kernels[1]), alpha=beta)


@dataclass(frozen=True)
class ZPlus(Rule[LinearOperation]):
    """Alpha-beta with beta = 0: R_i = sum_j z+_ij / z+_j R_j, negative inputs included."""

    needs = frozenset({"inputs", "output"})
    relevance_at_zero = "zero"
    bias: str = bias_treatment()

    def relevance(self, step: LinearStep, relevance: Tensor) -> Relevances:
        """One application and one spread."""
        return AlphaBeta(0.0, self.bias).relevance(step, relevance)


@dataclass(frozen=True)
class Gamma(Rule[LinearOperation]):
    """Generalised gamma [A21]: z_j >= 0 favours z+ (z_ij + gamma z+_ij), z_j < 0 favours z- (z_ij + gamma z-_ij)."""

    needs = frozenset({"inputs", "output"})
    relevance_at_zero = "zero"
    gamma: float = number(0.25, least=0)
    bias: str = bias_treatment()

    def relevance(self, step: LinearStep, relevance: Tensor) -> Relevances:
        """One application, and one spread where no relevance comes from z_j < 0, else two."""
        layer, total = step.operation, step.output
        assert total is not None
        upper = _positive_sum(step, self.bias)
        if step.rectified and self.bias == "absorb":
            return (self._favour_positive(step, divide_by_nonnegative(relevance, upper.mul_(self.gamma).add_(total))),)
        whole = layer.without_bias(total) if self.bias == "ignore" else total
        lower = (whole - upper).clamp_(max=0)
        up = whole >= 0
        share = safe_divide(relevance, whole + self.gamma * torch.where(up, upper, lower))
        favoured = share * (1 + self.gamma)
        positive, negative = torch.where(up, favoured, share), torch.where(up, share, favoured)
        result = _spread_signed(step, positive, negative, 1.0, 1.0)
        return (_with_even_bias(step, self.bias, result, positive, negative, 1.0, 1.0),)

    def _favour_positive(self, step: LinearStep, share: Tensor) -> Tensor:
        """sum_j (z_ij + gamma z+_ij) s_j for every input i."""
        (x,) = step.inputs
        through = _spread(step, share, "positive-favoured", self.gamma)
        if step.nonnegative:
            return through.mul_(x)
        crossed = _spread(step, share, "negative-favoured", self.gamma)
        return torch.where(x >= 0, through, crossed).mul_(x)


@dataclass(frozen=True)
class ByWeight(Rule[LinearOperation]):
    """Shares in proportion to a weight only, so that they are the same for every image; padding gets none."""

    kernel: ClassVar[str]

    def relevance(self, step: LinearStep, relevance: Tensor) -> Relevances:
        """One spread; the sums are kept."""
        layer, shape = step.operation, step.shapes[0]
        sums = layer.prepare((self.kernel, "sums", shape[1:]), lambda: self._sums(layer, shape))
        return (self.share(layer, relevance / sums, shape),)

    def share(self, layer: LinearOperation, share: Tensor, shape: torch.Size) -> Tensor:
        """sum_j v_ij s_j for every input i of `shape`, v being the kernel."""
        return layer.spread(share, layer.kernel(self.kernel), shape)

    def _sums(self, layer: LinearOperation, shape: torch.Size) -> Tensor:
        """Sum of the weight over each output's inputs (1, D, ...); infinite where it is zero, so that it drops R."""
        sums = layer.apply(layer.weight.new_ones((1, *shape[1:])), layer.kernel(self.kernel))
        return sums.masked_fill_(sums < smallest(sums.dtype), torch.inf)


@dataclass(frozen=True)
class Flat(ByWeight):
    """R_i = sum over j in reach of i of R_j / number of inputs of j."""

    kernel = "ones"

    def share(self, layer: LinearOperation, share: Tensor, shape: torch.Size) -> Tensor:
        """See ByWeight; all inputs that an output reads get the same."""
        return layer.spread_evenly(share, shape)


@dataclass(frozen=True)
class WSquare(ByWeight):
    """R_i = sum_j w_ij^2 / sum_i w_ij^2 R_j."""

    kernel = "squared"


@dataclass(frozen=True, eq=False)
class ZBox(Rule[LinearOperation]):
    """Shares (x_i w_ij - l_i w+_ij - h_i w-_ij) / sum_i(...) for inputs between l and h [M17].

    `low` and `high` broadcast to an input (1, C, H, W); they are the model's pixel range, preprocessed.
    """

    needs = frozenset({"inputs", "output"})
    low: Tensor = tensor()
    high: Tensor = tensor()

    @classmethod
    def bind(cls, given: Mapping[str, Setting], surroundings: Surroundings) -> Self:
        """Bounds that the config leaves out are the range of the layer's input."""
        needs = f"The rule z-box of layer {surroundings.layer!r} needs"
        bounds = dict(zip(("low", "high"), surroundings.input_range or (), strict=False)) | cls.read(given)
        if len(bounds) < 2:
            raise ConfigError(
                f"{needs} the range of its input, which is not known here; give low and high in the config or, for a "
                "layer that reads the model's input, pixel_range to the Explainer or --preprocessing to the command."
            )
        low, high = bounds["low"], bounds["high"]
        if not bool((low <= high).all() and (low < high).any()):  # equal where a preprocessing has the factor 0
            raise ConfigError(f"{needs} a low below its high.")
        return cls(**bounds)

    def relevance(self, step: LinearStep, relevance: Tensor) -> Relevances:
        """Two spreads, as a share is (x_i - l_i) w+_ij + (x_i - h_i) w-_ij; the bounds' sum is kept."""
        (x,), layer = step.inputs, step.operation
        assert step.output is not None
        bounds = layer.prepare((self, x.shape[1:]), lambda: self._bounds(layer, x.shape))
        share = safe_divide(relevance, step.output - bounds)
        lower = _spread(step, share, "positive").mul_(x - self.low.to(x))
        upper = _spread(step, share, "negative").mul_(x - self.high.to(x))
        return (lower.add_(upper),)

    def _bounds(self, layer: LinearOperation, shape: torch.Size) -> Tensor:
        """sum_i l_i w+_ij + h_i w-_ij + b_j (1, D, ...): what z_j exceeds the denominator by."""
        low = self.low.to(layer.weight).expand(1, *shape[1:])
        high = self.high.to(layer.weight).expand(1, *shape[1:])
        return layer.apply(low, layer.kernel("positive"), layer.bias).add_(layer.apply(high, layer.kernel("negative")))


@dataclass(frozen=True)
class Sign(WithEpsilon):
    """R_i = sign(x_i) sum_j w_ij R_j / (z_j + epsilon sign(z_j)), for the input layer; sign(0) = +1."""

    def relevance(self, step: LinearStep, relevance: Tensor) -> Relevances:
        """The epsilon rule with the sign of the input in place of the input."""
        (x,) = step.inputs
        return (self.redistribute(step, relevance, lambda spread: torch.where(x >= 0, spread, -spread)),)


@dataclass(frozen=True)
class GradientTimesInput(Rule[LinearOperation]):
    """x_i sum_j w_ij R_j: with `gradient` in every later layer, gradient times input. Not a relevance."""

    needs = frozenset({"inputs"})
    relevance_at_zero = "zero"

    def relevance(self, step: LinearStep, relevance: Tensor) -> Relevances:
        """One spread."""
        (x,) = step.inputs
        return (_spread(step, relevance, "signed").mul_(x),)
