"""Operators that compute every number by itself: activations, sums, products, and what only fixed tensors need."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lrpcli.models.onnx.builder import OnnxBuilder
from lrpcli.models.onnx.net import OnnxNode
from lrpcli.models.onnx.operators.linear import fold
from lrpcli.models.onnx.tensors import BOOL, REAL, WHOLE
from lrpcli.models.onnx.values import Symbol, Value, axis_of

Handler = Callable[[OnnxBuilder, OnnxNode], None]
SIXTH = 1 / 6
SELU = (1.67326319, 1.05070102)
"""Alpha and gamma of the standard."""
NARROW = {2: (0, 2**8 - 1), 3: (-(2**7), 2**7 - 1), 4: (0, 2**16 - 1), 5: (-(2**15), 2**15 - 1),
          6: (-(2**31), 2**31 - 1), 12: (0, 2**32 - 1)}  # fmt: skip
"""Types of whole numbers that are read as int64 here, and what they hold."""
BOUNDS = {torch.maximum: "min", torch.minimum: "max"}


def unary(function: Callable[..., Tensor], **defaults: float) -> Handler:
    """A function of one tensor; `defaults` are its attributes, in the order of the function's arguments."""

    def handler(builder: OnnxBuilder, node: OnnxNode) -> None:
        arguments = [float(node.get(name, default)) for name, default in defaults.items()]
        builder.finish(node, builder.compute(node, function, builder.value(node, 0), *arguments))

    return handler


def unchanged(builder: OnnxBuilder, node: OnnxNode) -> None:
    builder.finish(node, builder.value(node, 0))


def dropout(builder: OnnxBuilder, node: OnnxNode) -> None:
    if builder.is_used(node, 1):
        raise builder.unsupported(node, "its mask is read too")
    if builder.flag(node, 2):
        raise builder.unsupported(node, "it drops numbers at random; export the net in eval mode")
    builder.finish(node, builder.value(node, 0))


def cast(builder: OnnxBuilder, node: OnnxNode) -> None:
    """Another type of numbers: all real ones are float32 here, and all whole ones int64."""
    value, kind = builder.value(node, 0), int(node.get("to", 1))
    if kind in REAL:
        masks = not isinstance(value, Symbol) or value.dtype == torch.bool
        builder.finish(node, builder.compute(node, torch.Tensor.float, value) if masks else value)
        return
    if isinstance(value, Symbol) or kind not in (*WHOLE, BOOL):
        raise builder.unsupported(node, "it rounds what the net computes, or makes of it what are no numbers")
    result = builder.compute(node, torch.Tensor.bool if kind == BOOL else torch.Tensor.long, value)
    if kind in NARROW and isinstance(result, Tensor) and result.numel():
        least, most = NARROW[kind]
        if not least <= int(result.min()) <= int(result.max()) <= most:
            raise builder.unsupported(node, f"its numbers are not between {least} and {most}")
    builder.finish(node, result)


def add(builder: OnnxBuilder, node: OnnxNode) -> None:
    _with_fixed(builder, node, torch.add, factor=False)


def multiply(builder: OnnxBuilder, node: OnnxNode) -> None:
    _with_fixed(builder, node, torch.mul, factor=True)


def _with_fixed(builder: OnnxBuilder, node: OnnxNode, function: Callable[..., Tensor], *, factor: bool) -> None:
    """A sum or a product, folded into the layer before it where the other operand is fixed."""
    first, second = _operands(builder, node)
    for index in (0, 1):
        value, other = builder.value(node, index), builder.value(node, 1 - index)
        if isinstance(value, Symbol) and isinstance(other, Tensor):
            if fold(builder, node, value, node.inputs[index], other, factor=factor):
                return
            first, second = value, _plain(builder, node, other, value)
    builder.finish(node, builder.compute(node, function, first, second))


def subtract(builder: OnnxBuilder, node: OnnxNode) -> None:
    first, second = _operands(builder, node)
    if isinstance(first, Symbol) and isinstance(second, Tensor):
        if fold(builder, node, first, node.inputs[0], -second, factor=False):
            return
        second = _plain(builder, node, second, first)
    elif isinstance(first, Tensor):
        first = _plain(builder, node, first, second)
    builder.finish(node, builder.compute(node, operator.sub, first, second))


def divide(builder: OnnxBuilder, node: OnnxNode) -> None:
    first, second = _operands(builder, node)
    if isinstance(first, Symbol) and isinstance(second, Tensor):
        if fold(builder, node, first, node.inputs[0], 1 / second.to(torch.float32), factor=True):
            return
        second = _plain(builder, node, second, first)
    elif isinstance(first, Tensor) and isinstance(second, Tensor) and not first.is_floating_point():
        builder.finish(node, builder.compute(node, torch.div, first, second, rounding_mode="trunc"))
        return
    elif isinstance(first, Tensor):
        first = _plain(builder, node, first, second)
    builder.finish(node, builder.compute(node, operator.truediv, first, second))


def power(builder: OnnxBuilder, node: OnnxNode) -> None:
    base, exponent = _operands(builder, node)
    plain = _plain(builder, node, exponent, base) if isinstance(base, Symbol) else exponent
    builder.finish(node, builder.compute(node, torch.pow, base, plain))


