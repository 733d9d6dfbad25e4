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
from lrpcli.models.graph_builder import MAXIMAL_VALUE, META, GraphBuilder, assign_tensors, attribute_name
from lrpcli.models.onnx.net import OnnxNet, OnnxNode

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
MAXIMAL_FIXED = 2**28
"""Numbers that one fixed tensor may hold."""


@dataclass(frozen=True)
class Symbol:
    """What a node of the graph puts out: its shape, with the batch axis first, and what is known of its numbers."""

    node: fx.Node
    shape: tuple[int, ...]
    nonnegative: bool = False
    module: nn.Module | None = None
    """The module that puts it out, into which a factor or an addend per channel can still be folded."""
    whole: bool = False
    """Whether they are whole numbers, with which nothing is computed before they are cast."""
    permuted: "tuple[Symbol, tuple[int, ...]] | None" = None
    """The value of which it is a permutation, and the order of the axes."""

    @property
    def meta(self) -> Tensor:
        """A tensor of its shape without numbers."""
        return torch.empty(self.shape, device=META)


Value = Tensor | Symbol


class OnnxBuilder(GraphBuilder):
    """Collects the nodes of one net. `shape` is that of the input, with the batch axis first.

    With `images` the first axis counts images, each of which must be computed by itself whatever their number.
    """

    def __init__(self, net: OnnxNet, shape: tuple[int, ...], *, images: bool = True) -> None:
        super().__init__(net.path, net.input, shape[1:])
        self.net, self.batch, self.images = net, shape[0], images
        self.values: dict[str, Value] = dict(net.tensors)
        self.values[net.input] = Symbol(self.nodes[net.input], shape, whole=net.whole)
        self.readers = net.readers()

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
            return list(tensor.reshape(-1).tolist())
        given = node.get(attribute)
        return None if given is None else list(given) if isinstance(given, (list, tuple)) else [given]

    def compute(self, node: OnnxNode, function: Callable[..., Any], *arguments: Any, part: str = "", **keywords: Any) -> Value:
        """A function of values, computed at once where all are fixed; `part` names a step of a node that takes several."""
        values = [value for value in _leaves((arguments, keywords)) if isinstance(value, Symbol)]
        if not values:
            return self._checked(node, function(*arguments, **keywords))
        name = f"{node.name}/{part}" if part else node.name
        entered = fx.node.map_aggregate((arguments, keywords), lambda leaf: self._entered(leaf, name))
        without = fx.node.map_aggregate((arguments, keywords), _without_numbers)
        shape = self._shape(node, lambda: function(*without[0], **without[1]))
        made = self.call(name, function, *entered[0], **entered[1])
        return Symbol(made, shape)

    def apply(self, node: OnnxNode, module: nn.Module, source: Symbol, part: str = "", **tensors: Tensor | None) -> Symbol:
        """A module made without numbers, which then gets its tensors."""
        name = f"{node.name}/{part}" if part else node.name
        shape = self._shape(node, lambda: module(source.meta))
        return Symbol(self.call_module(name, assign_tensors(module, **tensors), source.node), shape, module=module)

    def permuted(self, node: OnnxNode, source: Symbol, order: tuple[int, ...]) -> Symbol:
        """What a node reads with its axes in another order; two such steps that undo each other are none."""
        if source.permuted is not None:
            source, before = source.permuted
            order = tuple(before[axis] for axis in order)
        if order == tuple(range(len(order))):
            return source
        result = self.compute(node, torch.permute, source, order)
        assert isinstance(result, Symbol)
        return replace(result, permuted=(source, order))

    def permute_input(self, order: tuple[int, ...]) -> None:
        """Gives the file its input in another order of axes than the net that is made here has."""
        source = self.values[self.net.input]
        assert isinstance(source, Symbol)
        self.values[self.net.input] = self.permuted(OnnxNode("input/permute", "Transpose", (), (), {}), source, order)

    def check_numbers(self, node: OnnxNode) -> None:
        """UnsupportedLayer if a node computes with whole numbers."""
        read = (self.values.get(name) for name in node.inputs)
        if node.operator not in MOVING and any(isinstance(value, Symbol) and value.whole for value in read):
            raise self.unsupported(node, "it computes with whole numbers; cast the input to float first")

    def keeps_images(self, node: OnnxNode, *, moved: bool) -> None:
        """UnsupportedLayer if a node mixes the images of a batch."""
        if moved and self.images:
            raise self.unsupported(node, "it does not keep the images of a batch apart along the first axis")

    def finish(self, node: OnnxNode, value: Value, output: int = 0) -> None:
        """Makes a value one of those that a node puts out."""
        read = [self.values[name] for name in node.inputs if name]
        if isinstance(value, Symbol):
            positive = node.operator in CLIPPED or (node.operator in KEEPING_SIGNS and all(map(is_nonnegative, read)))
            whole = node.operator != "Cast" and any(isinstance(other, Symbol) and other.whole for other in read)
            value = replace(value, nonnegative=positive, whole=whole)
        self.values[node.outputs[output]] = value

    def is_used(self, node: OnnxNode, output: int) -> bool:
        """Whether anything reads one of the values that a node puts out."""
        return output < len(node.outputs) and self.readers[node.outputs[output]] > 0

    def named(self, node: OnnxNode) -> str:
        """How messages name a node."""
        return f"node {node.name!r} ({node.operator}, opset {self.net.opset}) of {self.path!r}"

    def unsupported(self, node: OnnxNode, why: str) -> UnsupportedLayer:
        """The error for something this importer does not know."""
        return UnsupportedLayer(
            f"The {self.named(node)} cannot be imported: {why}. Export the net without it, or explain the net that the "
            "file was made from in Python: lrpcli.load_model(module, input_shape=...)."
        )

    def _entered(self, leaf: Any, name: str) -> Any:
        """An argument as a node of the graph has it: fixed tensors become buffers of the module."""
        if isinstance(leaf, Symbol):
            return leaf.node
        return self.buffer(name, leaf) if isinstance(leaf, Tensor) else leaf

    def buffer(self, name: str, tensor: Tensor) -> fx.Node:
        """A fixed tensor as a node of the graph."""
        target = attribute_name(f"{name}/constant", self.modules)
        self.modules[target] = tensor
        return self.graph.get_attr(target)

    def _shape(self, node: OnnxNode, run: Callable[[], Any]) -> tuple[int, ...]:
        try:
            result = run()
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(
                f"The {self.named(node)} does not fit what it reads: {reason.rstrip('.')}. Check the input shape."
            ) from error
        shape = tuple(result.shape)
        if math.prod(shape) > MAXIMAL_VALUE * max(self.batch, 1) or min(shape, default=1) < 1:
            raise ModelError(f"The {self.named(node)} would put out a tensor of shape {shape}. Check the input shape.")
        return shape

    def _checked(self, node: OnnxNode, result: Any) -> Any:
        for tensor in _leaves(result):
            if isinstance(tensor, Tensor) and tensor.numel() > MAXIMAL_FIXED:
                raise ModelError(f"The {self.named(node)} makes {tensor.numel():,} numbers. The file is damaged.")
        return result


def is_nonnegative(value: Value) -> bool:
    """Whether a value is known to have no number below zero."""
    return value.nonnegative if isinstance(value, Symbol) else bool((value >= 0).all())


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape of a value, the batch axis included."""
    return tuple(value.shape)


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front."""
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
