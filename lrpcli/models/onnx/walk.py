"""Goes through the nodes of an ONNX net, in the order of the file, and hands each to its operator."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from lrpcli.errors import ModelError, suggestion
from lrpcli.models.onnx.builder import OnnxBuilder, Symbol, Value
from lrpcli.models.onnx.images import ImageInput
from lrpcli.models.onnx.net import Branch, OnnxNet, OnnxNode
from lrpcli.models.onnx.operators import OPERATORS

MISFITS = (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError, OverflowError, RuntimeError, AssertionError)
"""What torch and Python raise where the numbers of a node fit neither each other nor what it reads."""


def add_all(net: OnnxNet, image: ImageInput) -> tuple[OnnxBuilder, Symbol]:
    """The nodes of a net with one output, and what that is. UnsupportedLayer or ModelError where one cannot be added."""
    builder = OnnxBuilder(net, image.source, image.declared, image.order)
    add_nodes(builder, net.nodes)
    (output,) = net.outputs
    scores = builder.values.get(output)
    if not isinstance(scores, Symbol) or scores.flattened:
        raise ModelError(
            f"The output {output!r} of {str(net.path)!r} does not depend on the image, or has no axis of "
            "images. Export the net again."
        )
    return builder, scores


def add_nodes(builder: OnnxBuilder, nodes: Sequence[OnnxNode]) -> None:
    """Adds nodes in the order of the file, which is that of execution."""
    for node in nodes:
        add_node(builder, node)


def add_node(builder: OnnxBuilder, node: OnnxNode) -> None:
    """Adds a node. UnsupportedLayer or ModelError, which name it, if it is not known or does not fit."""
    handler = OPERATORS.get(node.operator)
    if handler is None and node.operator != "If":
        raise builder.unsupported(
            node, node.fault or f"the operator is not known{suggestion(node.operator, OPERATORS)}"
        )
    if node.fault:
        raise builder.unsupported(node, node.fault)
    try:
        if handler is None:
            _add_branch(builder, node)
        else:
            builder.check_inputs(node)
            handler(builder, node)
    except MISFITS as error:
        raise builder.misfit(node, error) from error


def _add_branch(builder: OnnxBuilder, node: OnnxNode) -> None:
    """Adds the nodes that the condition of an If chooses, which must be fixed."""
    branch = node.get("then_branch" if builder.flag(node, 0) else "else_branch")
    if not isinstance(branch, Branch) or len(branch.outputs) < len(node.outputs):
        raise builder.unsupported(node, "it lacks the branch that it chooses, or values that this should make")
    made = Counter([*branch.tensors, *(name for inner in branch.nodes for name in inner.outputs if name)])
    for name, count in made.items():
        if name in builder.values or count > 1:
            raise builder.unsupported(
                node, f"the branch that it chooses makes the value {name!r}, which there is already"
            )
    builder.values.update(branch.tensors)
    add_nodes(builder, branch.nodes)
    results = [_result(builder, node, name) for name in branch.outputs]
    for name in made:
        builder.values.pop(name, None)
    for name, value in zip(node.outputs, results, strict=False):
        builder.values[name] = value


def _result(builder: OnnxBuilder, node: OnnxNode, name: str) -> Value:
    if name not in builder.values:
        raise builder.unsupported(node, f"nothing makes {name!r}, which the branch that it chooses puts out")
    value = builder.values[name]
    return value if builder.readers[name] == 1 or not isinstance(value, Symbol) else replace(value, module=None)