def _operands(builder: OnnxBuilder, node: OnnxNode) -> tuple[Value, Value]:
    """Both values of a node that computes with them number by number."""
    first, second = builder.value(node, 0), builder.value(node, 1)
    builder.keeps_axes(node, first, second)
    return first, second


def _plain(builder: OnnxBuilder, node: OnnxNode, value: Value, other: Value) -> Any:
    """A fixed tensor of one number as that number, as the layers of a net have it, where `other` has its shape."""
    if not isinstance(value, Tensor) or not isinstance(other, Symbol):
        return value
    if value.numel() != 1 or value.dim() > len(other.shape):
        return value
    if not bool(torch.isfinite(value)):
        raise builder.unsupported(node, f"it computes with {value.item()}")
    return value.item()


def several(function: Callable[..., Tensor]) -> Handler:
    """A function of two tensors, applied to any number of them one after the other."""

    def handler(builder: OnnxBuilder, node: OnnxNode) -> None:
        values = [builder.value(node, index) for index in range(len(node.inputs))]
        builder.keeps_axes(node, *values)
        result = values[0]
        for number, value in enumerate(values[1:], 1):
            part = "" if number == len(values) - 1 else f"part{number}"
            result = _both(builder, node, function, result, value, part)
        builder.finish(node, result)

    return handler


def _both(
    builder: OnnxBuilder, node: OnnxNode, function: Callable[..., Tensor], first: Value, second: Value, part: str
) -> Value:
    """A function of two tensors; the larger or smaller of a tensor and one number is a bound."""
    bound = BOUNDS.get(function)
    for value, other in ((first, second), (second, first)):
        number = _plain(builder, node, other, value)
        if bound and not isinstance(number, (Tensor, Symbol)):
            return builder.compute(node, torch.clamp, value, part=part, **{bound: number})
    return builder.compute(node, function, first, second, part=part)


def clip(builder: OnnxBuilder, node: OnnxNode) -> None:
    low, high = (_bound(builder.number(node, index, node.get(name))) for index, name in ((1, "min"), (2, "max")))
    value = builder.value(node, 0)
    unbounded = low is None and high is None
    builder.finish(node, value if unbounded else builder.compute(node, torch.clamp, value, low, high))


def _bound(number: float | None) -> float | None:
    """A bound, None for what older exporters write where there is none: the largest float."""
    return None if number is None or abs(number) > 3e38 else number


def hard_sigmoid(builder: OnnxBuilder, node: OnnxNode) -> None:
    value, alpha, beta = builder.value(node, 0), float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    if abs(alpha - SIXTH) < 1e-6 and beta == 0.5:
        builder.finish(node, builder.compute(node, F.hardsigmoid, value))
        return
    scaled = builder.compute(node, torch.mul, value, alpha, part="scale")
    shifted = builder.compute(node, torch.add, scaled, beta, part="shift")
    builder.finish(node, builder.compute(node, torch.clamp, shifted, 0.0, 1.0))


def selu(builder: OnnxBuilder, node: OnnxNode) -> None:
    value = builder.value(node, 0)
    alpha, gamma = float(node.get("alpha", SELU[0])), float(node.get("gamma", SELU[1]))
    if abs(alpha - SELU[0]) < 1e-6 and abs(gamma - SELU[1]) < 1e-6:
        builder.finish(node, builder.compute(node, F.selu, value))
        return
    grown = builder.compute(node, F.elu, value, alpha, part="elu")
    builder.finish(node, builder.compute(node, torch.mul, grown, gamma))


def parametric_relu(builder: OnnxBuilder, node: OnnxNode) -> None:
    value, slope = builder.symbol(node), builder.fixed(node, 1)
    if slope is None:
        raise builder.unsupported(node, "its slope is missing")
    builder.keeps_axes(node, value, slope)
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
        axis = axis_of(int(node.get("axis", 1 if old else -1)), rank)
        if isinstance(value, Symbol):
            builder.keeps_images(node, moved=axis == 0)
        if old and any(side != 1 for side in value.shape[axis + 1 :]):
            flat = builder.compute(node, torch.flatten, value, axis, part="flatten")
            result = builder.compute(node, function, flat, axis)
            builder.finish(
                node, builder.compute(node, torch.reshape, result, builder.kept(value, value.shape), part="reshape")
            )
            return
        builder.finish(node, builder.compute(node, function, value, axis))

    return handler


def gelu(builder: OnnxBuilder, node: OnnxNode) -> None:
    builder.finish(
        node, builder.compute(node, F.gelu, builder.value(node, 0), approximate=node.get("approximate", "none"))
    )


def where(builder: OnnxBuilder, node: OnnxNode) -> None:
    condition, first, second = (builder.value(node, index) for index in range(3))
    builder.keeps_axes(node, condition, first, second)
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
    "GreaterOrEqual": several(torch.ge),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": unary(F.hardswish),
    "Identity": unchanged,
    "LeakyRelu": unary(F.leaky_relu, alpha=0.01),
    "Less": several(torch.lt),
    "LessOrEqual": several(torch.le),
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
