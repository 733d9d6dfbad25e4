"""Layers in execution order, and what is done to them once they are all there: folding, forgetting, numbering."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from lrpcli.errors import ModelError, UnsupportedLayer
from lrpcli.lrp.layers.elementwise import Activation, Affine, Rescaled, Sum, is_unchanged, unchanged
from lrpcli.lrp.layers.linear import LinearOperation
from lrpcli.lrp.layers.pooling import AveragePool
from lrpcli.lrp.layers.preprocessing import InputMap, SizedInputMap
from lrpcli.lrp.layers.products import Silent
from lrpcli.lrp.operation import Operation

FINAL = {"sigmoid": "sigmoid", "logsigmoid": "sigmoid", "hardsigmoid": "hardsigmoid"}
"""Activations that are stripped where they end a model, by name of module or function, and the head that they are."""
POSITIVE = {"softplus", "exp"}
"""Activations that rise and are positive also where their input is negative, as a sigmoid is."""


@dataclass
class Layer:
    """One node of the graph. A module that is used twice is two layers."""

    name: str
    type: str
    operation: Operation
    inputs: tuple[int, ...]
    scalars: tuple[int, ...] = ()
    aliases: tuple[str, ...] = ()
    """Names of layers folded into this one, such as a BatchNorm."""
    position: int | None = None
    """Number among the convolutions and fully connected layers, from 1; None for every other layer."""
    depth: float | None = None
    """Share of the way from input to logits at which one of those lies, 0..1, see _measure_depth; else None."""
    first: bool = False
    last: bool = False
    nonnegative: bool = False
    """Whether the layer's first input is known to hold no negative value."""

    @property
    def sources(self) -> tuple[int, ...]:
        """The layers that it reads, for their values or for sizes."""
        return self.inputs + self.scalars

    @property
    def kind(self) -> str:
        """What a config calls this sort of layer."""
        return self.operation.kind

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a config may use for it."""
        return (self.name, *self.aliases)


@dataclass
class Graph:
    """Layers in execution order; layer 0 is the input, `output` the logits."""

    layers: list[Layer]
    output: int
    head: str = "softmax"
    """What makes probabilities of the logits, one of targets.HEADS; softmax where the model ends in logits."""
    preprocessing: frozenset[int] = frozenset((0,))
    """The input and what is made of its elements one by one; see InputMap."""
    ending: str = ""
    """Type of the last layer of the model as it was written, views behind it left out: it may be stripped."""
    shape: tuple[int | None, ...] = ()
    """Axes behind the first of the images that torch.export traced it for, None where any length will do; or ()."""

    def to(self, device: torch.device, dtype: torch.dtype) -> "Graph":
        """The same graph with private copies of all parameters; the module it came from keeps its own."""
        for layer in self.layers:
            layer.operation.to(device, dtype)
        return self

    def require_shape(self, shape: torch.Size) -> None:
        """ModelError if the graph was traced for images of another shape than those of an input (N, C, H, W)."""
        if self.shape and (
            len(shape) != len(self.shape) + 1
            or any(wanted not in (None, side) for wanted, side in zip(self.shape, shape[1:], strict=True))
        ):
            traced = ", ".join("any" if side is None else str(side) for side in self.shape)
            raise ModelError(
                f"The model was traced for images of shape ({traced}), and what it computes for {tuple(shape[1:])} may "
                "be something else. Trace it anew for that shape: Explainer(model, input_shape=...)."
            )

    def named(self) -> Iterator[tuple[str, Layer]]:
        """Every layer after the input under every name it has."""
        for layer in self.layers[1:]:
            for name in layer.names:
                yield name, layer


def make_graph(layers: list[Layer], output: int) -> Graph:
    """The graph of these layers: final softmax or sigmoid stripped, BatchNorm folded, unread layers forgotten.

    UnsupportedLayer names a layer without a rule that relevance would reach, such as a softmax in the middle, and
    probabilities that the model goes on computing with.
    """
    graph = Graph(layers, *_strip_head(layers, output))
    _drop_unreachable(graph)
    _unify_affine(graph)
    _fold_affine(graph)
    _drop_unreachable(graph)
    _refuse_silent(graph)
    _refuse_probabilities(graph)
    _mark_preprocessing(graph)
    _number(graph)
    _measure_depth(graph)
    _mark_nonnegative(graph)
    return graph


def _strip_head(layers: list[Layer], output: int) -> tuple[int, str]:
    """The output without a final softmax or sigmoid, and what turns it into probabilities.

    Views of the probabilities, such as a flatten, become views of the logits.
    """
    index = reader = output
    while layers[index].kind == "view" or is_unchanged(layers[index].operation):
        if not layers[index].inputs:
            return output, "softmax"
        reader, index = index, layers[index].inputs[0]
    head = "softmax" if layers[index].kind == "softmax" else probability(layers[index])
    if head is None:
        return output, "softmax"
    if index == output:
        return layers[index].inputs[0], head
    layers[reader].inputs = layers[index].inputs
    layers[index].operation = Activation(unchanged)  # where its size is read off
    return output, head


def probability(layer: Layer) -> str | None:
    """The head that an activation is where it ends a model; None for one that makes no probabilities."""
    return FINAL.get(layer.type.lower().replace("_", ""))


def _refuse_probabilities(graph: Graph) -> None:
    """UnsupportedLayer if probabilities, their logarithms or what is always positive is made behind the last layers.

    The z-rule divides their relevance by what they read, which may be negative where they are positive.
    """
    stack, linear = [graph.output], any(isinstance(layer.operation, LinearOperation) for layer in graph.layers)
    while stack:
        layer = graph.layers[stack.pop()]
        if isinstance(layer.operation, LinearOperation):
            continue
        if probability(layer) and not is_unchanged(layer.operation):
            raise UnsupportedLayer(
                f"Layer {layer.name!r} of type {layer.type} makes probabilities, and the model goes on computing with "
                "them up to its output: maps of classes below one half would have the wrong sign. Only a softmax or "
                f"sigmoid at the very end is stripped; let the model return what {layer.name!r} reads."
            )
        if linear and layer.type.lower() in POSITIVE:
            raise UnsupportedLayer(
                f"Layer {layer.name!r} of type {layer.type} stands behind the last linear layer and is positive also "
                "where it reads a negative value: maps of such classes would have the wrong sign. Let the model return "
                f"what {layer.name!r} reads."
            )
        stack.extend(layer.operation.receivers(layer.inputs))


def _mark_preprocessing(graph: Graph) -> None:
    """Finds what is made of the input's elements one by one, and makes its affine maps InputMaps."""
    found = {0}
    for index, layer in enumerate(graph.layers):
        if not layer.inputs or not found.issuperset(layer.inputs):
            continue
        if isinstance(layer.operation, Affine):
            layer.operation = InputMap.of(layer.operation)
        elif isinstance(layer.operation, (Rescaled, Sum)) and len(layer.inputs) == 1 and _is_given(graph, layer):
            layer.operation = SizedInputMap(layer.operation)
        elif layer.kind not in ("view", "concat", "pad") and not is_unchanged(layer.operation):
            continue
        found.add(index)
    graph.preprocessing = frozenset(found)


