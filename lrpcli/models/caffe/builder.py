"""A graph of Caffe layers in the making: what a layer reads by its bottoms, makes by its tops, and holds as blobs."""

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, fx, nn

from lrpcli.errors import ModelError, UnsupportedLayer
from lrpcli.models.caffe.files import Weights
from lrpcli.models.caffe.heads import Classifier
from lrpcli.models.caffe.network import SourceLayer, repeated_names
from lrpcli.models.graph_builder import GraphBuilder, Shape, copy_as_float32


class CaffeBuilder(GraphBuilder):
    """Collects the nodes of one net, a blob at a time. Raises ModelError if weights belong to none of its layers."""

    def __init__(self, source: Classifier, weights: Weights, input_shape: Shape) -> None:
        super().__init__(source.network.path, source.input, input_shape)
        self.weights = weights
        self.blobs_read = 0
        self.repeated = repeated_names(list(source.layers))
        names = {layer.name for layer in source.layers}
        if weights.blobs is not None and names.isdisjoint(weights.blobs):
            raise ModelError(
                f"{str(weights.path)!r} holds weights for none of the layers of {self.path!r}; it has "
                f"{_list_first(weights.blobs)}. Give the weights and the net description that belong together."
            )

    def inputs(self, layer: SourceLayer, count: int | None = 1) -> tuple[list[fx.Node], list[Shape]]:
        """Nodes and shapes of what a layer reads; ModelError unless there are `count` of them (None: one or more)."""
        bottoms = layer.bottoms
        if not bottoms or (count is not None and len(bottoms) != count):
            raise ModelError(
                f"The {self.where(layer.name)} has {len(bottoms)} inputs; a {layer.type} layer takes {count}."
            )
        for bottom in bottoms:
            if bottom not in self.nodes:
                raise ModelError(
                    f"The {self.where(layer.name)} reads {bottom!r}, the places of the largest values of a pooling, "
                    "which cannot be made here. Cut the net before it."
                )
        return [self.nodes[bottom] for bottom in bottoms], [self.shapes[bottom] for bottom in bottoms]

    def image(self, layer: SourceLayer) -> tuple[fx.Node, tuple[int, int, int]]:
        """Node and shape (C, H, W) of the one thing a layer reads; ModelError if it is no stack of maps."""
        (node,), (shape,) = self.inputs(layer)
        if len(shape) != 3:
            raise ModelError(f"The {self.where(layer.name)} needs maps (C, H, W) but reads a blob of shape {shape}.")
        return node, shape

    def module(self, layer: SourceLayer, module: nn.Module, source: fx.Node, shape: Shape) -> None:
        """Adds a module as the node that makes the layer's only top."""
        self.finish(layer, self.call_module(layer.name, module, source), shape)

    def finish(self, layer: SourceLayer, node: fx.Node, shape: Shape, top: int = 0) -> None:
        """Makes a node the value of one of the layer's tops, also where that overwrites the blob it read."""
        self.define(layer.tops[top], node, shape, layer.name)

    def forget(self, values: Sequence[str]) -> None:
        """Lets nothing read these values, also where something of the same name was made before."""
        for value in values:
            self.nodes.pop(value, None)
            self.shapes.pop(value, None)

    def blob(self, layer: SourceLayer, index: int, shape: Shape, what: str) -> Tensor:
        """A float32 copy of one of the layer's blobs. ModelError if it is missing or of another shape."""
        self.blobs_read = max(self.blobs_read, index + 1)
        self.weight_room.take(shape, f"the {what} of layer {layer.name!r}")
        if self.weights.blobs is None:
            return torch.zeros(()).expand(shape)
        path, blobs = str(self.weights.path), self.weights.blobs.get(layer.name, ())
        if blobs and layer.name in self.repeated:
            raise ModelError(
                f"The net {self.path!r} has several layers named {layer.name!r}, so that it cannot be said whose "
                f"weights those in {path!r} are. Give each layer a name of its own."
            )
        if index >= len(blobs):
            raise ModelError(
                f"{path!r} holds no {what} for {self.where(layer.name)}; it has weights for "
                f"{_list_first(self.weights.blobs)}. Give the weights that belong to this net."
            )
        array, named = blobs[index], f"{what} of {self.where(layer.name)}"
        if _strip_leading_ones(array.shape) != _strip_leading_ones(shape):
            raise ModelError(
                f"The {named} should have the shape {' x '.join(map(str, shape))}, but {path!r} holds "
                f"{' x '.join(map(str, array.shape))}. Give the weights and the net description that belong together."
            )
        return copy_as_float32(array, shape, named, path)

    def holds(self, layer: SourceLayer) -> int:
        """How many blobs the weights have for a layer."""
        return len((self.weights.blobs or {}).get(layer.name, ()))

    def check_all_read(self, layer: SourceLayer) -> None:
        """ModelError if the weights have more blobs for a layer than it has just read; called once per layer."""
        read, self.blobs_read = self.blobs_read, 0
        held = self.holds(layer)
        if held > read:
            raise ModelError(
                f"{str(self.weights.path)!r} holds {held} blobs for {self.where(layer.name)} ({layer.type}), which "
                f"uses {read} of them as it is described there. Give the weights and the net description that belong "
                "together."
            )

    def unsupported(self, layer: SourceLayer, why: str) -> UnsupportedLayer:
        """The error for something this importer does not know."""
        return UnsupportedLayer(
            f"The {self.where(layer.name)} ({layer.type}) cannot be imported: {why}. Replace it in the net "
            "description, cut the net before it, or load the net as a torch module."
        )


def _list_first(names: Iterable[str]) -> str:
    """The first few names."""
    first = list(itertools.islice(map(repr, names), 9))
    return ", ".join(first[:8]) + (", ..." if len(first) > 8 else "")


def _strip_leading_ones(shape: Shape) -> Shape:
    """Files before BlobShape give every blob four axes."""
    while shape and shape[0] == 1:
        shape = shape[1:]
    return tuple(shape)
