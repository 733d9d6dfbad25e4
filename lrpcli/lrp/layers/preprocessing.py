"""Preprocessing that is part of the model: maps y = scale x + shift of the input's own elements (docs/rules.md)."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from lrpcli.lrp.layers.elementwise import Affine, Rescaled, Sum
from lrpcli.lrp.operation import Operation, Relevances, Rule, Step


class InputMap(Affine):
    """An affine map of pixels, such as (x - mean) / std: what it puts out stands for the pixel that it is made of."""

    kind = "preprocessing"

    @classmethod
    def of(cls, affine: Affine) -> Self:
        """The same map."""
        return cls(affine.scale, affine.shift, per_channel=affine.per_channel)


class SizedInputMap(Operation):
    """The same where mean or std are made to fit each input, such as mean.to(x.device) or std.expand_as(x)."""

    kind = "preprocessing"

    def __init__(self, operation: Sum | Rescaled) -> None:
        self.operation = operation

    def run(self, *inputs: Any) -> tuple[Tensor, None]:
        """The map of the pixels; what they are moved or scaled by comes behind them."""
        return self.operation.run(*inputs)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Copies what is fixed."""
        self.operation.to(device, dtype)

    def drop_unscaled(self, relevance: Tensor, scalars: tuple[Any, ...]) -> Tensor:
        """See Affine."""
        if isinstance(self.operation, Sum):
            return relevance
        scale = self.operation.run(relevance.new_ones((1,) * relevance.dim()), *scalars)[0]
        return relevance.masked_fill(scale == 0, 0.0)


@dataclass(frozen=True)
class InputMapRule(Rule[InputMap | SizedInputMap]):
    """R unchanged, whatever the config: the map of a model that is fed with normalised pixels."""

    def relevance(self, step: Step[InputMap | SizedInputMap], relevance: Tensor) -> Relevances:
        """R_i = R_i, summed where a pixel was broadcast; nothing where the scale is 0 and the pixel does not count."""
        operation = step.operation
        if isinstance(operation, SizedInputMap):
            kept = operation.drop_unscaled(relevance, step.scalars)
        else:
            kept = operation.drop_unscaled(relevance)
        return (kept.sum_to_size(step.shapes[0]),)