def _is_given(graph: Graph, layer: Layer) -> bool:
    """Whether nothing but the values of its input and sizes, number types and devices decide what a layer puts out."""
    stack, seen = list(layer.scalars), set(layer.scalars)
    while stack:
        scalar = graph.layers[stack.pop()]
        if scalar.kind != "scalar":
            continue  # where a size is read off
        if scalar.inputs:  # a mask
            return False
        stack.extend(set(scalar.scalars) - seen)
        seen.update(scalar.scalars)
    return True


def _unify_affine(graph: Graph) -> None:
    """Makes a layer plus or minus a constant an affine map, so that there is one rule for all of these."""
    for layer in graph.layers:
        operation = layer.operation
        if isinstance(operation, Sum) and len(layer.sources) == len(operation.signs) == 1:
            layer.operation = Affine(operation.signs[0], operation.constant)


def _fold_affine(graph: Graph) -> None:
    """Takes a BatchNorm or Scale into the linear layer before it; in float64, until Graph.to casts the parameters."""
    counts: dict[int, int] = {}
    for layer in graph.layers:
        for source in layer.sources:
            counts[source] = counts.get(source, 0) + 1
    replaced: dict[int, int] = {}
    for index, layer in enumerate(graph.layers):
        layer.inputs = tuple(replaced.get(i, i) for i in layer.inputs)
        layer.scalars = tuple(replaced.get(i, i) for i in layer.scalars)
        if not isinstance(layer.operation, Affine) or not layer.operation.per_channel:
            continue
        source = layer.inputs[0]
        target = graph.layers[source]
        if counts[source] > 1 or source == graph.output or not isinstance(target.operation, LinearOperation):
            continue
        if target.operation.outputs == torch.as_tensor(layer.operation.scale).numel():
            target.operation = _folded(target.operation, layer.operation)
            target.aliases = (*target.aliases, layer.name)
            counts[source] = counts.get(index, 0)
            replaced[index] = source
    graph.output = replaced.get(graph.output, graph.output)


