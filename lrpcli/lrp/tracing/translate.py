"""A torch.nn.Module -> the graph of its layers: traced by torch.fx, each node translated, what is unknown refused."""

from typing import Any

import torch
from torch import fx, nn
from torch._ops import OpOverload

from lrpcli.errors import ModelError, UnsupportedLayer
from lrpcli.lrp.layers.elementwise import Activation, is_unchanged, unchanged
from lrpcli.lrp.layers.linear import LinearOperation
from lrpcli.lrp.layers.normalization import NormalizationOperation
from lrpcli.lrp.shared_state import ONE_AT_A_TIME
from lrpcli.lrp.tracing.batch_norms import batch_norm
from lrpcli.lrp.tracing.copies import converted
from lrpcli.lrp.tracing.exported import Shape, export, readable, traced_shape
from lrpcli.lrp.tracing.functions import CHANGING, ELEMENTWISE, REFUSALS, translate_function
from lrpcli.lrp.tracing.gates import is_gate
from lrpcli.lrp.tracing.graph import Graph, Layer, make_graph, probability
from lrpcli.lrp.tracing.lrn_patterns import find_norms
from lrpcli.lrp.tracing.modules import translate_module
from lrpcli.lrp.tracing.names import function_name, plain_name
from lrpcli.lrp.tracing.node import Node, Reference, Translated
from lrpcli.lrp.tracing.outputs import in_words, outputs_of, structured
from lrpcli.lrp.tracing.refusals import (
    STATEFUL,
    eval_mode,
    own_buffers,
    require_no_hooks,
    require_no_random_numbers,
    require_plain,
    settled,
    unmarked,
    unwrapped,
)
from lrpcli.lrp.tracing.storage import Storage
from lrpcli.lrp.tracing.tracer import Untraceable, trace

CHECKS = {"_assert", "_assert_is_none", "_assert_async", "_assert_scalar", "_assert_tensor_metadata", "_guards_fn"}
"""Calls that may raise an error and put out nothing."""
UNREAD = {
    "eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite", "all", "any", "is_contiguous", "getitem", "add",
    "sub", "mul", "div", "truediv", *(name for name, why in REFUSALS.items() if why not in CHANGING),
}  # fmt: skip
"""Calls that change nothing, and whose answer a check or an output that is not chosen may leave unread."""


def build_graph(module: nn.Module, input_shape: Shape | None = None) -> Graph:
    """The graph of a module as in eval mode; the module is not changed.

    What torch.fx cannot trace is traced by torch.export where `input_shape` (C, H, W) is given, for that shape alone.
    UnsupportedLayer names what has no rule, ModelError what a trace does not show.
    """
    module = unwrapped(module)
    require_plain(module)
    with (
        ONE_AT_A_TIME,
        eval_mode(module),
        unmarked(module),
        own_buffers(module),
        require_no_random_numbers(type(module).__name__),
    ):
        if isinstance(module, fx.GraphModule):
            return _translated(module, readable(module))
        try:
            traced = trace(module)
        except Untraceable:
            if input_shape is None:
                raise
        else:
            return _translated(module, traced)
        return _translated(*export(module, input_shape))


def build_graph_in(dtype: torch.dtype, module: nn.Module, input_shape: Shape | None = None) -> Graph:
    """The same; what the module computes of its weights alone is computed in float64 if that is the `dtype` wanted."""
    if dtype == torch.float64 and not isinstance(module, fx.GraphModule):
        try:
            return build_graph(converted(module, _device(module), dtype), input_shape)
        except UnsupportedLayer:
            raise
        except Exception:  # it cannot be copied, or names another type itself
            pass
    return build_graph(module, input_shape)


def _device(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in module.parameters()), torch.device("cpu"))


def _translated(module: nn.Module, traced: fx.Graph) -> Graph:
    _require_one_output(module, traced)
    builder, checks = _Builder(module, traced), _checks(module, traced)
    for node in traced.nodes:
        if node.op == "output":
            graph = _finished(builder.layers, builder.output(node))
            graph.shape = traced_shape(traced)
            return graph
        if node not in checks:
            builder.add(node)
    raise ModelError("The model's graph has no output.")


