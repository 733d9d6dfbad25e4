"""A call of the traced model as a function of the layers that it reads, and layers that are such functions."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from lrpcli.lrp.operation import Operation


@dataclass(frozen=True)
class Place:
    """Stands where an argument comes from another layer: which of the values that a Call gets."""

    index: int


@dataclass(frozen=True)
class Call:
    """A function with its fixed arguments; called with the values for its Places.

    >>> Call(torch.sub, (5, Place(0)), {"alpha": Place(1)})(torch.tensor(1), 2)
    tensor(3)
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def __call__(self, *values: Any) -> Any:
        """What the function returns for these values."""

        def fill(leaf: Any) -> Any:
            return values[leaf.index] if isinstance(leaf, Place) else leaf

        arguments: Any = fx.node.map_aggregate(self.arguments, fill)
        keywords: Any = fx.node.map_aggregate(self.keywords, fill)
        return self.function(*arguments, **keywords)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Call":
        """The same call with copies of its fixed tensors there; numbers that are whole or truths stay so."""

        def move(leaf: Any) -> Any:
            return moved(leaf, device, dtype) if isinstance(leaf, Tensor) else leaf

        arguments: Any = fx.node.map_aggregate(self.arguments, move)
        keywords: Any = fx.node.map_aggregate(self.keywords, move)
        return Call(self.function, arguments, keywords)


def moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A copy of a tensor, a module or a Call with its tensors there, floating ones in that dtype; all else as it is."""
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else value.dtype, copy=True)
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).to(device, dtype)
    return value.to(device, dtype) if isinstance(value, Call) else value


class FunctionOperation(Operation):
    """Base of the layers that are one function: a Call, a module or what torch has."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def run(self, *inputs: Any) -> tuple[Any, None]:
        """What the function returns; what carries no relevance, such as a size or a mask, comes behind the tensors."""
        return self.function(*inputs), None

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Copies the parameters of a module and the fixed tensors of a Call."""
        self.function = moved(self.function, device, dtype)


def pull_back(function: Callable[[Tensor], Tensor], relevance: Tensor, shape: torch.Size) -> Tensor:
    """The transpose of a linear function of tensors of `shape`, applied to `relevance` of its output's shape."""
    with torch.enable_grad():
        x = relevance.new_zeros(shape).requires_grad_()
        result: Tensor = torch.autograd.grad(function(x), x, relevance)[0]
    return result
