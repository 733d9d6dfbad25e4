"""Layers that take each value from one of several tensors: maximum, minimum, where; winner takes all."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lrpcli.lrp.layers.call import Place, moved
from lrpcli.lrp.operation import Operation, Relevances, Rule, Step


class Maximum(Operation):
    """Elementwise maximum of several tensors, or minimum; the memo: which input won (the first of equals)."""

    kind = "maximum"

    def __init__(self, *, smallest: bool = False) -> None:
        self.smallest = smallest

    def run(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The maximum and the index of the winning input."""
        best, winner = inputs[0], torch.zeros_like(inputs[0], dtype=torch.uint8)
        for index, challenger in enumerate(inputs[1:], 1):
            wins = challenger < best if self.smallest else challenger > best
            best = torch.where(wins, challenger, best)
            winner = winner.expand(best.shape).masked_fill(wins, index)
        return best, winner

    def shares(self, relevance: Tensor, winner: Tensor, count: int) -> list[Tensor]:
        """R of each of the `count` inputs, where it won."""
        return [relevance.where(winner == i, 0.0) for i in range(count)]


class Selection(Operation):
    """Values of `first` where a condition holds, else of `second`; the memo: the condition.

    `first` and `second` are Places among the inputs, or fixed, or Places behind the inputs for what carries no
    relevance, as the condition may be. A `whole` one is an activation of its one signal: that gets R also where a
    constant was chosen.
    """

    kind = "maximum"
    signed = True

    def __init__(self, condition: Place | Tensor, first: Any, second: Any, *, whole: bool = False) -> None:
        self.condition, self.branches, self.whole = condition, (first, second), whole

    def run(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        """The chosen values and the condition."""
        condition, first, second = (
            inputs[part.index] if isinstance(part, Place) else part for part in (self.condition, *self.branches)
        )
        return torch.where(condition, first, second), condition

    def shares(self, relevance: Tensor, condition: Tensor, count: int) -> list[Tensor]:
        """R of each of the `count` inputs, where it was chosen."""
        if self.whole and count == 1:
            return [relevance]
        chosen = (relevance.where(condition, 0.0), relevance.where(condition.logical_not(), 0.0))
        places = [part.index if isinstance(part, Place) else count for part in self.branches]
        return [sum(part for part, place in zip(chosen, places, strict=True) if place == i) for i in range(count)]  # type: ignore[misc]

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Copies what is fixed."""
        self.condition = moved(self.condition, device, dtype)
        self.branches = (moved(self.branches[0], device, dtype), moved(self.branches[1], device, dtype))


AnySelection = Maximum | Selection


@dataclass(frozen=True)
class MaximumRule(Rule[AnySelection]):
    """Winner takes all; the first of equals."""

    needs = frozenset({"memo"})
    relevance_at_zero = "passes"

    def relevance(self, step: Step[AnySelection], relevance: Tensor) -> Relevances:
        """R where the input won, else 0."""
        assert step.memo is not None
        shares = step.operation.shares(relevance, step.memo, len(step.shapes))
        return [share.sum_to_size(shape) for share, shape in zip(shares, step.shapes, strict=True)]
