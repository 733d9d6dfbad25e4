"""What the calls of a traced graph are called, and which of them write over their first argument."""

import operator

from torch import fx
from torch._ops import OpOverload

IN_PLACE_OPERATORS = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
_NAMES = {function.__name__ for function in IN_PLACE_OPERATORS}


def function_name(node: fx.Node) -> str:
    """The name of a function, a method or an operator of torch.export, or where a module lies."""
    if isinstance(node.target, OpOverload):
        return node.target._schema.name.rpartition("::")[2]
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def plain_name(name: str) -> str:
    """A name of a function or method without the mark of writing over its input: add for add_ and iadd."""
    if name in _NAMES:
        return name.removeprefix("i")
    return name if name.startswith("_") else name.rstrip("_")
