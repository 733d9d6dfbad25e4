"""Layers that divide by what an image itself varies by: layer, group, instance and root mean square normalisation.

Notation: y_j = w_j (x_j - m) / s + b_j, with the mean m and the standard deviation s = sqrt(variance + eps) of those
values of an image that are normalised together; a root mean square has m = 0. With s as a constant y is linear in x.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lrpcli.lrp.layers.call import Call
from lrpcli.lrp.operation import Operation, Relevances, Rule, Step, bias_treatment, safe_divide, wide

Sizes = tuple[int, ...]


class LayerNorm(Operation):
    """Normalisation over the last axes, which have the sizes `shape`; weight and bias have that shape.

    Without `centred` it divides by the root mean square and subtracts nothing, as RMSNorm does. `eps` None is the
    smallest step of the number type from 1.
    """

    kind = "layer-norm"
    returns_more = False
    """Whether the traced call returns (y, mean, 1 / s), of which y alone is known here."""

    def __init__(
        self,
        shape: Sizes | Call,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float | None,
        *,
        centred: bool = True,
    ) -> None:
        self.shape, self.weight, self.bias, self.eps, self.centred = shape, weight, bias, eps, centred

    def settled(self, *scalars: Any) -> "LayerNorm":
        """See Operation: a shape that is read off other tensors comes from a Call."""
        if not isinstance(self.shape, Call):
            return self
        return LayerNorm(self.shape(None, *scalars), self.weight, self.bias, self.eps, centred=self.centred)

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """y; ValueError for axes that no image has of its own."""
        x = wide(inputs[0])
        self.require_axes(x)
        weight, bias = (value if value is None else value.to(x.dtype) for value in (self.weight, self.bias))
        return self.normalise(x, weight, bias).to(inputs[0].dtype), None

    def require_axes(self, x: Tensor) -> None:
        """ValueError unless the normalised axes lie behind that of the images."""
        if x.dim() <= len(self._sizes):
            raise ValueError("it would normalise over axis 0, and so mix the images of a batch")

    @property
    def _sizes(self) -> Sizes:
        assert not isinstance(self.shape, Call)
        return self.shape

    def normalise(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """y, by torch's own function."""
        if self.centred:
            return functional.layer_norm(x, self._sizes, weight, bias, self._eps(x))
        return functional.rms_norm(x, self._sizes, weight, self._eps(x))

    def _eps(self, x: Tensor) -> float:
        return torch.finfo(x.dtype).eps if self.eps is None else self.eps

    def rows(self, values: Tensor) -> Tensor:
        """Values of the input's shape with those that are normalised together along the last of their axes."""
        return values.flatten(-len(self._sizes))

    def per_place(self, values: Tensor, dimensions: int) -> Tensor:
        """Weight or bias in the shape that meets an input of so many axes."""
        return values

    def centre(self, rows: Tensor) -> Tensor:
        """Each value less the mean of its row, as its own transpose is too; unchanged for a root mean square."""
        return rows - rows.mean(-1, keepdim=True) if self.centred else rows

    def deviation(self, rows: Tensor) -> Tensor:
        """s of each row of inputs."""
        return (self.centre(rows).square().mean(-1, keepdim=True) + self._eps(rows)).sqrt()

    def describe(self) -> str:
        """What is normalised, for the layer table."""
        over = "sizes of the input" if isinstance(self.shape, Call) else "x".join(map(str, self.shape))
        return f"over {over} {self._divisor()}"

    def _divisor(self) -> str:
        eps = "" if self.eps is None else f" eps={self.eps:g}"
        return f"by {'standard deviation' if self.centred else 'root mean square'}{eps}"

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Copies weight and bias."""
        self.weight = None if self.weight is None else self.weight.to(device, dtype, copy=True)
        self.bias = None if self.bias is None else self.bias.to(device, dtype, copy=True)


class GroupNorm(LayerNorm):
    """Normalisation of groups of channels (N, C, ...); of each channel by itself where `groups` is None.

    `dimensions` is how many axes its input must have, where only that number is known.
    """

    def __init__(
        self,
        groups: int | None,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        *,
        dimensions: int | None = None,
    ) -> None:
        super().__init__((), weight, bias, eps)
        self.groups, self.dimensions = groups, dimensions

    def require_axes(self, x: Tensor) -> None:
        """ValueError for an input without channels, or of another number of axes than it must have."""
        least = 2 if self.groups else 3
        if x.dim() < least or (self.dimensions is not None and x.dim() != self.dimensions):
            raise ValueError(f"it needs an input of {self.dimensions or f'at least {least}'} axes, images first")

    def normalise(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """y, by torch's own function."""
        if self.groups is None:
            return functional.instance_norm(x, weight=weight, bias=bias, eps=self._eps(x))
        return functional.group_norm(x, self.groups, weight, bias, self._eps(x))

    def rows(self, values: Tensor) -> Tensor:
        """See LayerNorm: (N, groups, C / groups * ...)."""
        return values.reshape(len(values), self.groups or values.shape[1], -1)

    def per_place(self, values: Tensor, dimensions: int) -> Tensor:
        """See LayerNorm."""
        return values.view(-1, *[1] * (dimensions - 2))

    def describe(self) -> str:
        """See LayerNorm."""
        over = "each channel" if self.groups is None else f"{self.groups} groups of channels"
        return f"over {over} {self._divisor()}"


@dataclass(frozen=True)
class LayerNormZ(Rule[LayerNorm]):
    """The z-rule of y = w (x - m) / s + b, with s as a constant [A22].

    With c_j = w_j R_j / (s y_j): R_i = x_i (c_i - mean of c over what is normalised together), the mean left out for a
    root mean square. It is gradient times input where all that follows is; b is a bias, which is distributed over what
    is normalised together.
    """

    needs = frozenset({"inputs", "output"})
    relevance_at_zero = "zero"
    bias: str = bias_treatment()

    def relevance(self, step: Step[LayerNorm], relevance: Tensor) -> Relevances:
        """R_i in float32 for halves."""
        layer, x = step.operation, wide(step.inputs[0])
        rows, even = layer.rows(x), None
        if self.bias == "ignore":
            share = safe_divide(layer.rows(_where_weighted(layer, wide(relevance))), layer.centre(rows))
        else:
            assert step.output is not None
            share = safe_divide(wide(relevance), wide(step.output))
            if self.bias == "distribute" and layer.bias is not None:
                even = layer.rows(share * layer.per_place(layer.bias, x.dim())).mean(-1, keepdim=True)
            if layer.weight is not None:
                share = share * layer.per_place(layer.weight, x.dim())
            share = layer.rows(share) / layer.deviation(rows)
        result = rows * layer.centre(share)
        result = result if even is None else result + even
        return (result.reshape(x.shape).to(relevance.dtype),)


def _where_weighted(layer: LayerNorm, relevance: Tensor) -> Tensor:
    """Relevance of the output without that of places whose weight is 0: no input is behind them."""
    if layer.weight is None:
        return relevance
    return relevance.masked_fill(layer.per_place(layer.weight, relevance.dim()) == 0, 0.0)


@dataclass(frozen=True)
class LayerNormIdentity(Rule[LayerNorm]):
    """R passes to the same place unchanged: normalisation is taken for part of the activation."""

    def relevance(self, step: Step[LayerNorm], relevance: Tensor) -> Relevances:
        """R_i = R_i."""
        return (relevance,)
