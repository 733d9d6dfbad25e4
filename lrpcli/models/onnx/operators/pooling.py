"""Pooling, and sums, means and maxima over axes."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrpcli.models.onnx.builder import OnnxBuilder
from lrpcli.models.onnx.net import OnnxNode
from lrpcli.models.onnx.operators.windows import Window, check_padding, padded, window_of
from lrpcli.models.onnx.values import Symbol, Value, axis_of, ints

MAXIMA = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def max_pool(builder: OnnxBuilder, node: OnnxNode) -> None:
    source = builder.symbol(node)
    if builder.is_used(node, 1):
        raise builder.unsupported(node, "the places of its maxima are read too")
    window = window_of(builder, node, source.shape[2:])
    check_padding(builder, node, source, window)
    function = MAXIMA.get(len(window.kernel))
    if function is None:
        raise builder.unsupported(node, f"it reads a tensor of shape {source.shape}")
    padding = window.before
    if not _is_torch_padding(window):
        # Zeros never win over numbers that are not negative, and are what other layers know as padding.
        source = padded(builder, node, source, window, 0.0 if source.nonnegative else -math.inf)
        padding = (0,) * len(padding)
    builder.finish(
        node,
        builder.compute(node, function, source, window.kernel, window.stride, padding, window.dilation, window.ceil),
    )


def average_pool(builder: OnnxBuilder, node: OnnxNode) -> None:
    source = builder.symbol(node)
    window = window_of(builder, node, source.shape[2:])
    check_padding(builder, node, source, window)
    function = AVERAGES.get(len(window.kernel))
    if function is None or any(step != 1 for step in window.dilation):
        raise builder.unsupported(node, f"it reads a tensor of shape {source.shape} with dilations {window.dilation}")
    count_padding = bool(node.get("count_include_pad", 0))
    if _is_torch_padding(window):
        arguments = (window.kernel, window.stride, window.before, window.ceil, count_padding)
        builder.finish(node, builder.compute(node, function, source, *arguments))
        return
    ones = torch.ones((1, 1, *source.shape[2:]))
    counted = function(
        F.pad(ones, window.pads, value=float(count_padding)), window.kernel, window.stride, 0, window.ceil
    )
    source = padded(builder, node, source, window, 0.0)
    result = builder.compute(node, function, source, window.kernel, window.stride, 0, window.ceil, part="window")
    if bool((counted != 1).any()):
        result = builder.compute(node, torch.mul, result, 1 / counted)
    builder.finish(node, result)


def _is_torch_padding(window: Window) -> bool:
    """Whether torch's own pooling can pad so: alike on both sides, by half a kernel at most."""
    return window.even and all(2 * pad <= kernel for pad, kernel in zip(window.before, window.kernel, strict=True))


def global_average(builder: OnnxBuilder, node: OnnxNode) -> None:
    _global(builder, node, nn.AdaptiveAvgPool2d(1), torch.mean)


def global_maximum(builder: OnnxBuilder, node: OnnxNode) -> None:
    _global(builder, node, nn.AdaptiveMaxPool2d(1), torch.amax)


def _global(builder: OnnxBuilder, node: OnnxNode, pool: nn.Module, function: Callable[..., Tensor]) -> None:
    """The pool over all of a picture, or the function over all axes behind the channels of anything else."""
    source = _image(builder, node)
    if len(source.shape) == 4:
        builder.finish(node, builder.apply(node, pool, source))
        return
    builder.finish(node, builder.compute(node, function, source, tuple(range(2, len(source.shape))), True))


def _image(builder: OnnxBuilder, node: OnnxNode) -> Symbol:
    source = builder.symbol(node)
    if len(source.shape) < 3:
        raise builder.unsupported(node, f"it reads a tensor of shape {source.shape}")
    return source


def reduction(function: Callable[..., Tensor]) -> Callable[[OnnxBuilder, OnnxNode], None]:
    """A reduction over axes, which are an attribute or an input."""

    def handler(builder: OnnxBuilder, node: OnnxNode) -> None:
        source = builder.value(node, 0)
        rank, given = len(source.shape), builder.numbers(node, 1, "axes")
        if not given and node.get("noop_with_empty_axes", 0):
            builder.finish(node, source)
            return
        axes = tuple(axis_of(axis, rank) for axis in ints(given or range(rank)))
        if isinstance(source, Symbol):
            builder.keeps_images(node, moved=0 in axes)
        builder.finish(node, builder.compute(node, function, source, axes, bool(node.get("keepdims", 1))))

    return handler


def mean_of_values(builder: OnnxBuilder, node: OnnxNode) -> None:
    """The mean of several tensors."""
    values = [builder.value(node, index) for index in range(len(node.inputs))]
    builder.keeps_axes(node, *values)
    total: Value = values[0]
    for number, value in enumerate(values[1:], 1):
        total = builder.compute(node, torch.add, total, value, part=f"add{number}")
    builder.finish(node, builder.compute(node, torch.mul, total, 1 / len(values)))


OPERATORS: dict[str, Callable[[OnnxBuilder, OnnxNode], None]] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_maximum,
    "MaxPool": max_pool,
    "Mean": mean_of_values,
    "ReduceMax": reduction(torch.amax),
    "ReduceMean": reduction(torch.mean),
    "ReduceMin": reduction(torch.amin),
    "ReduceSum": reduction(torch.sum),
}
