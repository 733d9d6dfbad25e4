"""Operators that compute every number by itself: activations, sums, products, and what only fixed tensors need."""

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lrpcli.models.onnx.builder import OnnxBuilder, Symbol, Value
from lrpcli.models.onnx.net import OnnxNode
from lrpcli.models.onnx.operators.linear import fold

Handler = Callable[[OnnxBuilder, OnnxNode], None]
SIXTH = 1 / 6


def unary(function: Callable[..., Tensor], **defaults: float) -> Handler:
    """A function of one tensor; `defaults` are its attributes, in the order of the function's arguments."""

    def handler(builder: OnnxBuilder, node: OnnxNode) -> None:
        arguments = [float(node.get(name, default)) for name, default in defaults.items()]
        builder.finish(node, builder.compute(node, function, builder.value(node, 0), *arguments))

    return handler


def unchanged(builder: OnnxBuilder, node: OnnxNode) -> None:
    builder.finish(node, builder.value(node, 0))


def dropout(builder: OnnxBuilder, node: OnnxNode) -> None:
    training = builder.fixed(node, 2)
    if builder.is_used(node, 1):
        raise builder.unsupported(node, "its mask is read too")
    if training is not None and bool(training.any()):
        raise builder.unsupported(node, "it drops numbers at random; export the net in eval mode")
    builder.finish(node, builder.value(node, 0))


def cast(builder: OnnxBuilder, node: OnnxNode) -> None:
    from onnx import TensorProto

    value, kind = builder.value(node, 0), int(node.get("to", TensorProto.FLOAT))
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    if kind in floats:
        builder.finish(node, value if isinstance(value, Symbol) else value.to(torch.float32))
        return
    if isinstance(value, Symbol):
        raise builder.unsupported(node, "it rounds what the net computes to whole numbers")
    builder.finish(node, value.to(torch.bool if kind == TensorProto.BOOL else torch.int64))


def add(builder: OnnxBuilder, node: OnnxNode) -> None:
    _with_fixed(builder, node, torch.add, factor=False)


def multiply(builder: OnnxBuilder, node: OnnxNode) -> None:
    _with_fixed(builder, node, torch.mul, factor=True)


def _with_fixed(builder: OnnxBuilder, node: OnnxNode, function: Callable[..., Tensor], *, factor: bool) -> None:
    """A sum or a product, folded into the layer before it where the other operand is fixed."""
    for index in (0, 1):
        value, other = builder.value(node, index), builder.value(node, 1 - index)
        if isinstance(value, Symbol) and isinstance(other, Tensor):
            if not fold(builder, node, value, node.inputs[index], other, factor=factor):
                builder.finish(node, builder.compute(node, function, value, _plain(other)))
            return
    builder.finish(node, builder.compute(node, function, builder.value(node, 0), builder.value(node, 1)))


def subtract(builder: OnnxBuilder, node: OnnxNode) -> None:
    value, other = builder.value(node, 0), builder.value(node, 1)
    if isinstance(value, Symbol) and isinstance(other, Tensor):
        if not fold(builder, node, value, node.inputs[0], -other, factor=False):
            builder.finish(node, builder.compute(node, torch.sub, value, _plain(other)))
        return
    builder.finish(node, builder.compute(node, torch.sub, _plain(value), other))


def divide(builder: OnnxBuilder, node: OnnxNode) -> None:
    value, other = builder.value(node, 0), builder.value(node, 1)
    if isinstance(value, Symbol) and isinstance(other, Tensor):
        inverse = 1 / other.to(torch.float32)
        if not fold(builder, node, value, node.inputs[0], inverse, factor=True):
            builder.finish(node, builder.compute(node, torch.div, value, _plain(other)))
        return
    if isinstance(value, Tensor) and isinstance(other, Tensor) and not value.is_floating_point():
        builder.finish(node, torch.div(value, other, rounding_mode="trunc"))
        return
    builder.finish(node, builder.compute(node, torch.div, _plain(value), other))


def power(builder: OnnxBuilder, node: OnnxNode) -> None:
    builder.finish(node, builder.compute(node, torch.pow, builder.value(node, 0), _plain(builder.value(node, 1))))


