"""Layers whose output elements are their inputs', moved, left out, repeated or joined; and their relevance rules."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lrpcli.lrp.operation import Operation, Relevances, Rule, Step


class Concat(Operation):
    """Concatenation along one axis."""

    kind = "concat"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """The inputs behind each other."""
        return torch.cat(inputs, self.axis), None


class View(Operation):
    """Reshape, permute, slice, index, expand, one part of a split: every output element is one of the input's."""

    kind = "view"

    def __init__(self, function: Callable[..., Any], *, many: bool = False) -> None:
        self.function = function
        self.many = many
        """Whether the output is a tuple of views, which only a later getitem turns into one."""

    def run(self, *inputs: Any) -> tuple[Any, None]:
        """The view; inputs after the first are sizes read off other tensors."""
        return self.function(*inputs), None


class Pad(Operation):
    """Zero padding, as torch.nn.functional.pad counts it; negative sizes crop."""

    kind = "pad"

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """The padded input."""
        return functional.pad(inputs[0], self.sizes), None


@dataclass(frozen=True)
class ConcatRule(Rule[Concat]):
    """Each input gets its slice."""

    relevance_at_zero = "passes"

    def relevance(self, step: Step[Concat], relevance: Tensor) -> Relevances:
        """Slices of R."""
        axis = step.operation.axis
        return torch.split(relevance, [shape[axis] for shape in step.shapes], axis)


@dataclass(frozen=True)
class PadRule(Rule[Pad]):
    """Padding gets nothing: R of the border is dropped.

    It is 0 for the rules that share in proportion to x; flat, w-square and z-box of the next layer lose its share.
    """

    relevance_at_zero = "passes"

    def relevance(self, step: Step[Pad], relevance: Tensor) -> Relevances:
        """R without its border."""
        return (functional.pad(relevance, tuple(-size for size in step.operation.sizes)),)


@dataclass(frozen=True)
class ViewRule(Rule[View]):
    """The same view backwards: what the view left out gets 0, what it repeats gets the sum."""

    relevance_at_zero = "passes"

    def relevance(self, step: Step[View], relevance: Tensor) -> Relevances:
        """Writes R through the same view of an empty input; where it copies or repeats, through a view of indices."""
        view, shape = step.operation.function, step.shapes[0]
        result = relevance.new_zeros(shape)
        window = view(result, *step.scalars)
        if _shares_memory(window, result) and 0 not in window.stride():
            window.copy_(relevance)
            return (result,)
        places = view(torch.arange(result.numel(), device=result.device).view(shape), *step.scalars)
        result.view(-1).index_add_(0, places.flatten(), relevance.flatten())
        return (result,)


def _shares_memory(first: Tensor, second: Tensor) -> bool:
    return first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
