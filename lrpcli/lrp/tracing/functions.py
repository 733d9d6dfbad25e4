"""Functional calls and tensor methods -> operations. What HANDLERS and VIEWS do not list is refused by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lrpcli.lrp.layers.elementwise import (
    Activation,
    Affine,
    Concat,
    Maximum,
    Pad,
    Product,
    Rectifier,
    Scalar,
    Softmax,
    Sum,
    View,
    unchanged,
)
from lrpcli.lrp.layers.normalization import LocalResponseNorm, NormalizationOperation
from lrpcli.lrp.layers.pooling import AdaptiveAveragePool, AdaptiveMaxPool, AveragePool, MaxPool, Mean
from lrpcli.lrp.tracing.node import Call, Reference, Translated

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
    "view_as", "reshape_as",
}  # fmt: skip
PARTED = {"chunk", "split", "unbind"}
SIZES = {"size", "dim", "shape", "getattr", "len", "numel"}
ARITHMETIC = {"add", "sub", "mul", "floordiv", "truediv", "getitem", "mod", "neg", "int", "eq"}


def translate_function(call: Call) -> Translated:
    """The operation of a functional call or method, or its value where it reads no layer."""
    label = call.label
    if not call.references():
        return Translated(label, value=call.replay()())
    if call.keywords.get("out") is not None:
        raise call.unsupported("It writes its result over 'out'.")
    if label in SIZES and not (label == "getattr" and call.arguments[1] not in ("shape", "ndim")):
        return Translated(label, Scalar(call.replay()), (), call.tensors() + call.scalars())
    if not call.tensors():
        if label in ARITHMETIC:
            return Translated(label, Scalar(call.replay()), (), call.scalars())
        raise call.unsupported()
    if label in VIEWS:
        return _view(call)
    handler = HANDLERS.get(label)
    if handler is None:
        raise call.unsupported(f"It reads {call.arguments[1]!r} of a tensor." if label == "getattr" else "")
    return handler(call)


def _view(call: Call) -> Translated:
    """A view of its first argument; a part of a split is a view of what was split, so that parts are no layer."""
    first = call.arguments[0]
    if not isinstance(first, Reference) or call.is_scalar(first):
        raise call.unsupported()
    parent = call.layers[first.index]
    if call.label == "getitem" and getattr(parent.operation, "many", False):
        part, split = call.arguments[1], parent.operation.function
        operation = View(lambda x, *sizes: split(x, *sizes)[part], many=isinstance(part, slice))
        return Translated(call.label, operation, parent.inputs, parent.scalars)
    operation = View(call.replay(), many=call.label in PARTED)
    return Translated(call.label, operation, (first.index,), call.tensors()[1:] + call.scalars())


def _activation(call: Call) -> Translated:
    """An activation, always out of place so that no remembered activation is overwritten."""
    if call.label == "relu":
        return call.layer(Rectifier())
    function: Callable[..., Tensor] = getattr(functional, call.label, None) or getattr(torch, call.label)
    # The only boolean argument of these functions is `inplace`.
    arguments = tuple(value for value in call.arguments[1:] if not isinstance(value, bool))
    keywords = {key: value for key, value in call.keywords.items() if key != "inplace"}
    return call.layer(Activation(lambda x: function(x, *arguments, **keywords), call.label in NONNEGATIVE))


def _unchanged(call: Call) -> Translated:
    return call.layer(Activation(unchanged))


def _addends(call: Call, second_sign: float) -> Translated:
    first, second = call.get(0, "input"), call.get(1, "other")
    if call.keywords.get("alpha", 1) != 1:
        raise call.unsupported("An 'alpha' of torch.add is not known here.")
    tensors = _tensors(call, first, second)
    if len(tensors) == 2:
        if first == second:
            return call.layer(Affine(1.0 + second_sign), first)
        return call.layer(Sum((1.0, second_sign)), first, second)
    if tensors[0] is first:
        return call.layer(Sum((1.0,), second_sign * second), first)
    return call.layer(Sum((second_sign,), first), second)


def _tensors(call: Call, *arguments: Any) -> list[Reference]:
    """Those arguments that are layers with relevance; UnsupportedLayer if one is a size read off a tensor."""
    found = [value for value in arguments if isinstance(value, Reference)]
    if any(call.is_scalar(reference) for reference in found):
        raise call.unsupported("It computes with the size of a tensor.")
    return found


def _product(call: Call) -> Translated:
    first, second = call.get(0, "input"), call.get(1, "other")
    tensors = _tensors(call, first, second)
    if len(tensors) == 1:
        return call.layer(Affine(second if tensors[0] is first else first), *tensors)
    gates = [_is_gate(call.layers, reference.index) for reference in tensors]
    if gates[0] == gates[1]:
        raise call.unsupported(
            "Of a product, one factor must be a gate (the output of a sigmoid), the other the signal."
        )
    return call.layer(Product(gates.index(False)), first, second)


def _is_gate(layers: list[Any], index: int) -> bool:
    """Whether a layer is a sigmoid, or a view of one."""
    while layers[index].kind == "view":
        index = layers[index].inputs[0]
    return layers[index].type in GATES


def _quotient(call: Call) -> Translated:
    if call.keywords.keys() - {"other"}:
        raise call.unsupported("Only a plain division is known.")
    if isinstance(call.get(1, "other"), Reference):
        raise call.unsupported("Only a division by a constant is known.")
    return call.layer(Affine(1.0 / call.get(1, "other")))


def _mean(call: Call) -> Translated:
    axes = call.get(1, "dim", call.keywords.get("axis"))
    if axes is None:
        raise call.unsupported("Name the axes of the mean.")
    return call.layer(Mean((axes,) if isinstance(axes, int) else tuple(axes), bool(call.get(2, "keepdim", False))))


def _max_pool(call: Call) -> Translated:
    if call.get(6, "return_indices", False):
        raise call.unsupported("It returns indices.")
    kernel = call.get(1, "kernel_size")
    geometry = (pair(kernel), pair(call.get(2, "stride") or kernel), pair(call.get(3, "padding", 0)),
                pair(call.get(4, "dilation", 1)))  # fmt: skip
    return call.layer(MaxPool(*geometry, bool(call.get(5, "ceil_mode", False))))


def _adaptive_max_pool(call: Call) -> Translated:
    if call.get(2, "return_indices", False):
        raise call.unsupported("It returns indices.")
    return call.layer(AdaptiveMaxPool(call.get(1, "output_size")))


def _average_pool(call: Call) -> Translated:
    call.only_input()  # before the kernel is looked at: pooling over x.size() is written in just this way
    kernel = call.get(1, "kernel_size")
    geometry = pair(kernel), pair(call.get(2, "stride") or kernel), pair(call.get(3, "padding", 0))
    ceil, count_padding = bool(call.get(4, "ceil_mode", False)), bool(call.get(5, "count_include_pad", True))
    return call.layer(AveragePool(*geometry, ceil, count_padding, call.get(6, "divisor_override")))


def _concat(call: Call) -> Translated:
    parts = call.get(0, "tensors")
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, Reference) for part in parts):
        raise call.unsupported("It must join a list of layers, and nothing else.")
    axis = call.get(1, "dim", call.keywords.get("axis", 0))
    return call.layer(Concat(axis), *parts)


def _maximum(call: Call) -> Translated:
    both = (call.get(0, "input"), call.get(1, "other"))
    if len(_tensors(call, *both)) != 2:
        raise call.unsupported("Only the maximum of two layers is known.")
    return call.layer(Maximum(), *both)


def _pad(call: Call) -> Translated:
    mode, value = call.get(2, "mode", "constant"), call.get(3, "value")
    if mode != "constant" or value:
        raise call.unsupported(f"It pads by {value or mode!r}; only padding with zeros is known.")
    return call.layer(Pad(tuple(call.get(1, "pad"))))


def _normalization(call: Call) -> Translated:
    settings = (call.get(1, "size"), call.get(2, "alpha", 1e-4), call.get(3, "beta", 0.75), call.get(4, "k", 1.0))
    try:
        return call.layer(NormalizationOperation(LocalResponseNorm(*settings)))
    except ValueError as error:
        raise call.unsupported(str(error)) from error


def pair(value: Any) -> tuple[int, int]:
    """A size for height and width, given once or twice."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


HANDLERS: dict[str, Callable[[Call], Translated]] = {
    **dict.fromkeys(ELEMENTWISE, _activation),
    **dict.fromkeys(UNCHANGED, _unchanged),
    **dict.fromkeys(("mul", "multiply"), _product),
    **dict.fromkeys(("truediv", "div"), _quotient),
    **dict.fromkeys(("cat", "concat", "concatenate"), _concat),
    **dict.fromkeys(("softmax", "log_softmax"), lambda call: call.layer(Softmax())),
    "add": lambda call: _addends(call, 1.0),
    "sub": lambda call: _addends(call, -1.0),
    "mean": _mean,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": lambda call: call.layer(AdaptiveAveragePool(call.get(1, "output_size"))),
    "adaptive_max_pool2d": _adaptive_max_pool,
    "local_response_norm": _normalization,
    "maximum": _maximum,
    "pad": _pad,
}