def _plain(value: Value) -> Any:
    """A fixed tensor of one number as that number, as the layers of a net have it."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def several(function: Callable[..., Tensor]) -> Handler:
    """A function of two tensors, applied to any number of them one after the other."""

    def handler(builder: OnnxBuilder, node: OnnxNode) -> None:
        values = [builder.value(node, index) for index in range(len(node.inputs))]
        parts = iter(range(1, len(values)))

        def both(first: Value, second: Value) -> Value:
            number = next(parts)
            return builder.compute(
                node, function, first, second, part="" if number == len(values) - 1 else f"part{number}"
            )

        builder.finish(node, reduce(both, values))

    return handler


def clip(builder: OnnxBuilder, node: OnnxNode) -> None:
    low, high = (_bound(builder, node, index, name) for index, name in ((1, "min"), (2, "max")))
    value = builder.value(node, 0)
    if low is None and high is None:
        builder.finish(node, value)
        return
    builder.finish(node, builder.compute(node, torch.clamp, value, low, high))


def _bound(builder: OnnxBuilder, node: OnnxNode, index: int, name: str) -> float | None:
    tensor = builder.fixed(node, index)
    bound = node.get(name) if tensor is None else tensor.reshape(()).item()
    # What older exporters write where there is no bound: the largest float.
    return None if bound is None or abs(bound) > 3e38 else float(bound)


def hard_sigmoid(builder: OnnxBuilder, node: OnnxNode) -> None:
    value, alpha, beta = builder.value(node, 0), float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    if abs(alpha - SIXTH) < 1e-6 and beta == 0.5:
        builder.finish(node, builder.compute(node, F.hardsigmoid, value))
        return
    scaled = builder.compute(node, torch.mul, value, alpha, part="scale")
    shifted = builder.compute(node, torch.add, scaled, beta, part="shift")
    builder.finish(node, builder.compute(node, torch.clamp, shifted, 0.0, 1.0))


def selu(builder: OnnxBuilder, node: OnnxNode) -> None:
    alpha, gamma = node.get("alpha"), node.get("gamma")
    value = builder.value(node, 0)
    if alpha is None and gamma is None:
        builder.finish(node, builder.compute(node, F.selu, value))
        return
    grown = builder.compute(node, F.elu, value, float(1.67326319 if alpha is None else alpha), part="elu")
    builder.finish(node, builder.compute(node, torch.mul, grown, float(1.05070102 if gamma is None else gamma)))


def parametric_relu(builder: OnnxBuilder, node: OnnxNode) -> None:
    value, slope = builder.symbol(node), builder.fixed(node, 1)
    if slope is None:
        raise builder.unsupported(node, "its slope is missing")
    shape = (1,) * (len(value.shape) - slope.dim()) + tuple(slope.shape)
    if slope.numel() == 1 or (len(shape) > 1 and slope.numel() == shape[1] == value.shape[1]):
        builder.finish(node, builder.compute(node, F.prelu, value, slope.reshape(-1)))
        return
    builder.finish(node, builder.compute(node, _prelu, value, slope))


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def softmax(function: Callable[..., Tensor]) -> Handler:
    """Softmax along an axis; before opset 13 over all axes from that one on."""

    def handler(builder: OnnxBuilder, node: OnnxNode) -> None:
        value = builder.value(node, 0)
        rank, old = len(value.shape), builder.net.opset < 13
        axis = int(node.get("axis", 1 if old else -1)) % max(rank, 1)
        if old and any(side != 1 for side in value.shape[axis + 1 :]):
            flat = builder.compute(node, torch.flatten, value, axis, part="flatten")
            result = builder.compute(node, function, flat, axis)
            builder.finish(node, builder.compute(node, torch.reshape, result, tuple(value.shape), part="reshape"))
            return
        builder.finish(node, builder.compute(node, function, value, axis))

    return handler


def gelu(builder: OnnxBuilder, node: OnnxNode) -> None:
    builder.finish(
        node, builder.compute(node, F.gelu, builder.value(node, 0), approximate=node.get("approximate", "none"))
    )


def where(builder: OnnxBuilder, node: OnnxNode) -> None:
    condition, first, second = (builder.value(node, index) for index in range(3))
    builder.finish(node, builder.compute(node, torch.where, condition, first, second))


def swish(builder: OnnxBuilder, node: OnnxNode) -> None:
    value, alpha = builder.value(node, 0), float(node.get("alpha", 1.0))
    if alpha == 1.0:
        builder.finish(node, builder.compute(node, F.silu, value))
        return
    scaled = builder.compute(node, torch.mul, value, alpha, part="scale")
    gate = builder.compute(node, torch.sigmoid, scaled, part="sigmoid")
    builder.finish(node, builder.compute(node, torch.mul, value, gate))


def _shrink(x: Tensor, shift: float, bound: float) -> Tensor:
    return torch.where(x < -bound, x + shift, torch.where(x > bound, x - shift, torch.zeros_like(x)))


OPERATORS: dict[str, Handler] = {
    "Abs": unary(torch.abs),
    "Add": add,
    "And": several(torch.logical_and),
    "Cast": cast,
    "Ceil": unary(torch.ceil),
    "Celu": unary(F.celu, alpha=1.0),
    "Clip": clip,
    "Div": divide,
    "Dropout": dropout,
    "Elu": unary(F.elu, alpha=1.0),
    "Equal": several(torch.eq),
    "Erf": unary(torch.erf),
    "Exp": unary(torch.exp),
    "Floor": unary(torch.floor),
    "Gelu": gelu,
    "Greater": several(torch.gt),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": unary(F.hardswish),
    "Identity": unchanged,
    "LeakyRelu": unary(F.leaky_relu, alpha=0.01),
    "Less": several(torch.lt),
    "Log": unary(torch.log),
    "LogSoftmax": softmax(F.log_softmax),
    "Max": several(torch.maximum),
    "Min": several(torch.minimum),
    "Mish": unary(F.mish),
    "Mul": multiply,
    "Neg": unary(operator.neg),
    "Not": unary(torch.logical_not),
    "Or": several(torch.logical_or),
    "PRelu": parametric_relu,
    "Pow": power,
    "Reciprocal": unary(torch.reciprocal),
    "Relu": unary(torch.relu),
    "Selu": selu,
    "Shrink": unary(_shrink, bias=0.0, lambd=0.5),
    "Sigmoid": unary(torch.sigmoid),
    "Softmax": softmax(F.softmax),
    "Softplus": unary(F.softplus),
    "Softsign": unary(F.softsign),
    "Sqrt": unary(torch.sqrt),
    "Sub": subtract,
    "Sum": several(torch.add),
    "Swish": swish,
    "Tanh": unary(torch.tanh),
    "ThresholdedRelu": lambda builder, node: builder.finish(
        node, builder.compute(node, F.threshold, builder.value(node, 0), float(node.get("alpha", 1.0)), 0.0)
    ),
    "Where": where,
}