def _finished(layers: list[Layer], output: int) -> Graph:
    """The graph of all layers; UnsupportedLayer if the last one is a probability that is written by hand."""
    last = _last(layers, output)
    layer, by_hand = layers[last], _is_probability_by_hand(layers, last)  # before the graph strips its head
    graph = make_graph(layers, output)
    if by_hand:
        raise UnsupportedLayer(
            f"Layer {layer.name!r} of type {layer.type} ends the model, and what it puts out is a probability that is "
            "written by hand: maps of classes below one half would have the wrong sign. Write it as torch.sigmoid or "
            "torch.softmax, which are stripped, or let the model return the logits."
        )
    graph.ending = layer.type
    return graph


def _checks(module: nn.Module, traced: fx.Graph) -> set[fx.Node]:
    """Assertions, what only they read, and what nothing reads: no layers."""
    found: set[fx.Node] = set()
    for node in reversed(traced.nodes):
        name = function_name(node)
        kept = node.op in ("placeholder", "output") or not all(user in found for user in node.users)
        if name in CHECKS or not (kept or (not node.users and not _changes_nothing(node)) or _writes(module, node)):
            found.add(node)
    return found


def _changes_nothing(node: fx.Node) -> bool:
    """Whether a call is known to do nothing but give a result."""
    if isinstance(node.target, OpOverload):
        return not node.target._schema.is_mutable and REFUSALS.get(function_name(node), "") not in CHANGING
    return function_name(node) in UNREAD


def _writes(module: nn.Module, node: fx.Node) -> bool:
    """Whether a call changes its input."""
    if node.op == "call_module":
        return getattr(module.get_submodule(str(node.target)), "inplace", False) is True
    target = function_name(node)
    return node.kwargs.get("out") is not None or _writes_over_input(target, plain_name(target), node.args, node.kwargs)


def _require_one_output(module: nn.Module, traced: fx.Graph) -> None:
    """ModelError if a model returns several things, under the names that choose one of them."""
    returned = next((node.args[0] for node in traced.nodes if node.op == "output"), None)
    if len(outputs_of(returned)) > 1:
        if isinstance(module, fx.GraphModule):
            returned = structured(module, returned)
        raise ModelError(f"The model must return one tensor of logits (N, classes); {_returned(returned)}.")


def _last(layers: list[Layer], output: int) -> int:
    """The last layer that is more than a view."""
    while layers[output].inputs and (layers[output].kind == "view" or is_unchanged(layers[output].operation)):
        output = layers[output].inputs[0]
    return output


def _is_probability_by_hand(layers: list[Layer], last: int) -> bool:
    """Whether a model with linear layers ends in a sigmoid without its name; one by name is stripped."""
    linear = any(isinstance(layer.operation, LinearOperation) for layer in layers)
    return linear and layers[last].kind != "softmax" and probability(layers[last]) is None and is_gate(layers, last)


