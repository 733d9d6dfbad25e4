"""A torch.nn.Module as a flat list of layers in execution order: traced by torch.fx, BatchNorm folded, all named."""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from lrpcli.errors import ModelError, UnsupportedLayer
from lrpcli.lrp.layers.elementwise import Activation, Affine, Sum, is_unchanged, unchanged
from lrpcli.lrp.layers.linear import Convolution, FullyConnected, LinearOperation
from lrpcli.lrp.layers.pooling import AveragePool
from lrpcli.lrp.operation import Operation
from lrpcli.lrp.tracing.modules import is_leaf
from lrpcli.lrp.tracing.node import Reference, Translated
from lrpcli.lrp.tracing.storage import Aliases
from lrpcli.lrp.tracing.translate import translate


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
    first: bool = False
    last: bool = False
    nonnegative: bool = False
    """Whether the layer's first input is known to hold no negative value."""

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
    """Layers in execution order; layer 0 is the input, `output` the logits (a final softmax is stripped)."""

    layers: list[Layer]
    output: int
    last_use: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _fold_affine(self)
        _drop_unreachable(self)
        _number(self)
        _mark_nonnegative(self)
        self.last_use = {source: index for index, layer in enumerate(self.layers) for source in _sources(layer)}

    def to(self, device: torch.device, dtype: torch.dtype) -> "Graph":
        """The same graph with private copies of all parameters; the module it came from keeps its own."""
        for layer in self.layers:
            layer.operation.to(device, dtype)
        return self

    def named(self) -> Iterator[tuple[str, Layer]]:
        """Every layer after the input under every name it has."""
        for layer in self.layers[1:]:
            for name in layer.names:
                yield name, layer


def _recorded(function: Callable[[Any, Any], Any]) -> Callable[["_Proxy", Any], fx.Proxy]:
    """An operator such as += that is traced as what it is, under the name of the plain one."""

    def record(proxy: "_Proxy", other: Any) -> fx.Proxy:
        name = function.__name__.removeprefix("i")
        return proxy.tracer.create_proxy("call_function", function, (proxy, other), {}, name)

    return record


class _Proxy(fx.Proxy):
    """torch.fx takes x += y for x = x + y; but other names of the same tensor see what was added."""

    __iadd__, __isub__ = _recorded(operator.iadd), _recorded(operator.isub)
    __imul__, __itruediv__ = _recorded(operator.imul), _recorded(operator.itruediv)


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return is_leaf(module)


def build_graph(module: nn.Module) -> Graph:
    """The graph of a module as in eval mode; the module is not changed. UnsupportedLayer names what has no rule."""
    traced = module.graph if isinstance(module, fx.GraphModule) else _trace(module)
    layers: list[Layer] = []
    values: dict[fx.Node, Any] = {}
    uses: dict[str, int] = {}
    aliases = Aliases(traced)
    for node in traced.nodes:
        if node.op == "placeholder":
            if layers:
                _require_default(node)
                values[node] = node.args[0] if node.args else None
                continue
            layers.append(Layer("input", "input", Activation(unchanged), ()))
            values[node] = Reference(0)
        elif node.op == "get_attr":
            values[node] = _attribute(module, str(node.target))
        elif node.op == "output":
            return Graph(layers, _output_index(layers, values, node))
        else:
            name = _unique(_layer_name(node), uses)
            translated = translate(node, name, module, lambda argument: _resolve(argument, values), layers)
            values[node] = _append(layers, name, translated)
            if _carries_relevance(translated):
                aliases.add(node, translated)
                if translated.in_place:  # the traced call wrote over its input, the layer does not
                    values.update(dict.fromkeys(aliases.written_over(node, name), values[node]))
    raise ModelError("The model's graph has no output.")


def _carries_relevance(translated: Translated) -> bool:
    return translated.operation is not None and translated.operation.kind != "scalar"


def _append(layers: list[Layer], name: str, translated: Translated) -> Any:
    if translated.operation is None:
        return translated.value
    layers.append(
        Layer(name, translated.type, translated.operation, translated.inputs, translated.scalars),
    )
    return Reference(len(layers) - 1)


def _trace(module: nn.Module) -> fx.Graph:
    training = [child for child in module.modules() if child.training]
    module.eval()
    try:
        return _Tracer().trace(module)
    except Exception as error:
        raise ModelError(
            f"The forward function of {type(module).__name__} cannot be traced ({error}). Write it without control "
            "flow that depends on tensor values, or pass a torch.fx.GraphModule."
        ) from error
    finally:
        for child in training:
            child.training = True


def _require_default(node: fx.Node) -> None:
    if not node.args:
        raise ModelError(f"The model has a second input, {node.name!r}; only models with one input can be explained.")


def _attribute(root: nn.Module, target: str) -> Any:
    value: Any = root
    for part in target.split("."):
        value = getattr(value, part)
    return value.detach() if isinstance(value, torch.Tensor) else value


def _layer_name(node: fx.Node) -> str:
    if "layer" in node.meta:
        return str(node.meta["layer"])
    return str(node.target) if node.op == "call_module" else node.name


def _unique(name: str, uses: dict[str, int]) -> str:
    """The second use of a module gets '@2' behind its name: it is a layer of its own."""
    uses[name] = uses.get(name, 0) + 1
    return name if uses[name] == 1 else f"{name}@{uses[name]}"


