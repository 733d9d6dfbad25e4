"""What torch.export gives -> a graph of calls as torch.fx would trace it: layers of torch.nn are modules again.

It is the second tracer, for forward functions that torch.fx cannot trace because shapes decide what they do. It runs
them on an input without values, at one fixed shape and with any number of images.
"""

import logging
import operator
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from lrpcli.errors import ModelError
from lrpcli.lrp.tracing.blocks import without_blocks
from lrpcli.lrp.tracing.copies import copied
from lrpcli.lrp.tracing.lrn_patterns import hint_at_norms
from lrpcli.lrp.tracing.modules import is_leaf
from lrpcli.lrp.tracing.names import function_name, plain_name
from lrpcli.lrp.tracing.refusals import require_no_hooks
from lrpcli.lrp.tracing.tracer import described

Shape = tuple[int, ...]
IMAGES = 2
"""How many images are traced: torch.export takes 1 for a number that is always 1."""
RESHAPES = {"view", "reshape", "_unsafe_view", "expand"}
CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")
_Call = tuple[str, str]
"""One call of a module: what torch.export calls it, and where the module lies."""


def export(module: nn.Module, shape: Shape) -> tuple[nn.Module, fx.Graph]:
    """A copy of the module that shares its tensors, and the calls that it makes for images of `shape` (C, H, W).

    ModelError names the line that cannot be traced.
    """
    twin = copied(module)
    try:
        traced = _program(twin, shape)
    except Exception as error:
        raise ModelError(_failure(module, shape, error)) from error
    assert isinstance(traced, fx.GraphModule)
    graph = without_blocks(traced)
    called = {path for node in graph.nodes for (_, path), _ in _stack(node)}
    for name, part in twin.named_modules(remove_duplicate=False):
        if name in called:
            require_no_hooks(part, name)
    _add_constants(twin, traced, graph)
    return twin, with_modules(twin, graph)


def _program(module: nn.Module, shape: Shape) -> nn.Module:
    """What torch.export makes of a module, for any number of images; for one where it depends on that number."""
    weight = next((tensor for tensor in module.parameters() if tensor.is_floating_point()), torch.zeros(()))
    images = torch.zeros((IMAGES, *shape), dtype=weight.dtype, device=weight.device)
    number = torch.export.Dim.DYNAMIC
    with _quiet():
        try:
            return torch.export.export(module, (images,), dynamic_shapes=({0: number},), strict=False).module()
        except Exception:  # len(x) is a number, as is int(x.shape[0])
            return torch.export.export(module, (images[:1],), strict=False).module()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what torch.export prints where it fails, such as the program so far; the error says it."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _failure(module: nn.Module, shape: Shape, error: Exception) -> str:
    return (
        f"The forward function of {type(module).__name__} cannot be traced for images of shape {shape} by torch.export "
        f"either{described(error)}. Write it without control flow that depends on the values of tensors."
        f"{hint_at_norms(module)}"
    )


def _add_constants(module: nn.Module, traced: fx.GraphModule, graph: fx.Graph) -> None:
    """Gives a copy of the model the tensors that its forward function makes, such as torch.tensor([1.0, 2.0])."""
    for node in graph.nodes:
        if node.op == "get_attr":
            try:
                operator.attrgetter(str(node.target))(module)
            except AttributeError:
                owner, _, name = str(node.target).rpartition(".")
                setattr(module.get_submodule(owner), name, operator.attrgetter(str(node.target))(traced))


def with_modules(module: nn.Module, graph: fx.Graph) -> fx.Graph:
    """The graph with calls of the layers of torch.nn in place of what they compute, as torch.fx has them.

    A layer with several tensors in or out stays what it computes, under the layer's name. See `readable` for the rest.
    """
    made: dict[fx.Node, fx.Node] = {}
    result, groups = fx.Graph(), _groups(module, graph)
    names, images = _names(graph), _images_traced(graph)
    for node in graph.nodes:
        group = groups.get(node)
        if group is not None and node is group.output:
            made[node] = result.call_module(group.path, (made[group.source],))
            made[node].meta = dict(node.meta)
        elif group is None and node.op != "call_module":  # torch.export calls its own checks of the input's shape
            made[node] = _copied(result, node, made, names)
            _free_images(made[node], images)
    return result


def readable(module: fx.GraphModule) -> fx.Graph:
    """The graph of a module that torch.export gave someone, with the names of modules.

    It is for any number of images if it can be. Graphs of torch.fx are given back as they are.
    """
    graph = without_blocks(module)
    if not any(isinstance(node.target, OpOverload) for node in graph.nodes):
        return graph
    made: dict[fx.Node, fx.Node] = {}
    result, names, images = fx.Graph(), _names(graph), _images_traced(graph)
    for node in graph.nodes:
        made[node] = _copied(result, node, made, names)
        _free_images(made[node], images)
    return result


