"""A torch.nn.Module -> the graph of its layers: traced by torch.fx, each node translated, what is unknown refused."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from lrpcli.errors import ModelError
from lrpcli.lrp.layers.elementwise import Activation, unchanged
from lrpcli.lrp.layers.normalization import NormalizationOperation
from lrpcli.lrp.tracing.functions import ELEMENTWISE, translate_function
from lrpcli.lrp.tracing.graph import Graph, Layer, make_graph
from lrpcli.lrp.tracing.lrn_patterns import find_norms, hint_at_norms
from lrpcli.lrp.tracing.modules import is_leaf, translate_module
from lrpcli.lrp.tracing.node import Node, Reference, Translated
from lrpcli.lrp.tracing.storage import Storage

IN_PLACE_OPERATORS = {"iadd", "isub", "imul", "itruediv"}


def build_graph(module: nn.Module) -> Graph:
    """The graph of a module as in eval mode; the module is not changed. UnsupportedLayer names what has no rule."""
    traced = module.graph if isinstance(module, fx.GraphModule) else _trace(module)
    builder = _Builder(module, traced)
    for node in traced.nodes:
        if node.op == "output":
            return make_graph(builder.layers, builder.output(node))
        builder.add(node)
    raise ModelError("The model's graph has no output.")


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
            raise ModelError("The model must return one tensor of logits (N, classes); it returns something else.")
        return value.index

    def _placeholder(self, node: fx.Node) -> Any:
        """The first is the input; others keep their defaults."""
        if not self.layers:
            self.layers.append(Layer("input", "input", Activation(unchanged), ()))
            return Reference(0)
        if not node.args:
            raise ModelError(
                f"The model has a second input, {node.name!r}; only models with one input can be explained."
            )
        return node.args[0]

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
        target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        label = _label(target)
        result = translate_function(Node(node, name, label, arguments, keywords, self.layers))
        result.in_place = _writes_over_input(target, label, arguments, keywords)
        return result

    def _norm(self, node: fx.Node) -> Translated:
        """LRN that is written by hand and ends in this node."""
        source, norm = self._norms.layers[node]
        result = Translated("LocalResponseNorm", NormalizationOperation(norm), (self._values[source].index,))
        target = getattr(node.target, "__name__", str(node.target))
        result.in_place = _writes_over_input(target, _label(target), node.args, node.kwargs)
        return result

    def _append(self, name: str, translated: Translated) -> Any:
        if translated.operation is None:
            return translated.value
        self.layers.append(Layer(name, translated.type, translated.operation, translated.inputs, translated.scalars))
        return Reference(len(self.layers) - 1)


def _called(module: nn.Module, node: Node) -> Translated:
    """The operation of a module that is called."""
    if node.keywords or len(node.arguments) != 1 or not isinstance(node.arguments[0], Reference):
        raise node.unsupported("It must be called with one tensor that comes from other layers, and nothing else.")
    result = translate_module(module, node)
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


def _label(target: str) -> str:
    """What a function or method is called without the mark of writing over its input: add for add_ and iadd."""
    if target in IN_PLACE_OPERATORS:
        return target.removeprefix("i")
    return target if target.startswith("_") else target.rstrip("_")


def _writes_over_input(target: str, label: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Whether a function or method changes its first argument: relu_, x += y, or inplace=True."""
    if target != label:
        return True
    if keywords.get("inplace", False) is True:
        return True
    return label in ELEMENTWISE and any(value is True for value in arguments[1:])


def _trace(module: nn.Module) -> fx.Graph:
    training = [child for child in module.modules() if child.training]
    module.eval()
    try:
        return _Tracer().trace(module)
    except Exception as error:
        raise ModelError(
            f"The forward function of {type(module).__name__} cannot be traced ({error}). Write it without control "
            f"flow that depends on tensor values, or pass a torch.fx.GraphModule.{hint_at_norms(module)}"
        ) from error
    finally:
        for child in training:
            child.training = True


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
