"""What a layer and a rule are to the engine, and the division that every rule shares."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

Relevances = Sequence[Tensor | None]
"""Relevance of each tensor input of a layer, in the order of its inputs; None where nothing is sent."""


class Operation:
    """One layer's computation: `run` is a pure function of its tensor inputs that changes none of them.

    `kind` is what configs call it. Parameters are the model's own, never written to, until `to` copies them.
    """

    kind: ClassVar[str]

    def run(self, *inputs: Any) -> tuple[Any, Any]:
        """The output, and a memo that the layer's rule may use again (or None)."""
        raise NotImplementedError

    def describe(self) -> str:
        """Parameters for the layer table, empty if there are none."""
        return ""

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Makes private copies of all parameters there, so that no later change of the model is seen in part."""


@dataclass
class Step:
    """What the forward pass remembered of one layer: only what the layer's rule said it keeps."""

    operation: Any
    shapes: tuple[torch.Size, ...]
    """Shape of each tensor input."""
    inputs: tuple[Tensor, ...] = ()
    output: Tensor | None = None
    memo: Any = None
    scalars: tuple[Any, ...] = ()
    """Sizes that the layer read off other tensors, such as the arguments of a reshape."""
    nonnegative: bool = False
    """Whether the input is known to hold no negative value (it comes from a ReLU)."""
    rectified: bool = False
    """Whether `output` holds what the ReLU behind it made of it, and relevance is zero where that is zero."""


class Rule(ABC):
    """Redistributes relevance from a layer's output to its inputs; data only, so one object serves many threads."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """What the forward pass must remember for it: any of inputs, output, memo."""
    relevance_at_zero: ClassVar[str] = "any"
    """What an input of 0 gets: "zero" nothing, "passes" nothing if no output of 0 got anything, "any" who knows."""

    def why_unfit(self, operation: Operation) -> str:
        """Why it cannot serve a layer of its own kind, as a sentence; empty if it can."""
        return ""

    @abstractmethod
    def relevance(self, step: Step, relevance: Tensor) -> Relevances:
        """Relevance of each input, from the relevance of the output, in the same units."""


def smallest(dtype: torch.dtype) -> float:
    """Magnitude under which a denominator counts as zero: far below any layer's scale, so that no share is bent."""
    tiny = torch.finfo(dtype).tiny
    return tiny * 1e8 if tiny < 1e-30 else tiny  # half precision has no room below


def safe_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator with x / 0 = 0, so that a zero denominator drops the share instead of making NaN."""
    zero = denominator.abs() < smallest(denominator.dtype)
    return numerator / denominator.masked_fill(zero, torch.inf)


def divide_by_nonnegative(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The same for denominators that are never negative but for rounding; such a negative one counts as zero."""
    return numerator / functional.threshold(denominator, smallest(denominator.dtype), torch.inf)


def stabilise(denominator: Tensor, epsilon: float) -> Tensor:
    """denominator + epsilon sign(denominator), with sign(0) = +1; unchanged for epsilon 0."""
    if epsilon == 0:
        return denominator
    return (denominator >= 0).to(denominator.dtype).mul_(2 * epsilon).sub_(epsilon).add_(denominator)
