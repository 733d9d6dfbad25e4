"""Local response normalisation: the layer with a fast forward pass, and its relevance rules (docs/rules.md).

Notation, after Binder et al. 2016: y_k = x_k s_k^(-beta) with s_k = k0 + a (x_k^2 + N_k), N_k the sum of x^2 over the
neighbours of k, centre left out. Expanded at the data point with only x_k kept, the terms of y_k are

    z_kk = x_k u_k,  u_k = (k0 + a x_k^2)^(-beta)        z_jk = c_k x_k x_j^2,  c_k = -2 a beta s_k^(-beta-1)
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lrpcli.lrp.operation import Operation, Relevances, Rule, Step, number, safe_divide, stabilise

REGIONS = ("across-channels", "within-channel")


class LocalResponseNorm(nn.Module):
    """y = x * (k + a * window sum of x^2)^(-beta), over (N, C, ...) or, within a channel, (N, C, H, W).

    `region` is "across-channels" (a = alpha / size, k as given; equals torch.nn.LocalResponseNorm) or "within-channel"
    (a = alpha / size^2 with zero padding; Caffe ignores k there and so do we: it is 1). ValueError if `size` is even.

    >>> import lrpcli, torch
    >>> x = 100 * torch.rand(1, 8, 4, 4)
    >>> layer = lrpcli.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
    >>> torch.allclose(layer(x), torch.nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)(x))
    True
    >>> lrpcli.LocalResponseNorm(3, alpha=5e-5, beta=0.75, region="within-channel")(x).shape
    torch.Size([1, 8, 4, 4])
    """

    def __init__(self, size: int, alpha: float, beta: float, k: float = 1.0, region: str = "across-channels") -> None:
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ValueError(f"The window of local response normalisation must be odd, not {size}.")
        if region not in REGIONS:
            raise ValueError(f"Local response normalisation knows the regions {' and '.join(REGIONS)}, not {region!r}.")
        self.size, self.alpha, self.beta, self.k, self.region = size, alpha, beta, k, region

    @property
    def within(self) -> bool:
        """Whether the window lies in the plane of one channel."""
        return self.region == "within-channel"

    @property
    def offset(self) -> float:
        """k0 of the formula."""
        return 1.0 if self.within else self.k

    @property
    def factor(self) -> float:
        """a of the formula: what each square is multiplied by."""
        return self.alpha / (self.size**2 if self.within else self.size)

    def neighbour_sum(self, values: Tensor) -> Tensor:
        """Window sum of `values` WITHOUT the centre, same shape; the window relation is symmetric."""
        reach = self.size // 2
        if not self.within:
            return _beside(values, 1, reach)
        row = _beside(values, 3, reach)
        return row.add_(_beside(row + values, 2, reach))

    def scale(self, squares: Tensor, neighbours: Tensor) -> Tensor:
        """s_k of the formula."""
        return (squares + neighbours).mul_(self.factor).add_(self.offset)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised activations, shape and dtype of `x`."""
        return self.normalise(x)[0]

    def normalise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised activations and the neighbour sum of squares, which the relevance pass uses again."""
        squares = x * x
        neighbours = self.neighbour_sum(squares)
        power = negative_power(self.scale(squares, neighbours), self.beta)
        return (x * power if torch.is_grad_enabled() else power.mul_(x)), neighbours

    def extra_repr(self) -> str:
        """Parameters for repr()."""
        return f"{self.size}, alpha={self.alpha:g}, beta={self.beta:g}, k={self.k:g}, region={self.region!r}"


def _beside(values: Tensor, axis: int, reach: int) -> Tensor:
    """Sum of the values up to `reach` places before and behind each along an axis.

    Added up without the centre: a window sum minus its centre would lose small neighbours of a large value.
    """
    total, length = torch.zeros_like(values), values.shape[axis]
    for shift in range(1, min(reach, length - 1) + 1):
        total.narrow(axis, shift, length - shift).add_(values.narrow(axis, 0, length - shift))
        total.narrow(axis, 0, length - shift).add_(values.narrow(axis, shift, length - shift))
    return total


def negative_power(base: Tensor, beta: float) -> Tensor:
    """base^(-beta) for base > 0; the exponents nets really use avoid the slow pow. Autograd can differentiate it."""
    if beta not in (0.5, 0.75, 1.75):
        return base.pow(-beta)
    root = base.rsqrt()
    if beta == 0.5:
        return root
    quarter = root.sqrt()
    power = quarter * root if torch.is_grad_enabled() else quarter.mul_(root)
    return power if beta == 0.75 else power / base


class NormalizationOperation(Operation):
    """LRN in the graph; its memo is the neighbour sum of squares."""

    kind = "lrn"

    def __init__(self, layer: LocalResponseNorm) -> None:
        self.layer = layer

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Copies the layer, which holds numbers only."""
        self.layer = copy.copy(self.layer)

    def run(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised activations and the neighbour sum of squares."""
        return self.layer.normalise(inputs[0])

    def describe(self) -> str:
        """LRN parameters as the layer table shows them."""
        return (
            f"n={self.layer.size} alpha={self.layer.alpha:g} beta={self.layer.beta:g} "
            f"k={self.layer.offset:g} {self.layer.region}"
        )

    def terms(self, step: "Step[NormalizationOperation]") -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x^2, N, u and c of the module's docstring, each (N, C, ...)."""
        (x,), neighbours = step.inputs, step.memo
        assert neighbours is not None
        squares = x * x
        centre = negative_power((squares * self.layer.factor).add_(self.layer.offset), self.layer.beta)
        slope = negative_power(self.layer.scale(squares, neighbours), self.layer.beta + 1)
        slope.mul_(-2 * self.layer.factor * self.layer.beta)
        return squares, neighbours, centre, slope


class NormalizationRule(Rule[NormalizationOperation]):
    """Base of the LRN rules: they need the input and the neighbour sum."""

    needs = frozenset({"inputs", "memo"})


@dataclass(frozen=True)
class Taylor(NormalizationRule):
    """Each output's Taylor terms divided by their sum [B16]; conserves the total of R in every pixel or channel.

    x_k cancels in z_jk / sum_i z_ik, and the denominator over u_k is never below 0.264: nothing to stabilise.
    """

    relevance_at_zero = "passes"

    def relevance(self, step: Step[NormalizationOperation], relevance: Tensor) -> Relevances:
        """R_j = u_j q_j + x_j^2 W[c q]_j with q_k = R_k / (u_k + c_k N_k)."""
        layer = step.operation.layer
        squares, neighbours, centre, slope = step.operation.terms(step)
        share = relevance / torch.addcmul(centre, slope, neighbours)
        spread = layer.neighbour_sum(slope.mul_(share)).mul_(squares)
        return (centre.mul_(share).add_(spread),)


@dataclass(frozen=True)
class TaylorUnnormalized(NormalizationRule):
    """The terms themselves as weights, as the authors' Caffe code does; conserves nothing, for reproduction only."""

    relevance_at_zero = "zero"

    def relevance(self, step: Step[NormalizationOperation], relevance: Tensor) -> Relevances:
        """R_j = x_j u_j R_j + x_j^2 W[c x R]_j."""
        squares, _, centre, slope = step.operation.terms(step)
        weighted = step.inputs[0] * relevance
        return (centre * weighted + squares * step.operation.layer.neighbour_sum(slope * weighted),)


@dataclass(frozen=True)
class Identity(Rule[NormalizationOperation]):
    """R passes to the centre unchanged: the paper's baseline."""

    relevance_at_zero = "passes"

    def relevance(self, step: Step[NormalizationOperation], relevance: Tensor) -> Relevances:
        """R_j = R_j."""
        return (relevance,)


@dataclass(frozen=True)
class NormalizationEpsilon(NormalizationRule):
    """The epsilon rule over the Taylor terms: z_jk / (z_k + epsilon sign(z_k)), z_k the sum of the terms."""

    relevance_at_zero = "zero"
    epsilon: float = number(0.01, least=0)

    def relevance(self, step: Step[NormalizationOperation], relevance: Tensor) -> Relevances:
        """R_j = x_j u_j t_j + x_j^2 W[c x t]_j with t = R / (z + epsilon sign(z))."""
        squares, neighbours, centre, slope = step.operation.terms(step)
        x = step.inputs[0]
        total = x * torch.addcmul(centre, slope, neighbours)
        weighted = x * safe_divide(relevance, stabilise(total, self.epsilon))
        return (centre * weighted + squares * step.operation.layer.neighbour_sum(slope * weighted),)


@dataclass(frozen=True)
class NormalizationAlphaBeta(NormalizationRule):
    """Alpha-beta over the Taylor terms, alpha = 1 + beta: centre and neighbours have opposite signs."""

    relevance_at_zero = "zero"
    beta: float = number(1.0, least=0)

    def relevance(self, step: Step[NormalizationOperation], relevance: Tensor) -> Relevances:
        """Where x_k >= 0 the centre gets alpha R_k and the neighbours -beta R_k; where x_k < 0 the reverse."""
        (x,), neighbours = step.inputs, step.memo
        assert neighbours is not None
        squares, positive = x * x, x >= 0
        arrived = relevance * (squares > 0)
        favoured, opposed = arrived * (1 + self.beta), arrived * -self.beta
        to_centre = torch.where(positive, favoured, opposed)
        to_neighbours = torch.where(positive, opposed, favoured)
        share = safe_divide(to_neighbours, neighbours)
        return (to_centre + squares * step.operation.layer.neighbour_sum(share),)
