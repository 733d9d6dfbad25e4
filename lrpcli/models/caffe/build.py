"""A net description and weights -> torch.fx.GraphModule whose nodes carry the source file's layer names."""

import itertools
import keyword
import math
import re
from collections.abc import Callable, Container, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from lrpcli.errors import ModelError
from lrpcli.models.caffe.files import Weights
from lrpcli.models.caffe.network import Classifier, SourceLayer

MAXIMAL_BLOB = 2**28
"""Numbers per image that one layer may put out; a file that asks for more is damaged or malicious."""

EMPTY = fx.GraphModule(nn.Module(), fx.Graph())

Shape = tuple[int, ...]


class Builder:
    """Collects nodes of the graph, one blob at a time; `shapes` are per image, without the batch axis."""

    def __init__(self, source: Classifier, weights: Weights, input_shape: Shape) -> None:
        self.source, self.weights = source, weights
        self.graph = fx.Graph()
        self.modules: dict[str, nn.Module] = {}
        self.nodes: dict[str, fx.Node] = {source.input: self.graph.placeholder("input")}
        self.shapes: dict[str, Shape] = {source.input: input_shape}

    def where(self, layer: SourceLayer) -> str:
        """How messages name a layer."""
        return f"layer {layer.name!r} of {str(self.source.network.path)!r}"

    def inputs(self, layer: SourceLayer, count: int | None = 1) -> tuple[list[fx.Node], list[Shape]]:
        """Nodes and shapes of what a layer reads; ModelError unless there are `count` of them (None: one or more)."""
        bottoms = layer.bottoms
        if not bottoms or (count is not None and len(bottoms) != count):
            raise ModelError(f"The {self.where(layer)} has {len(bottoms)} inputs; a {layer.type} layer takes {count}.")
        return [self.nodes[bottom] for bottom in bottoms], [self.shapes[bottom] for bottom in bottoms]

    def image(self, layer: SourceLayer) -> tuple[fx.Node, tuple[int, int, int]]:
        """Node and shape (C, H, W) of the one thing a layer reads; ModelError if it is no stack of maps."""
        (node,), (shape,) = self.inputs(layer)
        if len(shape) != 3:
            raise ModelError(f"The {self.where(layer)} needs maps (C, H, W) but reads a blob of shape {shape}.")
        return node, shape

    def module(self, layer: SourceLayer, module: nn.Module, source: fx.Node, shape: Shape) -> None:
        """Adds a module as the node that makes the layer's only top."""
        target = attribute_name(layer.name, self.modules)
        self.modules[target] = module
        self.finish(layer, self.named(self.graph.call_module(target, (source,)), layer.name), shape)

    def call(self, name: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> fx.Node:
        """Adds a function call under a layer name; the caller finishes the layer."""
        return self.named(self.graph.call_function(function, arguments, keywords), name)

    def named(self, node: fx.Node, name: str) -> fx.Node:
        """The node, marked with the source layer's name."""
        node.meta["layer"] = name
        return node

    def finish(self, layer: SourceLayer, node: fx.Node, shape: Shape, top: int = 0) -> None:
        """Makes a node the value of one of the layer's tops, also where that overwrites the blob it read."""
        if min(shape, default=1) < 1 or math.prod(shape) > MAXIMAL_BLOB:
            raise ModelError(
                f"The {self.where(layer)} would put out a blob of shape {shape} for one image. Its hyper-parameters do "
                "not fit the input; check the net description and the input shape."
            )
        self.nodes[layer.tops[top]], self.shapes[layer.tops[top]] = node, shape

    def blob(self, layer: SourceLayer, index: int, shape: Shape, what: str) -> Tensor:
        """A float32 copy of one of the layer's blobs. ModelError if it is missing or of another shape."""
        if self.weights.blobs is None:
            return torch.zeros(()).expand(shape)
        blobs = self.weights.blobs.get(layer.name, ())
        if index >= len(blobs):
            raise ModelError(
                f"{str(self.weights.path)!r} holds no {what} for {self.where(layer)}; it has weights for "
                f"{_listed(self.weights.blobs)}. Give the weights that belong to this net."
            )
        array = blobs[index]
        if _squeezed(array.shape) != _squeezed(shape):
            raise ModelError(
                f"The {what} of {self.where(layer)} should have the shape {' x '.join(map(str, shape))}, but "
                f"{str(self.weights.path)!r} holds {' x '.join(map(str, array.shape))}. Give the weights and the net "
                "description that belong together."
            )
        with np.errstate(over="ignore"):
            array = np.array(array, dtype=np.float32).reshape(shape)
        if not np.isfinite(array).all():
            raise ModelError(
                f"The {what} of {self.where(layer)} hold values that are not finite as float32. Fetch "
                f"{str(self.weights.path)!r} again."
            )
        return torch.from_numpy(array)

    def assign(self, module: nn.Module, **tensors: Tensor | None) -> nn.Module:
        """Puts tensors into a module made on the meta device, which set no memory aside."""
        for name, tensor in tensors.items():
            if name in module._buffers:
                module._buffers[name] = tensor
            else:
                module._parameters[name] = None if tensor is None else nn.Parameter(tensor, requires_grad=False)
        return module


def attribute_name(name: str, taken: Container[str]) -> str:
    """A layer name as a module attribute that no other layer and no part of a module has.

    torch.fx writes attribute names into Python source and runs it, and layer names come from files: nothing but
    letters, digits and underscores may pass.
    """
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not plain[:1].isalpha() or keyword.iskeyword(plain) or hasattr(EMPTY, plain):
        plain = f"layer_{plain}"
    candidates = (plain if number == 1 else f"{plain}_{number}" for number in itertools.count(1))
    return next(candidate for candidate in candidates if candidate not in taken)


def build_module(source: Classifier, weights: Weights, input_shape: tuple[int, int, int]) -> tuple[fx.GraphModule, int]:
    """The net in eval mode, parameters float32 and without gradient: (N, C, H, W) -> (N, classes); and `classes`.

    A final softmax is kept. Raises UnsupportedLayer for a layer type that is not known, ModelError for weights that
    are missing or do not fit.
    """
    from lrpcli.models.caffe.layers import add_layer

    builder = Builder(source, weights, input_shape)
    _require_match(builder)
    for layer in source.layers[: -1 if source.softmax else None]:
        add_layer(builder, layer)
    last = source.layers[-1]
    scores = last.bottoms[0] if source.softmax else source.output
    _flatten_scores(builder, scores)
    if source.softmax:
        add_layer(builder, last)
    builder.graph.output(builder.nodes[source.output])
    module = fx.GraphModule(builder.modules, builder.graph, class_name="CaffeNet")
    return module.eval(), builder.shapes[source.output][0]


def _listed(names: Iterable[str]) -> str:
    """The first few names."""
    first = list(itertools.islice(map(repr, names), 9))
    return ", ".join(first[:8]) + (", ..." if len(first) > 8 else "")


def _squeezed(shape: Shape) -> Shape:
    """A shape without leading ones: files before BlobShape give every blob four axes."""
    while shape and shape[0] == 1:
        shape = shape[1:]
    return tuple(shape)


def _require_match(builder: Builder) -> None:
    names, blobs = {layer.name for layer in builder.source.layers}, builder.weights.blobs
    if blobs is not None and names.isdisjoint(blobs):
        raise ModelError(
            f"{str(builder.weights.path)!r} holds weights for none of the layers of "
            f"{str(builder.source.network.path)!r}; it has {_listed(blobs)}. Give the weights and the net description "
            "that belong together."
        )


def _flatten_scores(builder: Builder, blob: str) -> None:
    """Fully convolutional nets end in maps of one pixel (C, 1, 1): scores are (C)."""
    shape = builder.shapes[blob]
    if len(shape) == 1:
        return
    if math.prod(shape[1:]) != 1:
        raise ModelError(
            f"The output {blob!r} of {str(builder.source.network.path)!r} has the shape {shape} and not one score per "
            "class; only nets that classify whole images can be used."
        )
    builder.nodes[blob] = builder.call(f"{blob}/flatten", torch.flatten, builder.nodes[blob], 1)
    builder.shapes[blob] = shape[:1]
