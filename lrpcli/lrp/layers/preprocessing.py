"""Preprocessing that is part of the model: maps y = scale x + shift of the input's own elements (docs/rules.md)."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from lrpcli.lrp.layers.elementwise import Affine
from lrpcli.lrp.operation import Relevances, Rule, Step


class InputMap(Affine):
    """An affine map of pixels, such as (x - mean) / std: what it puts out stands for the pixel that it is made of."""

    kind = "preprocessing"

    @classmethod
    def of(cls, affine: Affine) -> Self:
        """The same map."""
        return cls(affine.scale, affine.shift, per_channel=affine.per_channel)


@dataclass(frozen=True)
class InputMapRule(Rule[InputMap]):
    """R unchanged, whatever the config: the map of a model that is fed with normalised pixels."""

    def relevance(self, step: Step[InputMap], relevance: Tensor) -> Relevances:
        """R_i = R_i, summed where a pixel was broadcast; nothing where the scale is 0 and the pixel does not count."""
        return (step.operation.drop_unscaled(relevance).sum_to_size(step.shapes[0]),)
