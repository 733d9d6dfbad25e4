"""A graph of ONNX nodes in the making: values are fixed tensors, or what a node of the graph will put out.

An operator is written once. Where all that it reads is fixed, `compute` does so at once; where it depends on
the input, `compute` adds a node, and finds the shape of its output by running the function without numbers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from lrpcli.errors import ModelError, UnsupportedLayer
from lrpcli.models.graph_builder import META, GraphBuilder, Shape, assign_tensors, attribute_name
from lrpcli.models.onnx.net import OnnxInput, OnnxNet, OnnxNode
from lrpcli.models.reading import Allowance
from lrpcli.text_files import plain_reason

CLIPPED = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus", "Exp", "Abs", "Sqrt"}
"""Operators that put out no negative number."""
KEEPING_SIGNS = {
    "Add", "AveragePool", "Concat", "DepthToSpace", "Dropout", "Flatten", "GlobalAveragePool", "GlobalMaxPool",
    "Identity", "LRN", "Max", "MaxPool", "Mul", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Slice", "SpaceToDepth",
    "Split", "Squeeze", "Sum", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators that put out no negative number if they read none."""
MOVING = {"Cast", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that take whole numbers as they take others."""
MAXIMAL_LIST = 1_000
"""Numbers of a list that says how an operator works, such as axes."""
MAXIMAL_WORK = 2**33
"""Numbers that all functions of fixed tensors together may read and make, which takes seconds."""


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


class OnnxBuilder(GraphBuilder):
    """Collects the nodes of one net. `shape` is that of the input as the file has it, with the batch axis first.

    The first axis counts images, each of which is computed by itself whatever their number; with images=False it is an
    axis as any other. With `order` the graph has the axes of its input in another order, of which this permutation
    makes that of the file.
    """

    def __init__(
        self, net: OnnxNet, source: OnnxInput, shape: Shape, order: Shape | None = None, *, images: bool = True
    ) -> None:
        inner = shape if order is None else tuple(shape[order.index(axis)] for axis in range(len(order)))
        super().__init__(net.path, source.name, inner[1:])
        self.net, self.images = net, images
        self.open_batch = source.shape[:1] == (None,)
        """Whether the file leaves open how many images it reads at once."""
        self.values: dict[str, Value] = dict(net.tensors)
        self.readers = net.readers()
        self._fixed_room = Allowance(net.path, "what it computes of its weights")
        self._work = MAXIMAL_WORK
        given = Symbol(self.nodes[source.name], inner, whole=source.whole)
        unnamed = OnnxNode("input/permute", "Transpose", (), (), {})
        self.values[source.name] = given if order is None else self.permuted(unnamed, given, order)

    def value(self, node: OnnxNode, index: int) -> Value:
        """What a node reads; ModelError if the node leaves it out, or no node before it makes it."""
        name = node.reads(index)
        if not name:
            raise ModelError(f"The {self.named(node)} lacks its input {index + 1}. Export the net again.")
        if name not in self.values:
            raise ModelError(
                f"The {self.named(node)} reads {name!r}, which no node before it makes. Export the net again."
            )
        return self.values[name]

    def optional(self, node: OnnxNode, index: int) -> Value | None:
        """What a node reads, None where it leaves that out."""
        return self.value(node, index) if node.reads(index) else None

    def symbol(self, node: OnnxNode, index: int = 0) -> Symbol:
        """What a node reads and what must depend on the input, as it does in every net that was trained."""
        value = self.value(node, index)
        if isinstance(value, Symbol):
            return value
        raise self.unsupported(node, f"its input {node.reads(index)!r} is fixed; fold constants when exporting")

    def fixed(self, node: OnnxNode, index: int) -> Tensor | None:
        """What a node reads and what must not depend on the input; None where it leaves that out."""
        value = self.optional(node, index)
        if isinstance(value, Symbol):
            raise self.unsupported(node, f"its input {node.reads(index)!r} depends on the image")
        return value

    def numbers(self, node: OnnxNode, index: int, attribute: str) -> list[Any] | None:
        """A list that later versions of an operator read as an input and earlier ones have as an attribute."""
        tensor = self.fixed(node, index)
        if tensor is not None:
            if tensor.numel() > MAXIMAL_LIST:
                raise self.unsupported(node, f"its input {node.reads(index)!r} has {tensor.numel():,} numbers")
            return list(tensor.reshape(-1).tolist())
        given = node.get(attribute)
        return None if given is None else list(given) if isinstance(given, (list, tuple)) else [given]

    def compute(
        self, node: OnnxNode, function: Callable[..., Any], *arguments: Any, part: str = "", **keywords: Any
    ) -> Value:
        """A function of values, computed at once where all are fixed; `part` names a step of a node that takes several."""
        values = _leaves((arguments, keywords))
        without = fx.node.map_aggregate((arguments, keywords), _without_numbers)
        result: Tensor = function(*without[0], **without[1])
        shape = tuple(result.shape)
        if not any(isinstance(value, Symbol) for value in values):
            self._count_fixed(node, function, shape, [value for value in values if isinstance(value, Tensor)])
            fixed: Tensor = function(*arguments, **keywords)
            return fixed
        self._take_room(node, shape)
        name = f"{node.name}/{part}" if part else node.name
        entered = fx.node.map_aggregate((arguments, keywords), lambda leaf: self._entered(leaf, name, node))
        return Symbol(self.call(name, function, *entered[0], **entered[1]), shape, result.dtype)

    def apply(
        self, node: OnnxNode, module: nn.Module, source: Symbol, part: str = "", **tensors: Tensor | None
    ) -> Symbol:
        """A module made without numbers, which then gets its tensors."""
        name = f"{node.name}/{part}" if part else node.name
        shape = tuple(module(source.meta).shape)
        self._take_room(node, shape)
        for key, tensor in tensors.items():
            wanted = getattr(module, key, None)
            if tensor is not None and isinstance(wanted, Tensor) and wanted.shape != tensor.shape:
                raise ModelError(
                    f"The {key} of the {self.named(node)} has the shape {tuple(tensor.shape)} and not "
                    f"{tuple(wanted.shape)}. Export the net again."
                )
            if tensor is not None:
                self.weight_room.take(tuple(tensor.shape), self.named(node))
                self._check_finite(node, tensor)
        made = self.call_module(name, assign_tensors(module, **tensors), source.node)
        return Symbol(made, shape, module=module)

    def permuted(self, node: OnnxNode, source: Symbol, order: tuple[int, ...]) -> Symbol:
        """What a node reads with its axes in another order; two such steps that undo each other are none."""
        if source.permuted is not None:
            source, before = source.permuted
            source = replace(source, module=None)  # others may read it too
            order = tuple(before[axis] for axis in order)
        if order == tuple(range(len(order))):
            return source
        result = self.compute(node, torch.permute, source, order)
        assert isinstance(result, Symbol)
        return replace(result, permuted=(source, order))

    def check_inputs(self, node: OnnxNode) -> None:
        """UnsupportedLayer if a node computes with whole numbers, or without the batch axis."""
        for value in map(self.values.get, node.inputs):
            if isinstance(value, Symbol) and value.whole and node.operator not in MOVING:
                raise self.unsupported(node, "it computes with whole numbers; cast the input to float first")
            if isinstance(value, Symbol) and value.flattened:
                self.keeps_images(node, moved=node.operator != "Gather")

    def keeps_images(self, node: OnnxNode, *, moved: bool) -> None:
        """UnsupportedLayer if a node mixes the images of a batch."""
        if moved and self.images:
            raise self.unsupported(node, "it does not keep the images of a batch apart along the first axis")

    def keeps_axes(self, node: OnnxNode, *values: Value) -> None:
        """UnsupportedLayer if values that a node computes with number by number do not have their images on one axis."""
        rank = max(len(value.shape) for value in values)
        for value in values:
            if isinstance(value, Symbol):
                self.keeps_images(node, moved=len(value.shape) != rank)
            elif any(isinstance(other, Symbol) for other in values):
                self.keeps_images(node, moved=len(value.shape) == rank and value.shape[0] != 1)

    def finish(self, node: OnnxNode, value: Value, output: int = 0) -> None:
        """Makes a value one of those that a node puts out."""
        if isinstance(value, Symbol):
            read = {name: self.values[name] for name in node.inputs if name}
            signs = node.operator in KEEPING_SIGNS and all(self.is_nonnegative(node, other) for other in read.values())
            whole = node.operator != "Cast" and any(
                isinstance(other, Symbol) and other.whole for other in read.values()
            )
            shared = any(
                isinstance(other, Symbol) and other.node is value.node and self.readers[name] != 1
                for name, other in read.items()
            )
            value = replace(
                value,
                nonnegative=node.operator in CLIPPED or signs,
                whole=whole,
                module=None if shared else value.module,
            )
        self.values[node.outputs[output]] = value

    def is_nonnegative(self, node: OnnxNode, value: Value) -> bool:
        """Whether a value that a node reads is known to have no number below zero."""
        if isinstance(value, Symbol):
            return value.nonnegative
        numbers = _distinct(value)
        self.count_work(node, numbers.numel())
        return bool((numbers >= 0).all())

    def flag(self, node: OnnxNode, index: int) -> bool | None:
        """The fixed truth value that a node reads; None where it leaves that out."""
        value = self.fixed(node, index)
        if value is not None and value.numel() != 1:
            raise ValueError(f"its input {index + 1} has the shape {tuple(value.shape)} and is not one truth value")
        return None if value is None else bool(value)

    def number(self, node: OnnxNode, index: int, usual: float | None) -> float | None:
        """The one fixed number that a node reads, `usual` where it leaves that out. ValueError if it is not a number."""
        value = self.fixed(node, index)
        number = usual if value is None else float(value.reshape(()))
        if number is not None and math.isnan(number):
            raise ValueError(f"its input {index + 1} is not a number")
        return number

    def is_used(self, node: OnnxNode, output: int) -> bool:
        """Whether anything reads one of the values that a node puts out."""
        return output < len(node.outputs) and self.readers[node.outputs[output]] > 0

    def named(self, node: OnnxNode) -> str:
        """How messages name a node."""
        return f"node {node.name!r} ({node.operator}, opset {self.net.opset}) of {self.path!r}"

    def misfit(self, node: OnnxNode, error: Exception) -> ModelError:
        """The error for a node that cannot read what it is given."""
        return ModelError(
            f"The {self.named(node)} does not fit what it reads: {plain_reason(error)}. Check the input shape, or export "
            "the net again."
        )

    def unsupported(self, node: OnnxNode, why: str) -> UnsupportedLayer:
        """The error for something this importer does not know."""
        return UnsupportedLayer(
            f"The {self.named(node)} cannot be imported: {why}. Export the net without it, or explain the net that the "
            "file was made from in Python: lrpcli.load_model(module, input_shape=...)."
        )

    def buffer(self, node: OnnxNode, name: str, tensor: Tensor) -> fx.Node:
        """A fixed tensor as a node of the graph."""
        target = attribute_name(f"{name}/constant", self._names)
        self.weight_room.take(tuple(tensor.shape), self.named(node))
        self._check_finite(node, tensor)
        self.modules[target] = tensor
        return self.graph.get_attr(target)

    def _entered(self, leaf: Any, name: str, node: OnnxNode) -> Any:
        """An argument as a node of the graph has it: fixed tensors become buffers of the module."""
        if isinstance(leaf, Symbol):
            return leaf.node
        return self.buffer(node, name, leaf) if isinstance(leaf, Tensor) else leaf

    def _check_finite(self, node: OnnxNode, tensor: Tensor) -> None:
        if not bool(torch.isfinite(_distinct(tensor)).all()):
            raise ModelError(
                f"The {self.named(node)} reads fixed numbers that are not finite as float32. Fetch {self.path!r} again."
            )

    def _take_room(self, node: OnnxNode, shape: Shape) -> None:
        """Counts what a node puts out. ModelError if that is nothing, or too much."""
        if min(shape, default=1) < 1:
            raise ModelError(f"The {self.named(node)} would put out a tensor of shape {shape}. Check the input shape.")
        self._value_room.take(shape[1:] if self.images else shape, self.named(node))

    def take_fixed(self, node: OnnxNode, shape: Shape) -> None:
        """Counts a fixed tensor that a node makes. ModelError if it is one too many."""
        self._fixed_room.take(shape, self.named(node), 8)

    def _count_fixed(self, node: OnnxNode, function: Any, shape: Shape, read: Sequence[Tensor]) -> None:
        """Counts the memory and the work of a function of fixed tensors."""
        self.take_fixed(node, shape)
        inner = read[0].shape[-1] if function is torch.matmul and read[0].dim() else 1
        self.count_work(node, math.prod(shape) * inner + sum(tensor.numel() for tensor in read))

    def count_work(self, node: OnnxNode, numbers: int) -> None:
        """Counts fixed numbers that are read or made. ModelError if they are more than any net needs."""
        self._work -= numbers
        if self._work < 0:
            raise ModelError(
                f"{self.path!r} computes more with its weights before it reads an image (up to the {self.named(node)}) "
                "than a net does. Fold constants when exporting, or fetch the file again."
            )


def _distinct(tensor: Tensor) -> Tensor:
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


def _leaves(value: Any) -> list[Any]:
    found: list[Any] = []
    fx.node.map_aggregate(value, lambda leaf: found.append(leaf))
    return found


def _without_numbers(leaf: Any) -> Any:
    if isinstance(leaf, Symbol):
        return leaf.meta
    return leaf.to(META) if isinstance(leaf, Tensor) else leaf


def ints(values: Sequence[Any]) -> tuple[int, ...]:
    """Whole numbers."""
    return tuple(int(value) for value in values)
