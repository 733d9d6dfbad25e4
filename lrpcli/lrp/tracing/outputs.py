"""Models that return several things: one of them is chosen by its place, key or field."""

import copy
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree

from lrpcli.errors import ModelError
from lrpcli.lrp.tracing.refusals import unwrapped

Output = str | int
"""The place of an output, from 0, or its key in a dictionary or field of a dataclass; a place may be text too."""


def select_output(module: nn.Module, output: Output) -> nn.Module:
    """A module that shares the weights of another, and returns the one of its outputs alone.

    Whether there is such an output shows when it is called or traced. The module given is not changed.
    """
    module = unwrapped(module)
    if isinstance(module, fx.GraphModule):
        return _select_in_graph(module, output)
    kind = type(module)

    @functools.wraps(kind.forward)
    def forward(self: Any, *arguments: Any, **keywords: Any) -> Any:
        return pick(kind.forward(self, *arguments, **keywords), output)

    chosen = copy.copy(module)
    chosen.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
    return chosen


def pick(found: Any, output: Output) -> Any:
    """The one output of all that a model returns. ModelError that lists them if it is not there.

    >>> from lrpcli.lrp.tracing.outputs import pick
    >>> pick({"logits": 1, "features": 2}, "logits"), pick((1, 2), "1")
    (1, 2)
    """
    parts = outputs_of(found)
    if not parts:
        raise ModelError(
            f"The model returns one tensor, so there is no output {str(output)!r} to choose. Leave it out; the output "
            "folder is -o FOLDER."
        )
    if str(output) not in parts:
        raise ModelError(f"The model has no output {str(output)!r}; it returns {in_words(parts)}. Choose one of them.")
    return parts[str(output)]


def outputs_of(found: Any) -> dict[str, Any]:
    """What a model returns by name, if it returns several things: keys, fields, or places from 0; else nothing."""
    if isinstance(found, Mapping):
        return {str(key): value for key, value in found.items()}
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        return {item.name: getattr(found, item.name) for item in dataclasses.fields(found)}
    if isinstance(found, (tuple, list)):
        places = {str(place): value for place, value in enumerate(found)}
        return {**dict(zip(getattr(found, "_fields", ()), found, strict=False)), **places}
    return {}


def in_words(parts: Mapping[str, Any]) -> str:
    """The names of outputs, with their shapes where they are known."""
    return ", ".join(f"{name}{_shape(value)}" for name, value in parts.items())


def _shape(value: Any) -> str:
    known = value.meta.get("val") if isinstance(value, fx.Node) else value
    if not isinstance(known, Tensor):
        return ""
    return f" ({', '.join(str(side) if isinstance(side, int) else '?' for side in known.shape)})"


def outputs_returned(module: fx.GraphModule) -> dict[str, fx.Node]:
    """The outputs of a graph by name, if they are several; else nothing."""
    found = outputs_of(structured(module, next(node.args[0] for node in module.graph.nodes if node.op == "output")))
    return found if len(found) > 1 else {}


def structured(module: fx.GraphModule, returned: Any) -> Any:
    """What a graph returns in the containers that its model has, which torch.export writes down apart."""
    structure = getattr(getattr(module.graph._codegen, "pytree_info", None), "out_spec", None)
    return returned if structure is None else _pytree.tree_unflatten(list(returned), structure)


def _select_in_graph(module: fx.GraphModule, output: Output) -> fx.GraphModule:
    graph = fx.Graph()
    returned: Any = graph.graph_copy(module.graph, {})
    graph.output(pick(structured(module, returned), output))
    return fx.GraphModule(module, graph, class_name=type(module).__name__)
