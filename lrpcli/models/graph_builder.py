"""Builds what every importer of a net description gives: a torch.fx.GraphModule that carries the file's own names.

An importer reads its file, walks through the layers in execution order, and adds each as a module or a function call.
Modules are made on the meta device, which sets no memory aside, and get their tensors from the file.
"""

import keyword
import math
import re
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from lrpcli.errors import ModelError
from lrpcli.models.reading import Allowance

META = torch.device("meta")
EMPTY = fx.GraphModule(nn.Module(), fx.Graph())

Shape = tuple[int, ...]


class GraphBuilder:
    """Collects the nodes of a graph by the names that the file gives to layers and to values between them.

    `path` is the file that messages name. `nodes` and `shapes` hold the values known so far, first of all the input;
    shapes are per image, without the batch axis. Raises ModelError where the values or the weights ask for more memory
    than MEMORY_LIMIT of lrpcli.models.reading.
    """

    def __init__(self, path: str | Path, input_name: str, input_shape: Shape) -> None:
        self.path = str(path)
        self.graph = fx.Graph()
        self.modules: dict[str, nn.Module | Tensor] = {}
        self.weight_room = Allowance(path, "its weights")
        self._value_room = Allowance(path, "the values between its layers for one image")
        self._names: dict[str, int] = {}
        self.nodes: dict[str, fx.Node] = {input_name: self.graph.placeholder("input")}
        self.shapes: dict[str, Shape] = {input_name: input_shape}
        self._value_room.take(input_shape, "the input")

    def where(self, layer: str) -> str:
        """How messages name a layer."""
        return f"layer {layer!r} of {self.path!r}"

    def call_module(self, layer: str, module: nn.Module, source: fx.Node) -> fx.Node:
        """Adds a module under a layer name; `define` makes it a value."""
        target = attribute_name(layer, self._names)
        self.modules[target] = module
        return _mark(self.graph.call_module(target, (source,)), layer)

    def call(self, layer: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> fx.Node:
        """Adds a function call under a layer name; `define` makes it a value."""
        return _mark(self.graph.call_function(function, arguments, keywords), layer)

    def define(self, value: str, node: fx.Node, shape: Shape, layer: str) -> None:
        """Makes a node the value of that name, also where the name had another value before.

        Raises ModelError that names the layer if the shape is empty or asks for too much memory.
        """
        if min(shape, default=1) < 1:
            raise ModelError(
                f"The {self.where(layer)} would put out a blob of shape {shape} for one image. Its hyper-parameters do "
                "not fit the input; check the net description and the input shape."
            )
        self._value_room.take(shape, f"layer {layer!r}")
        self.nodes[value], self.shapes[value] = node, shape

    def check_padded(self, shape: Shape, layer: str) -> None:
        """ModelError that names a layer whose input, padded for a moment to this shape, asks for too much memory."""
        Allowance(self.path, "an image padded").take(shape, f"layer {layer!r}")

    def flatten_scores(self, value: str) -> None:
        """Makes a value one score per class (C): fully convolutional nets end in maps of one pixel (C, 1, 1).

        Raises ModelError if it is anything larger, or was not made.
        """
        if value not in self.shapes:
            raise ModelError(
                f"The output {value!r} of {self.path!r} cannot be made here. Choose another with --output."
            )
        shape = self.shapes[value]
        if len(shape) == 1:
            return
        if math.prod(shape[1:]) != 1:
            raise ModelError(
                f"The output {value!r} of {self.path!r} has the shape {shape} and not one score per "
                "class; only nets that classify whole images can be used."
            )
        self.nodes[value] = self.call(f"{value}/flatten", torch.flatten, self.nodes[value], 1)
        self.shapes[value] = shape[:1]

    def sigmoid(self, value: str) -> None:
        """Makes a value the probabilities of its classes one by one, where a file gives logits and says so."""
        self.nodes[value] = self.call_module(f"{value}/sigmoid", nn.Sigmoid(), self.nodes[value])

    def build(self, output: str, kind: str) -> fx.GraphModule:
        """The module, in eval mode, whose result is the value `output`; `kind` is its class name."""
        self.graph.output(self.nodes[output])
        return fx.GraphModule(self.modules, self.graph, class_name=kind).eval()


def assign_tensors(module: nn.Module, **tensors: Tensor | None) -> nn.Module:
    """Puts tensors into a module made on the meta device; parameters among them want no gradient."""
    for name, tensor in tensors.items():
        if name in module._buffers:
            module._buffers[name] = tensor
        else:
            module._parameters[name] = None if tensor is None else nn.Parameter(tensor, requires_grad=False)
    return module


def copy_as_float32(array: np.ndarray, shape: Shape, what: str, path: str | Path) -> Tensor:
    """The numbers of a file as a float32 tensor in the given shape, which has as many.

    Raises ModelError that names `what` and the file if one is not finite.
    """
    with np.errstate(over="ignore"):
        array = np.array(array, dtype=np.float32).reshape(shape)
    if not np.isfinite(array).all():
        raise ModelError(f"The {what} hold values that are not finite as float32. Fetch {str(path)!r} again.")
    return torch.from_numpy(array)


def attribute_name(name: str, taken: MutableMapping[str, int]) -> str:
    """A layer name as a module attribute that no other layer and no part of a module has.

    `taken` maps the names given so far to the last number behind them, and is brought up to date. torch.fx writes
    attribute names into Python source and runs it, and layer names come from files: nothing but letters, digits and
    underscores may pass.
    """
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not plain[:1].isalpha() or keyword.iskeyword(plain) or hasattr(EMPTY, plain):
        plain = f"layer_{plain}"
    candidate, number = plain, taken.get(plain, 0)
    while candidate in taken:
        number += 1
        candidate = f"{plain}_{number}"
    taken[plain] = max(number, 1)
    taken.setdefault(candidate, 1)
    return candidate


def _mark(node: fx.Node, layer: str) -> fx.Node:
    """The node, which now carries the layer's name; the tracer of the engine reads it there."""
    node.meta["layer"] = layer
    return node