class _Builder:
    """The layers of a traced graph so far, and what each of its nodes has become: a Reference or a plain value."""

    def __init__(self, module: nn.Module, traced: fx.Graph) -> None:
        self.layers: list[Layer] = []
        self._module, self._storage = module, Storage(traced)
        self._norms = find_norms(module, traced)
        self._values: dict[fx.Node, Any] = {}
        self._uses: dict[str, int] = {}

    def add(self, node: fx.Node) -> None:
        """Translates a node whose inputs are there."""
        if node.op == "placeholder":
            self._values[node] = self._placeholder(node)
        elif node.op == "get_attr":
            self._values[node] = _attribute(self._module, str(node.target))
        elif node not in self._norms.absorbed:
            name = self._unique(_layer_name(node))
            translated = self._translate(node, name)
            self._values[node] = self._append(name, translated)
            if _carries_relevance(translated):
                self._storage.add(node, translated)
                if translated.in_place:  # the traced call wrote over its input, the layer does not
                    same = self._storage.written_over(node, name)
                    self._values.update(dict.fromkeys(same, self._values[node]))

    def output(self, node: fx.Node) -> int:
        """Index of the layer that the module returns; ModelError if it returns anything else."""
        value = self._resolve(node.args[0])
        if isinstance(value, (tuple, list)) and len(value) == 1:
            value = value[0]
        if not isinstance(value, Reference):
            raise ModelError(f"The model must return one tensor of logits (N, classes); {_returned(node.args[0])}.")
        return value.index

    def _placeholder(self, node: fx.Node) -> Any:
        """The first is the input; others keep their defaults."""
        if not self.layers:
            self.layers.append(Layer("input", "input", Activation(unchanged), ()))
            return Reference(0)
        if str(node.target).startswith("*"):
            return {} if str(node.target).startswith("**") else ()
        if not node.args:
            raise ModelError(
                f"The model has a second input, {node.name!r}; only models with one input can be explained."
            )
        return self._resolve(node.args[0])

    def _unique(self, name: str) -> str:
        """The second use of a module gets '@2' behind its name: it is a layer of its own."""
        self._uses[name] = self._uses.get(name, 0) + 1
        return name if self._uses[name] == 1 else f"{name}@{self._uses[name]}"

    def _resolve(self, argument: Any) -> Any:
        """An argument with what its nodes have become in their places."""
        return fx.node.map_aggregate(argument, lambda leaf: self._values[leaf] if isinstance(leaf, fx.Node) else leaf)

    def _translate(self, node: fx.Node, name: str) -> Translated:
        if node in self._norms.layers:
            return self._norm(node)
        arguments, keywords = tuple(self._resolve(node.args)), dict(self._resolve(node.kwargs))
        for keyword in ("input", "tensors"):
            if not arguments and keyword in keywords:
                arguments = (keywords.pop(keyword),)
        if node.op == "call_module":
            module = self._module.get_submodule(str(node.target))
            return _called(module, Node(node, name, type(module).__name__, arguments, keywords, self.layers))
        target = function_name(node)
        label = plain_name(target)
        call = Node(node, name, label, arguments, keywords, self.layers)
        if label == "batch_norm" and call.references():  # or else it computes a weight
            result = translate_module(batch_norm(call), call)
        else:
            result = translate_function(call)
        result.in_place = _writes_over_input(target, label, arguments, keywords)
        return result

    def _norm(self, node: fx.Node) -> Translated:
        """LRN that is written by hand and ends in this node."""
        source, norm = self._norms.layers[node]
        result = Translated("LocalResponseNorm", NormalizationOperation(norm), (self._values[source].index,))
        target = function_name(node)
        result.in_place = _writes_over_input(target, plain_name(target), node.args, node.kwargs)
        return result

    def _append(self, name: str, translated: Translated) -> Any:
        if translated.operation is None:
            return translated.value
        self.layers.append(Layer(name, translated.type, translated.operation, translated.inputs, translated.scalars))
        return Reference(len(self.layers) - 1)


def _returned(value: Any) -> str:
    """What a model returns in place of one tensor, and what to do."""
    parts = outputs_of(value)
    if not parts:
        return "it returns something else"
    return f"it returns {in_words(parts)}. Choose one: output={next(iter(parts))!r}, or --output on the command line"


def _called(module: nn.Module, node: Node) -> Translated:
    """The operation of a module that is called."""
    if node.keywords or len(node.arguments) != 1 or not isinstance(node.arguments[0], Reference):
        raise node.unsupported("It must be called with one tensor that comes from other layers, and nothing else.")
    require_no_hooks(module, node.name)
    if module.training and isinstance(module, STATEFUL):
        raise node.unsupported("It stays in training mode when the model is put into eval mode.")
    result = translate_module(settled(module), node)
    result.in_place = getattr(module, "inplace", False) is True
    return result


def _carries_relevance(translated: Translated) -> bool:
    return translated.operation is not None and translated.operation.kind != "scalar"


def _attribute(root: nn.Module, target: str) -> Any:
    value: Any = root
    for part in target.split("."):
        value = getattr(value, part)
    return value.detach() if isinstance(value, torch.Tensor) else value


def _layer_name(node: fx.Node) -> str:
    if "layer" in node.meta:
        return str(node.meta["layer"])
    return str(node.target) if node.op == "call_module" else node.name


def _writes_over_input(target: str, label: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Whether a function or method changes its first argument: relu_, x += y, or inplace=True."""
    if target != label:
        return True
    if keywords.get("inplace", False) is True:
        return True
    return label in ELEMENTWISE and any(value is True for value in arguments[1:])