def _resolve(argument: Any, values: dict[fx.Node, Any]) -> Any:
    return fx.node.map_aggregate(argument, lambda leaf: values[leaf] if isinstance(leaf, fx.Node) else leaf)


def _output_index(layers: list[Layer], values: dict[fx.Node, Any], node: fx.Node) -> int:
    value = _resolve(node.args[0], values)
    if isinstance(value, (tuple, list)) and len(value) == 1:
        value = value[0]
    if not isinstance(value, Reference):
        raise ModelError("The model must return one tensor of logits (N, classes); it returns something else.")
    index = _strip_softmax(layers, value.index)
    for layer in _ancestors(layers, index):
        if layer.kind == "softmax":
            raise UnsupportedLayer(
                f"Layer {layer.name!r} is a softmax in the middle of the model, and no relevance rule is known for it; "
                "only a softmax at the very end can be explained (it is stripped)."
            )
    return index


def _strip_softmax(layers: list[Layer], output: int) -> int:
    """The output without a final softmax; views of the probabilities, such as a flatten, become views of the logits."""
    index = output
    while layers[index].kind == "view" or is_unchanged(layers[index].operation):
        if not layers[index].inputs:
            return output
        index = layers[index].inputs[0]
    if layers[index].kind != "softmax":
        return output
    if index == output:
        return layers[index].inputs[0]
    layers[index].operation = Activation(unchanged)
    return output


def _ancestors(layers: list[Layer], index: int) -> list[Layer]:
    found, stack = set(), [index]
    while stack:
        current = stack.pop()
        if current not in found:
            found.add(current)
            stack.extend(_sources(layers[current]))
    return [layers[i] for i in sorted(found)]


def _sources(layer: Layer) -> tuple[int, ...]:
    return layer.inputs + layer.scalars


def _fold_affine(graph: Graph) -> None:
    """Takes a BatchNorm or Scale into the linear layer before it; in float64, until Graph.to casts the parameters."""
    counts: dict[int, int] = {}
    for layer in graph.layers:
        for source in _sources(layer):
            counts[source] = counts.get(source, 0) + 1
    replaced: dict[int, int] = {}
    for index, layer in enumerate(graph.layers):
        layer.inputs = tuple(replaced.get(i, i) for i in layer.inputs)
        layer.scalars = tuple(replaced.get(i, i) for i in layer.scalars)
        if not isinstance(layer.operation, Affine) or not layer.operation.per_channel:
            continue
        source = layer.inputs[0]
        target = graph.layers[source]
        if counts[source] == 1 and _foldable(target.operation) and source != graph.output:
            target.operation = _folded(target.operation, layer.operation)  # type: ignore[arg-type]
            target.aliases = (*target.aliases, layer.name)
            counts[source] = counts.get(index, 0)
            replaced[index] = source
    graph.output = replaced.get(graph.output, graph.output)


def _foldable(operation: Operation) -> bool:
    if isinstance(operation, Convolution):
        return not operation.transposed
    return isinstance(operation, FullyConnected)


def _folded(linear: LinearOperation, affine: Affine) -> LinearOperation:
    scale = affine.scale.double()
    shift = scale.new_zeros(scale.shape) if affine.shift is None else affine.shift.double()
    weight = linear.weight.double() * scale.view(-1, *[1] * (linear.weight.dim() - 1))
    bias = shift if linear.bias is None else linear.bias.double() * scale + shift
    return linear.with_parameters(weight, bias)


def _drop_unreachable(graph: Graph) -> None:
    """Forgets layers that the logits do not depend on, such as a stripped softmax or an auxiliary head."""
    layers = graph.layers
    keep = {0}
    stack = [graph.output]
    while stack:
        index = stack.pop()
        if index not in keep or index == graph.output:
            keep.add(index)
            stack.extend(i for i in _sources(layers[index]) if i not in keep)
    order = {old: new for new, old in enumerate(sorted(keep))}
    graph.layers = [layers[old] for old in order]
    for layer in graph.layers:
        layer.inputs = tuple(order[i] for i in layer.inputs)
        layer.scalars = tuple(order[i] for i in layer.scalars)
    graph.output = order[graph.output]


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


def _mark_nonnegative(graph: Graph) -> None:
    known: list[bool] = []
    for index, layer in enumerate(graph.layers):
        layer.nonnegative = bool(layer.inputs) and known[layer.inputs[0]]
        known.append(index > 0 and _is_nonnegative(layer.operation, [known[i] for i in layer.inputs]))


def _is_nonnegative(operation: Operation, inputs: list[bool]) -> bool:
    """Whether the output of an operation can hold no negative value, from what is known of its inputs."""
    if isinstance(operation, Activation):
        return operation.nonnegative or (is_unchanged(operation) and all(inputs))
    if isinstance(operation, Sum):
        return all(inputs) and operation.constant is None and all(sign > 0 for sign in operation.signs)
    if isinstance(operation, AveragePool) and (operation.arguments[-1] or 1) < 0:
        return False
    kinds = {"lrn", "max-pool", "average-pool", "concat", "view", "product", "maximum", "pad"}
    return operation.kind in kinds and all(inputs)