def traced_shape(graph: fx.Graph) -> tuple[int | None, ...]:
    """Axes of the input behind the first, None where their length is free; () where torch.export did not say."""
    value = next((_value(node) for node in graph.nodes if node.op == "placeholder"), None)
    if not isinstance(value, Tensor):
        return ()
    return tuple(side if isinstance(side, int) else None for side in value.shape[1:])


def _images_traced(graph: fx.Graph) -> int | None:
    """For how many images alone a graph was traced; None if for any number."""
    return next((_images(node) for node in graph.nodes if node.op == "placeholder"), None)


def _images(node: fx.Node) -> int | None:
    """The length of the first axis of a value, where it is fixed."""
    value = _value(node)
    first = value.shape[0] if isinstance(value, Tensor) and value.dim() else None
    return first if isinstance(first, int) else None


def _free_images(node: fx.Node, images: int | None) -> None:
    """Makes a reshape to a fixed number of images one to as many as there are."""
    if images is None or plain_name(function_name(node)) not in RESHAPES or not isinstance(node.args[0], fx.Node):
        return
    kept = _images(node.args[0]) == _images(node) == images
    if kept and all(isinstance(side, int) for side in _value(node).shape):
        node.args = (node.args[0], [-1, *_value(node).shape[1:]])


def _copied(graph: fx.Graph, node: fx.Node, made: dict[fx.Node, fx.Node], names: dict[fx.Node, str]) -> fx.Node:
    """A node in another graph; functions are named as torch.fx names them, or as the layer that they are a part of."""
    if node.op != "call_function":
        return graph.node_copy(node, made.__getitem__)
    arguments: Any = fx.node.map_arg(node.args, made.__getitem__)
    keywords: Any = fx.node.map_arg(node.kwargs, made.__getitem__)
    new = graph.create_node(node.op, node.target, arguments, keywords, plain_name(function_name(node)).lstrip("_"))
    new.meta = dict(node.meta) | ({"layer": names[node]} if node in names else {})
    return new


def _calls(graph: fx.Graph, wanted: Callable[[str, str], bool]) -> dict[_Call, list[fx.Node]]:
    """The functions that lie in one call of a module each; `wanted` says of which, by its place and class."""
    calls: dict[_Call, list[fx.Node]] = {}
    for node in graph.nodes:
        found = next((call for call, kind in _stack(node) if call[1] and wanted(call[1], kind)), None)
        if found is not None and node.op == "call_function":
            calls.setdefault(found, []).append(node)
    return calls


def _names(graph: fx.Graph) -> dict[fx.Node, str]:
    """Names of functions that are parts of layers of torch.nn: the last has the layer's, those before it their own."""
    calls = _calls(graph, lambda _, kind: kind.startswith("torch.nn.modules.") and not kind.endswith(CONTAINERS))
    names: dict[fx.Node, str] = {}
    for (_, path), nodes in calls.items():
        computed = [node for node in nodes if node.target is not operator.getitem]
        names |= {node: f"{path}.{plain_name(function_name(node))}" for node in nodes} | dict.fromkeys(
            computed[-1:], path
        )
    return names


@dataclass
class _Group:
    """One call of a layer that makes one tensor of one other."""

    path: str
    source: fx.Node
    output: fx.Node


def _groups(module: nn.Module, graph: fx.Graph) -> dict[fx.Node, _Group]:
    """What each node is a part of."""
    leaves = {name for name, part in module.named_modules(remove_duplicate=False) if name and is_leaf(part)}
    groups: dict[fx.Node, _Group] = {}
    for (_, path), nodes in _calls(graph, lambda path, _: path in leaves).items():
        inside = set(nodes)
        sources = {source for node in nodes for source in node.all_input_nodes if source not in inside}
        tensors = [source for source in sources if source.op != "get_attr" and isinstance(_value(source), Tensor)]
        outputs = [node for node in nodes if not inside.issuperset(node.users)]
        if len(tensors) == len(outputs) == 1 and isinstance(_value(outputs[0]), Tensor):
            groups |= dict.fromkeys(nodes, _Group(path, tensors[0], outputs[0]))
    return groups


def _stack(node: fx.Node) -> list[tuple[_Call, str]]:
    """The calls of modules in which a node lies, from the outermost to the innermost, and the classes of these."""
    stack = node.meta.get("nn_module_stack") or {}
    return [((str(key), str(entry[0])), str(entry[1])) for key, entry in stack.items()]


def _value(node: fx.Node) -> Any:
    """What torch.export knows of the value of a node: a tensor without numbers, or a size."""
    return node.meta.get("val")
