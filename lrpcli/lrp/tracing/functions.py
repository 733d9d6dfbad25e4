"""Functional calls and tensor methods -> operations. What HANDLERS and VIEWS do not list is refused by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lrpcli.lrp.layers.elementwise import (
    Activation,
    Affine,
    Maximum,
    Product,
    Rectifier,
    Scalar,
    Softmax,
    Sum,
    unchanged,
)
from lrpcli.lrp.layers.normalization import LocalResponseNorm, NormalizationOperation
from lrpcli.lrp.layers.pooling import AdaptiveAveragePool, AdaptiveMaxPool, AveragePool, MaxPool, Mean
from lrpcli.lrp.layers.views import Concat, Pad, View
from lrpcli.lrp.tracing.graph import Layer
from lrpcli.lrp.tracing.node import Node, Reference, Translated

UNCHANGED = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "clone",
             "detach", "stochastic_depth"}  # fmt: skip
ELEMENTWISE = {
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "tanh", "hardtanh",
    "hardsigmoid", "hardswish", "softplus", "softsign", "logsigmoid", "clamp", "clamp_min", "threshold",
    "_threshold",  # what functional.threshold really is called
}  # fmt: skip
NONNEGATIVE = {"relu", "relu6", "sigmoid", "hardsigmoid"}
GATES = {"sigmoid", "hardsigmoid", "Sigmoid", "Hardsigmoid"}
VIEWS = {
    "flatten", "view", "reshape", "permute", "transpose", "unsqueeze", "squeeze", "getitem", "chunk", "split",
    "narrow", "select", "unbind", "movedim", "unflatten", "swapaxes", "t", "contiguous", "expand", "expand_as",
    "view_as", "reshape_as", "slice", "_unsafe_view",
}  # fmt: skip
STRIDE_FREE: dict[str, Callable[..., Any]] = {
    "view": Tensor.reshape,
    "_unsafe_view": Tensor.reshape,
    "view_as": Tensor.reshape_as,
}
"""In place of views that depend on strides, which differ between the model's tensors and the engine's."""
PARTED = {"chunk", "split", "unbind"}
SIZES = {"size", "dim", "shape", "getattr", "len", "numel"}
ARITHMETIC = {"add", "sub", "mul", "floordiv", "truediv", "getitem", "mod", "neg", "int", "eq"}


def translate_function(node: Node) -> Translated:
    """The operation of a functional call or method, or its value where it reads no layer."""
    label = node.label
    if not node.references():
        return Translated(label, value=node.replay()())
    if node.keywords.get("out") is not None:
        raise node.unsupported("It writes its result over 'out'.")
    if label in SIZES and not (label == "getattr" and node.arguments[1] not in ("shape", "ndim")):
        return Translated(label, Scalar(node.replay()), (), node.tensors() + node.scalars())
    if not node.tensors():
        if label in ARITHMETIC:
            return Translated(label, Scalar(node.replay()), (), node.scalars())
        raise node.unsupported()
    if label in VIEWS:
        return _view(node)
    if label == "getattr" and node.arguments[1:] == ("data",):
        return _unchanged(Node(node.traced, node.name, "data", node.arguments[:1], {}, node.layers))
    handler = HANDLERS.get(label)
    if handler is None:
        raise node.unsupported(f"It reads {node.arguments[1]!r} of a tensor." if label == "getattr" else "")
    return handler(node)


def _view(node: Node) -> Translated:
    """A view of its first argument; a part of a split is a view of what was split, so that parts are no layer."""
    first = node.arguments[0]
    if not isinstance(first, Reference) or node.is_scalar(first):
        raise node.unsupported()
    parent = node.layers[first.index]
    if node.label == "getitem" and isinstance(parent.operation, View) and parent.operation.many:
        part, split = node.arguments[1], parent.operation.function
        operation = View(lambda x, *sizes: split(x, *sizes)[part], many=isinstance(part, slice))
        return Translated(node.label, operation, parent.inputs, parent.scalars)
    operation = View(node.replay(STRIDE_FREE.get(node.label)), many=node.label in PARTED)
    return Translated(node.label, operation, (first.index,), node.tensors()[1:] + node.scalars())


def _activation(node: Node) -> Translated:
    """An activation, always out of place so that no remembered activation is overwritten."""
    if node.label == "relu":
        return node.layer(Rectifier())
    function: Callable[..., Tensor] = getattr(functional, node.label, None) or getattr(torch, node.label)
    # The only boolean argument of these functions is `inplace`.
    arguments = tuple(value for value in node.arguments[1:] if not isinstance(value, bool))
    keywords = {key: value for key, value in node.keywords.items() if key != "inplace"}
    return node.layer(Activation(lambda x: function(x, *arguments, **keywords), node.label in NONNEGATIVE))


def _unchanged(node: Node) -> Translated:
    return node.layer(Activation(unchanged))


def _addends(node: Node, second_sign: float) -> Translated:
    first, second = node.get(0, "input"), node.get(1, "other")
    if node.keywords.get("alpha", 1) != 1:
        raise node.unsupported("An 'alpha' of torch.add is not known here.")
    tensors = _tensors(node, first, second)
    if len(tensors) == 2:
        if first == second:
            return node.layer(Affine(1.0 + second_sign), first)
        return node.layer(Sum((1.0, second_sign)), first, second)
    if tensors[0] is first:
        return node.layer(Sum((1.0,), second_sign * second), first)
    return node.layer(Sum((second_sign,), first), second)


def _tensors(node: Node, *arguments: Any) -> list[Reference]:
    """Those arguments that are layers with relevance; UnsupportedLayer if one is a size read off a tensor."""
    found = [value for value in arguments if isinstance(value, Reference)]
    if any(node.is_scalar(reference) for reference in found):
        raise node.unsupported("It computes with the size of a tensor.")
    return found


def _product(node: Node) -> Translated:
    first, second = node.get(0, "input"), node.get(1, "other")
    tensors = _tensors(node, first, second)
    if len(tensors) == 1:
        return node.layer(Affine(second if tensors[0] is first else first), *tensors)
    gates = [_is_gate(node.layers, reference.index) for reference in tensors]
    if gates[0] == gates[1]:
        raise node.unsupported(
            "Of a product, one factor must be a gate (the output of a sigmoid), the other the signal."
        )
    return node.layer(Product(gates.index(False)), first, second)


def _is_gate(layers: list[Layer], index: int) -> bool:
    """Whether a layer is a sigmoid, or a view of one."""
    while layers[index].kind == "view":
        index = layers[index].inputs[0]
    return layers[index].type in GATES


def _quotient(node: Node) -> Translated:
    if node.keywords.keys() - {"other"}:
        raise node.unsupported("Only a plain division is known.")
    if isinstance(node.get(1, "other"), Reference):
        raise node.unsupported("Only a division by a constant is known.")
    return node.layer(Affine(1.0 / node.get(1, "other")))


def _mean(node: Node) -> Translated:
    axes = node.get(1, "dim", node.keywords.get("axis"))
    if axes is None:
        raise node.unsupported("Name the axes of the mean.")
    return node.layer(Mean((axes,) if isinstance(axes, int) else tuple(axes), bool(node.get(2, "keepdim", False))))


def _max_pool(node: Node) -> Translated:
    if node.get(6, "return_indices", False):
        raise node.unsupported("It returns indices.")
    kernel = node.get(1, "kernel_size")
    geometry = (pair(kernel), pair(node.get(2, "stride") or kernel), pair(node.get(3, "padding", 0)),
                pair(node.get(4, "dilation", 1)))  # fmt: skip
    return node.layer(MaxPool(*geometry, bool(node.get(5, "ceil_mode", False))))


def _adaptive_max_pool(node: Node) -> Translated:
    if node.get(2, "return_indices", False):
        raise node.unsupported("It returns indices.")
    return node.layer(AdaptiveMaxPool(node.get(1, "output_size")))


def _average_pool(node: Node) -> Translated:
    node.only_input()  # before the kernel is looked at: pooling over x.size() is written in just this way
    kernel = node.get(1, "kernel_size")
    geometry = pair(kernel), pair(node.get(2, "stride") or kernel), pair(node.get(3, "padding", 0))
    ceil, count_padding = bool(node.get(4, "ceil_mode", False)), bool(node.get(5, "count_include_pad", True))
    return node.layer(AveragePool(*geometry, ceil, count_padding, node.get(6, "divisor_override")))


def _concat(node: Node) -> Translated:
    parts = node.get(0, "tensors")
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, Reference) for part in parts):
        raise node.unsupported("It must join a list of layers, and nothing else.")
    axis = node.get(1, "dim", node.keywords.get("axis", 0))
    return node.layer(Concat(axis), *parts)


def _maximum(node: Node) -> Translated:
    both = (node.get(0, "input"), node.get(1, "other"))
    if len(_tensors(node, *both)) != 2:
        raise node.unsupported("Only the maximum of two layers is known.")
    return node.layer(Maximum(), *both)


def _pad(node: Node) -> Translated:
    mode, value = node.get(2, "mode", "constant"), node.get(3, "value")
    if mode != "constant" or value:
        raise node.unsupported(f"It pads by {value or mode!r}; only padding with zeros is known.")
    return node.layer(Pad(tuple(node.get(1, "pad"))))


def _normalization(node: Node) -> Translated:
    settings = (node.get(1, "size"), node.get(2, "alpha", 1e-4), node.get(3, "beta", 0.75), node.get(4, "k", 1.0))
    try:
        return node.layer(NormalizationOperation(LocalResponseNorm(*settings)))
    except ValueError as error:
        raise node.unsupported(str(error)) from error


def pair(value: Any) -> tuple[int, int]:
    """A size for height and width, given once or twice."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


HANDLERS: dict[str, Callable[[Node], Translated]] = {
    **dict.fromkeys(ELEMENTWISE, _activation),
    **dict.fromkeys(UNCHANGED, _unchanged),
    **dict.fromkeys(("mul", "multiply"), _product),
    **dict.fromkeys(("truediv", "div"), _quotient),
    **dict.fromkeys(("cat", "concat", "concatenate"), _concat),
    **dict.fromkeys(("softmax", "log_softmax"), lambda node: node.layer(Softmax())),
    "add": lambda node: _addends(node, 1.0),
    "sub": lambda node: _addends(node, -1.0),
    "mean": _mean,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": lambda node: node.layer(AdaptiveAveragePool(node.get(1, "output_size"))),
    "adaptive_max_pool2d": _adaptive_max_pool,
    "local_response_norm": _normalization,
    "maximum": _maximum,
    "pad": _pad,
}
