"""Values of an ONNX net: fixed tensors, or Symbols that stand for what a node of the graph will put out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from lrpcli.models.graph_builder import META, Shape


@dataclass(frozen=True)
class Symbol:
    """What a node of the graph puts out: its shape, with the batch axis first, and what is known of its numbers."""

    node: fx.Node
    shape: Shape
    dtype: torch.dtype = torch.float32
    nonnegative: bool = False
    module: nn.Module | None = None
    """The module that puts it out, into which a factor or an addend per channel can still be folded."""
    whole: bool = False
    """Whether they are whole numbers, with which nothing is computed before they are cast."""
    permuted: "tuple[Symbol, tuple[int, ...]] | None" = None
    """The value of which it is a permutation, and the order of the axes."""

    flattened: bool = False
    """Whether the file has it without the batch axis, which is of one image there."""

    @property
    def meta(self) -> Tensor:
        """A tensor of its shape without numbers."""
        return torch.empty(self.shape, dtype=self.dtype, device=META)


Value = Tensor | Symbol


def kind_of(value: Value) -> str:
    """Which kind of numbers a value is in the file: "float", "int" or "bool"."""
    if value.dtype == torch.bool:
        return "bool"
    whole = value.whole if isinstance(value, Symbol) else not value.is_floating_point()
    return "int" if whole else "float"


def distinct(tensor: Tensor) -> Tensor:
    """A tensor without the axes along which all its numbers are one in memory."""
    for axis, step in enumerate(tensor.stride()):
        if step == 0 and tensor.shape[axis] > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape of a value, the batch axis included."""
    return tuple(value.shape)


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front. ValueError if there is none of that number."""
    if not -rank <= axis < max(rank, 1):
        raise ValueError(f"there is no axis {axis} among {rank}")
    return axis + rank if axis < 0 else axis


def leaves(value: Any) -> list[Any]:
    """What lists, tuples and mappings hold in the end."""
    found: list[Any] = []
    fx.node.map_aggregate(value, found.append)
    return found


def without_numbers(leaf: Any) -> Any:
    """An argument with a tensor of its shape in the place of a value."""
    if isinstance(leaf, Symbol):
        return leaf.meta
    return leaf.to(META) if isinstance(leaf, Tensor) else leaf


def ints(values: Sequence[Any]) -> tuple[int, ...]:
    """Whole numbers."""
    return tuple(int(value) for value in values)
