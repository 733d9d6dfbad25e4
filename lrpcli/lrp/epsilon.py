"""The epsilon of denominators: a number, or relative to the size of a layer's own sums."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from lrpcli.lrp.operation import Op, Rule, Setting, Surroundings, number, smallest, wide


def root_mean_square(values: Tensor) -> Tensor:
    """sqrt(mean of the squares of each image's values (N, ...)) as (N, 1, ...), in float32 for halves.

    Summed along what lies together in memory first, which is fast and exact to rounding. Where it is too large for its
    type it is NaN, so that relevance does not vanish unnoticed.
    """
    values = wide(values)
    axes = tuple(range(1, values.dim()))
    together = axes[:1] if len(axes) > 1 and values.stride(1) == 1 else axes[1:] or axes
    size: Tensor = torch.linalg.vector_norm(values, dim=together, keepdim=True)
    size = torch.linalg.vector_norm(size, dim=axes, keepdim=True) / math.sqrt(max(1, math.prod(values.shape[1:])))
    return size.masked_fill(size.isinf(), torch.nan)


def signed(total: Tensor, epsilon: float | Tensor) -> Tensor:
    """epsilon sign(total), with sign(0) = +1."""
    size = torch.as_tensor(epsilon, dtype=total.dtype, device=total.device)
    return torch.where(total >= 0, size, -size)


def stabilise(denominator: Tensor, epsilon: float | Tensor) -> Tensor:
    """denominator + epsilon sign(denominator), with sign(0) = +1; unchanged for epsilon 0. A tensor is broadcast."""
    if not isinstance(epsilon, Tensor) and epsilon == 0:
        return denominator
    signs = denominator + 0.0  # makes +0 of -0
    size = torch.as_tensor(epsilon, dtype=signs.dtype, device=signs.device)
    return torch.copysign(size, signs, out=signs).add_(denominator)


def is_never_zero(epsilon: float | Tensor, dtype: torch.dtype) -> bool:
    """Whether what `stabilise` gives needs no protection from division by zero; a GPU is not asked, as that waits."""
    if not isinstance(epsilon, Tensor):
        return epsilon > smallest(dtype)
    return epsilon.device.type == "cpu" and bool((epsilon > smallest(dtype)).all())


@dataclass(frozen=True)
class Stabilised(Rule[Op]):
    """Base of the rules that add an epsilon to their denominators z_j: `epsilon` itself, or one made for each image.

    The latter is `relative` times the root mean square of the layer's z_j [M19].
    """

    alternatives = ("epsilon", "relative")
    epsilon: float | None = number(0.01, least=0)
    relative: float | None = number(None, least=0)

    @classmethod
    def bind(cls, given: Mapping[str, Setting], surroundings: Surroundings) -> Self:
        """See Rule."""
        rule = super().bind(given, surroundings)
        return rule if rule.relative is None else replace(rule, epsilon=None)

    def epsilon_for(self, total: Tensor) -> float | Tensor:
        """The epsilon for denominators (N, ...): a number, or one for each image (N, 1, ...)."""
        if self.relative is not None:
            return (self.relative * root_mean_square(total)).to(total.dtype)
        assert self.epsilon is not None
        return self.epsilon
