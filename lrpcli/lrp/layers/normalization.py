"""Local response normalisation: the layer with a fast forward pass, and its relevance rules (docs/rules.md).

Notation, after Binder et al. 2016: y_k = x_k s_k^(-beta) with s_k = k0 + a (x_k^2 + N_k), N_k the sum of x^2 over the
neighbours of k, centre left out. Expanded at the data point with only x_k kept, the terms of y_k are

    z_kk = x_k u_k,  u_k = (k0 + a x_k^2)^(-beta)        z_jk = c_k x_k x_j^2,  c_k = -2 a beta s_k^(-beta-1)

With k0 = 0 and x_k = 0 there is no term (y_k is 0), and output k sends nothing.
"""

import copy
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lrpcli.lrp.epsilon import Stabilised, stabilise
from lrpcli.lrp.operation import Operation, Relevances, Rule, Step, divide_by_own, number, safe_divide, wide

REGIONS = ("across-channels", "within-channel")


class LocalResponseNorm(nn.Module):
    """y = x * (k + a * window sum of x^2)^(-beta), over (N, C, ...) or, within a channel, (N, C, H, W).

    `region` is "across-channels" (a = alpha / size, k as given; equals torch.nn.LocalResponseNorm) or "within-channel"
    (a = alpha / size^2 with zero padding; Caffe ignores k there and so do we: it is 1). A window reaches `reach` places
    before its centre and behind it; by default size // 2 before and the rest behind, as torch has it for even sizes.
    float16 and bfloat16 are computed in float32, as their squares overflow. ValueError for a window that has no centre.

    >>> import lrpcli, torch
    >>> x = 100 * torch.rand(1, 8, 4, 4)
    >>> layer = lrpcli.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
    >>> torch.allclose(layer(x), torch.nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)(x))
    True
    >>> lrpcli.LocalResponseNorm(3, alpha=5e-5, beta=0.75, region="within-channel")(x).shape
    torch.Size([1, 8, 4, 4])
    """

    def __init__(
        self,
        size: int,
        alpha: float,
        beta: float,
        k: float = 1.0,
        region: str = "across-channels",
        reach: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.reach = (size // 2, (size - 1) // 2) if reach is None else reach
        if size < 1 or min(self.reach) < 0 or sum(self.reach) + 1 != size:
            raise ValueError(
                f"A window of local response normalisation holds its centre and what it reaches on both sides: {size} "
                f"places cannot be {self.reach[0]} before the centre and {self.reach[1]} behind it."
            )
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
        """For each k the sum of `values` over its window WITHOUT the centre, same shape."""
        return self._sum_beside(values, *self.reach)

    def reader_sum(self, values: Tensor) -> Tensor:
        """The transpose: for each j the sum of `values` over the k != j whose window holds j."""
        return self._sum_beside(values, *reversed(self.reach))

    def _sum_beside(self, values: Tensor, before: int, behind: int) -> Tensor:
        if not self.within:
            return _beside(values, 1, before, behind)
        row = _beside(values, 3, before, behind)
        return row.add_(_beside(row + values, 2, before, behind))

    def scale(self, squares: Tensor, neighbours: Tensor) -> Tensor:
        """s_k of the formula."""
        return (squares + neighbours).mul_(self.factor).add_(self.offset)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised activations, shape and dtype of `x`."""
        return self.normalise(x)[0]

    def normalise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised activations and the neighbour sum of squares, which the relevance pass uses again.

        ValueError for an input without channels or, within a channel, without height and width.
        """
        if x.dim() < 2 or (self.within and x.dim() != 4):
            axes = "maps (N, C, H, W)" if self.within else "activations (N, C, ...)"
            raise ValueError(f"local response normalisation {self.region.replace('-', ' ')} needs {axes}")
        widened = wide(x)
        squares = widened * widened
        neighbours = self.neighbour_sum(squares)
        power = negative_power(self.scale(squares, neighbours), self.beta)
        return (widened * power if torch.is_grad_enabled() else power.mul_(widened)).to(x.dtype), neighbours

    def extra_repr(self) -> str:
        """Parameters for repr()."""
        return (
            f"{self.size}, alpha={self.alpha:g}, beta={self.beta:g}, k={self.k:g}, region={self.region!r}, "
            f"reach={self.reach}"
        )


def _beside(values: Tensor, axis: int, before: int, behind: int) -> Tensor:
    """Sum of the values up to so many places before and behind each along an axis.

    Added up without the centre: a window sum minus its centre would lose small neighbours of a large value.
    """
    total, length = torch.zeros_like(values), values.shape[axis]
    for shift in range(1, min(max(before, behind), length - 1) + 1):
        if shift <= before:
            total.narrow(axis, shift, length - shift).add_(values.narrow(axis, 0, length - shift))
        if shift <= behind:
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
        before, behind = self.layer.reach
        text = (
            f"n={self.layer.size} alpha={self.layer.alpha:g} beta={self.layer.beta:g} "
            f"k={self.layer.offset:g} {self.layer.region}"
        )
        return text if before == behind else f"{text} from -{before} to +{behind}"


@dataclass
class Terms:
    """What the Taylor terms of a layer are made of, each (N, C, ...), as the module's docstring names them."""

    x: Tensor
    squares: Tensor
    """x^2."""
    neighbours: Tensor
    """N."""
    centre: Tensor
    """u; 0 where k0 + a x^2 is 0."""
    slope: Tensor
    """c; 0 where s is 0."""

    @property
    def total(self) -> Tensor:
        """u + c N: the sum of an output's terms over x_k."""
        return torch.addcmul(self.centre, self.slope, self.neighbours)


def taylor_terms(layer: LocalResponseNorm, x: Tensor, neighbours: Tensor) -> Terms:
    """The terms at `x`, whose neighbour sum of squares is given."""
    squares = x * x
    centre_scale = (squares * layer.factor).add_(layer.offset)
    scale = torch.add(centre_scale, neighbours, alpha=layer.factor)
    centre = negative_power(centre_scale, layer.beta)
    slope = negative_power(scale, layer.beta + 1)
    if layer.offset == 0:
        centre.masked_fill_(centre_scale == 0, 0.0)
        slope.masked_fill_(scale == 0, 0.0)
    return Terms(x, squares, neighbours, centre, slope.mul_(-2 * layer.factor * layer.beta))


class NormalizationRule(Rule[NormalizationOperation]):
    """Base of the LRN rules over the Taylor terms: they need the input and the neighbour sum."""

    needs = frozenset({"inputs", "memo"})

    def relevance(self, step: Step[NormalizationOperation], relevance: Tensor) -> Relevances:
        """Shares of the terms, in float32 for halves, and for k0 = 0 in float64: s^(-beta-1) has no bound there."""
        (x,), neighbours, layer = step.inputs, step.memo, step.operation.layer
        assert neighbours is not None
        if layer.offset == 0 and x.device.type != "mps":
            x = x.double()
            neighbours = layer.neighbour_sum(x * x)
        x = x.to(neighbours.dtype)
        terms = taylor_terms(layer, x, neighbours)
        return (self.share(layer, terms, relevance.to(x.dtype)).to(relevance.dtype),)

    @abstractmethod
    def share(self, layer: LocalResponseNorm, terms: Terms, relevance: Tensor) -> Tensor:
        """Relevance of the inputs, from that of the outputs (N, C, ...); the terms may be written over."""


@dataclass(frozen=True)
class Taylor(NormalizationRule):
    """Each output's Taylor terms divided by their sum [B16]; conserves the total of R in every pixel or channel.

    x_k cancels in z_jk / sum_i z_ik, and the denominator over u_k is never below 0.264: nothing to stabilise.
    """

    relevance_at_zero = "passes"

    def share(self, layer: LocalResponseNorm, terms: Terms, relevance: Tensor) -> Tensor:
        """R_j = u_j q_j + x_j^2 W[c q]_j with q_k = R_k / (u_k + c_k N_k)."""
        share = divide_by_own(relevance, terms.total)
        if layer.offset == 0:
            share.masked_fill_(terms.squares == 0, 0.0)
        spread = layer.reader_sum(terms.slope.mul_(share)).mul_(terms.squares)
        return terms.centre.mul_(share).add_(spread)


@dataclass(frozen=True)
class TaylorUnnormalized(NormalizationRule):
    """The terms themselves as weights, as the authors' Caffe code does; conserves nothing, for reproduction only."""

    relevance_at_zero = "zero"

    def share(self, layer: LocalResponseNorm, terms: Terms, relevance: Tensor) -> Tensor:
        """R_j = x_j u_j R_j + x_j^2 W[c x R]_j."""
        weighted = terms.x * relevance
        return terms.centre * weighted + terms.squares * layer.reader_sum(terms.slope * weighted)


@dataclass(frozen=True)
class Identity(Rule[NormalizationOperation]):
    """R passes to the centre unchanged: the paper's baseline."""

    relevance_at_zero = "passes"

    def relevance(self, step: Step[NormalizationOperation], relevance: Tensor) -> Relevances:
        """R_j = R_j."""
        return (relevance,)


@dataclass(frozen=True)
class NormalizationEpsilon(Stabilised[NormalizationOperation], NormalizationRule):
    """The epsilon rule over the Taylor terms: z_jk / (z_k + epsilon sign(z_k)), z_k the sum of the terms."""

    relevance_at_zero = "zero"

    def share(self, layer: LocalResponseNorm, terms: Terms, relevance: Tensor) -> Tensor:
        """R_j = x_j u_j t_j + x_j^2 W[c x t]_j with t = R / (z + epsilon sign(z))."""
        total = terms.x * terms.total
        weighted = terms.x * safe_divide(relevance, stabilise(total, self.epsilon_for(total)))
        return terms.centre * weighted + terms.squares * layer.reader_sum(terms.slope * weighted)


@dataclass(frozen=True)
class NormalizationAlphaBeta(NormalizationRule):
    """Alpha-beta over the Taylor terms, alpha = 1 + beta: centre and neighbours have opposite signs."""

    relevance_at_zero = "zero"
    beta: float = number(1.0, least=0)

    def share(self, layer: LocalResponseNorm, terms: Terms, relevance: Tensor) -> Tensor:
        """Where x_k >= 0 the centre gets alpha R_k and the neighbours -beta R_k; where x_k < 0 the reverse."""
        positive = terms.x >= 0
        arrived = relevance * (terms.squares > 0)
        favoured, opposed = arrived * (1 + self.beta), arrived * -self.beta
        to_centre = torch.where(positive, favoured, opposed)
        to_neighbours = torch.where(positive, opposed, favoured)
        share = safe_divide(to_neighbours, terms.neighbours)
        return to_centre + terms.squares * layer.reader_sum(share)
