"""Attention, which has no rule here: known by its name, or by a product of two signals beside a softmax."""

import re
from collections.abc import Callable, Iterable

from torch import fx

from lrpcli.lrp.tracing.names import function_name

NAMES = re.compile("attention|attn|^Transformer", re.IGNORECASE)
"""What classes and functions that compute attention are called."""
MIXING = {"matmul", "mm", "bmm", "baddbmm", "einsum"}
"""Products of two signals."""
NEAR = 12
"""How many calls may lie between such a product and its softmax."""
ADVICE = (
    "Attention has no rule here, for its softmax weighs signals by signals. Explain a transformer with a program that "
    "has rules for it, such as the package lxt (Achtibat et al. 2024), or take a convolutional net."
)


def why_attention(node: fx.Node, label: str) -> str:
    """Why a call without a rule is refused, if it is attention or a part of it; empty if it is not."""
    part = _enclosing(node)
    if NAMES.search(label) or (label in MIXING and (part or _is_beside_softmax(node))):
        return f"It is part of {part}. {ADVICE}" if part else ADVICE
    return f"It is part of {part}, which by its name is attention: that has no rule here." if part else ""


def _enclosing(node: fx.Node) -> str:
    """The innermost module around a call that is named like attention, as 'path' (type); empty if there is none."""
    around = list(node.meta.get("nn_module_stack", {}).values())
    if node.op == "call_module":
        around = around[:-1]
    for path, kind in reversed(around):
        name = kind if isinstance(kind, str) else kind.__name__
        name = name.rpartition(".")[2]
        if NAMES.search(name):
            return f"{path!r} ({name})"
    return ""


def _is_beside_softmax(node: fx.Node) -> bool:
    return _reaches(node, lambda each: each.all_input_nodes) or _reaches(node, lambda each: each.users)


def _reaches(node: fx.Node, neighbours: Callable[[fx.Node], Iterable[fx.Node]]) -> bool:
    """Whether a softmax lies near a call, among what it is made of or what is made of it."""
    seen, edge = {node}, [node]
    for _ in range(NEAR):
        edge = [other for each in edge for other in neighbours(each) if other not in seen]
        seen.update(edge)
        if any("softmax" in _called(other) for other in edge):
            return True
    return False


def _called(node: fx.Node) -> str:
    """The name of the function, or of the type of the module, that is called."""
    if node.op != "call_module":
        return function_name(node).lower()
    around = list(node.meta.get("nn_module_stack", {}).values())
    kind = around[-1][1] if around else ""
    return (kind if isinstance(kind, str) else kind.__name__).lower()
