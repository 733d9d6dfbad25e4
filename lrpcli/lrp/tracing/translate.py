"""One traced call of torch.fx -> one operation of the engine. What is not known is refused by name."""

from collections.abc import Callable
from typing import Any

from torch import fx, nn

from lrpcli.lrp.tracing.functions import ELEMENTWISE, translate_function
from lrpcli.lrp.tracing.modules import translate_module
from lrpcli.lrp.tracing.node import Call, Reference, Translated

IN_PLACE_OPERATORS = {"iadd", "isub", "imul", "itruediv"}


def translate(
    node: fx.Node, name: str, root: nn.Module, resolve: Callable[[Any], Any], layers: list[Any]
) -> Translated:
    """The operation of one traced call. UnsupportedLayer names the layer, its type and what to do."""
    arguments, keywords = tuple(resolve(node.args)), dict(resolve(node.kwargs))
    for keyword in ("input", "tensors"):
        if not arguments and keyword in keywords:
            arguments = (keywords.pop(keyword),)
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        call = Call(node, name, type(module).__name__, arguments, keywords, layers)
        if keywords or len(arguments) != 1 or not isinstance(arguments[0], Reference):
            raise call.unsupported("It must be called with one tensor that comes from other layers, and nothing else.")
        result = call.layer(translate_module(module, name))
        result.in_place = getattr(module, "inplace", False) is True
        return result
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    label = _label(target)
    result = translate_function(Call(node, name, label, arguments, keywords, layers))
    result.in_place = _writes_over_input(target, label, arguments, keywords)
    return result


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
