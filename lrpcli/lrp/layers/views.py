"""Layers whose output elements are their inputs', moved, left out, repeated or joined; and their relevance rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lrpcli.lrp.layers.call import Call, FunctionOperation, Place, moved, pull_back
from lrpcli.lrp.operation import Operation, Relevances, Rule, Step


class Concat(Operation):
    """Concatenation along one axis.

    `parts` says what is joined where that is more than the inputs: a Place for an input, a Place behind the inputs for
    what carries no relevance, or a fixed tensor.
    """

    kind = "concat"

    def __init__(self, axis: int, parts: tuple[Tensor | Place, ...] = ()) -> None:
        self.axis, self.parts = axis, parts
        self.signed = bool(parts)

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """The parts behind each other."""
        return self.join(self.all_parts(inputs)), None

    def all_parts(self, values: tuple[Tensor, ...]) -> list[Tensor]:
        """What is joined, in order."""
        if not self.parts:
            return list(values)
        return [values[part.index] if isinstance(part, Place) else part for part in self.parts]

    def join(self, parts: list[Tensor]) -> Tensor:
        """The parts as one tensor."""
        return torch.cat(parts, self.axis)

    def slices(self, relevance: Tensor, step: Step["Concat"]) -> Relevances:
        """The slice of R of each input."""
        if not self.parts:
            return torch.split(relevance, [shape[self.axis] for shape in step.shapes], self.axis)
        shapes = [*step.shapes, *(value.shape for value in step.scalars)]
        sizes = [(shapes[part.index] if isinstance(part, Place) else part.shape)[self.axis] for part in self.parts]
        return self.of_inputs(torch.split(relevance, sizes, self.axis), len(step.shapes))

    def of_inputs(self, slices: Sequence[Tensor], count: int) -> Relevances:
        """Those slices that belong to the `count` inputs, in their order."""
        found = {part.index: slices[i] for i, part in enumerate(self.parts) if isinstance(part, Place)}
        return [found[index] for index in range(count)]

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Copies fixed parts."""
        self.parts = tuple(moved(part, device, dtype) for part in self.parts)


class Stack(Concat):
    """Inputs of equal shapes behind each other along a new axis."""

    def join(self, parts: list[Tensor]) -> Tensor:
        """The parts as one tensor."""
        return torch.stack(parts, self.axis)

    def slices(self, relevance: Tensor, step: Step[Concat]) -> Relevances:
        """The slice of R of each input."""
        slices = relevance.unbind(self.axis)
        return self.of_inputs(slices, len(step.shapes)) if self.parts else slices


class View(FunctionOperation):
    """Reshape, permute, slice, index, expand, one part of a split: every output element is one of the input's.

    Upsampling to the nearest pixel, shuffles and padding by reflection are views too, and so are windows padded by 0.
    """

    kind = "view"

    def __init__(self, function: Callable[..., Any], *, many: bool = False, repeats: bool = False) -> None:
        super().__init__(function)
        self.repeats = repeats
        self.many = many
        """Whether the output is a tuple of views, which only a later getitem turns into one.

        `repeats` says that one number of the input may be several of the output in the same memory.
        """


class Pad(Operation):
    """Padding with one number, as torch.nn.functional.pad counts it; negative sizes crop."""

    kind = "pad"

    def __init__(self, sizes: tuple[int, ...] | Call, value: float = 0.0) -> None:
        self.sizes, self.value = sizes, value
        self.signed = value < 0

    def settled(self, *scalars: Any) -> "Pad":
        """See Operation: sizes that are read off other tensors come from a Call."""
        return Pad(self.sizes(None, *scalars), self.value) if isinstance(self.sizes, Call) else self

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """The padded input."""
        assert not isinstance(self.sizes, Call)
        return functional.pad(inputs[0], self.sizes, value=self.value), None


@dataclass(frozen=True)
class ConcatRule(Rule[Concat]):
    """Each input gets its slice."""

    relevance_at_zero = "passes"

    def relevance(self, step: Step[Concat], relevance: Tensor) -> Relevances:
        """Slices of R."""
        return step.operation.slices(relevance, step)


@dataclass(frozen=True)
class PadRule(Rule[Pad]):
    """Padding gets nothing: R of the border is dropped.

    It is 0 for zeros under the rules that share in proportion to x; flat, w-square and z-box of the next layer lose
    its share, and what a border of another number gets is lost as a bias's share is.
    """

    relevance_at_zero = "passes"

    def relevance(self, step: Step[Pad], relevance: Tensor) -> Relevances:
        """R without its border."""
        sizes = step.operation.sizes
        assert not isinstance(sizes, Call)
        return (functional.pad(relevance, tuple(-size for size in sizes)),)


@dataclass(frozen=True)
class ViewRule(Rule[View]):
    """The same view backwards: what the view left out gets 0, what it repeats gets the sum."""

    relevance_at_zero = "passes"

    def relevance(self, step: Step[View], relevance: Tensor) -> Relevances:
        """Writes R through the same view of an empty input; where it copies or repeats, by the gradient of the view."""
        view, shape = step.operation.function, step.shapes[0]
        result = relevance.new_zeros(shape)
        window = view(result, *step.scalars)
        if _shares_memory(window, result) and 0 not in window.stride() and not step.operation.repeats:
            window.copy_(relevance)
            return (result,)
        return (pull_back(lambda x: view(x, *step.scalars), relevance, shape),)


def _shares_memory(first: Tensor, second: Tensor) -> bool:
    return first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