def _folded(linear: LinearOperation, affine: Affine) -> LinearOperation:
    scale = torch.as_tensor(affine.scale).double()
    shift = scale.new_zeros(scale.shape) if affine.shift is None else torch.as_tensor(affine.shift).double()
    return linear.scaled(scale, shift)


def _drop_unreachable(graph: Graph) -> None:
    """Forgets layers that the logits do not depend on, such as a stripped softmax or an auxiliary head."""
    graph.layers = alone(graph.layers, leading_to(graph.layers, graph.output))
    graph.output = len(graph.layers) - 1


def leading_to(layers: list[Layer], index: int) -> list[int]:
    """The layers that one of them depends on, in order; itself, which is the last, and the input are among them."""
    needed, stack = {0}, [index]
    while stack:
        index = stack.pop()
        if index not in needed:
            needed.add(index)
            stack.extend(layers[index].sources)
    return sorted(needed)


def alone(layers: list[Layer], path: list[int]) -> list[Layer]:
    """Copies of the layers of a path that holds all that they read, numbered anew."""
    order = {old: new for new, old in enumerate(path)}
    return [
        replace(
            layers[index],
            inputs=tuple(order[source] for source in layers[index].inputs),
            scalars=tuple(order[source] for source in layers[index].scalars),
        )
        for index in path
    ]


def _refuse_silent(graph: Graph) -> None:
    """UnsupportedLayer for what has no rule and is more than a gate: relevance would reach it."""
    reached = {graph.output}
    for index in reversed(range(len(graph.layers))):
        layer = graph.layers[index]
        if index not in reached or layer.kind == "scalar":
            continue
        if isinstance(layer.operation, Silent):
            raise UnsupportedLayer(
                layer.operation.refusal
                or f"Layer {layer.name!r} is a softmax in the middle of the model, and no relevance rule is known for "
                "it; only a softmax at the very end can be explained (it is stripped), or one that is the gate of a "
                "product."
            )
        reached.update(layer.operation.receivers(layer.inputs))


def _number(graph: Graph) -> None:
    """Numbers the linear layers; first ones have no linear layer below them, last ones none above."""
    below = [False] * len(graph.layers)
    above = [False] * len(graph.layers)
    position = 0
    for index, layer in enumerate(graph.layers):
        below[index] = any(below[i] or isinstance(graph.layers[i].operation, LinearOperation) for i in layer.inputs)
        if isinstance(layer.operation, LinearOperation):
            position += 1
            layer.position, layer.first = position, not below[index]
    for index in reversed(range(len(graph.layers))):
        layer = graph.layers[index]
        linear = isinstance(layer.operation, LinearOperation)
        layer.last = linear and not above[index]
        for source in layer.inputs:
            above[source] = above[source] or above[index] or linear


def _measure_depth(graph: Graph) -> None:
    """Gives each linear layer (k - 1/2) / n: it is the k-th on the longest path to it, of n on the longest of all.

    Paths are those that relevance takes, so that the layers of a gate are as deep as what they read.
    """
    count = [0] * len(graph.layers)
    for index, layer in enumerate(graph.layers):
        below = max((count[source] for source in layer.operation.receivers(layer.inputs)), default=0)
        count[index] = below + isinstance(layer.operation, LinearOperation)
    longest = max(count[graph.output], 1)
    for index, layer in enumerate(graph.layers):
        if isinstance(layer.operation, LinearOperation):
            layer.depth = min((count[index] - 0.5) / longest, 1.0)


def _mark_nonnegative(graph: Graph) -> None:
    known: list[bool] = []
    for index, layer in enumerate(graph.layers):
        layer.nonnegative = bool(layer.inputs) and known[layer.inputs[0]]
        known.append(index > 0 and _is_nonnegative(layer.operation, [known[i] for i in layer.inputs]))


def _is_nonnegative(operation: Operation, inputs: list[bool]) -> bool:
    """Whether the output of an operation can hold no negative value, from what is known of its inputs."""
    if operation.signed:
        return False
    if isinstance(operation, Activation):
        return operation.nonnegative or (is_unchanged(operation) and all(inputs))
    if isinstance(operation, Sum):
        return all(inputs) and operation.constant is None and all(sign > 0 for sign in operation.signs)
    if isinstance(operation, AveragePool) and (operation.arguments[-1] or 1) < 0:
        return False
    kinds = {"lrn", "max-pool", "average-pool", "concat", "view", "product", "maximum", "pad"}
    return operation.kind in kinds and all(inputs)
