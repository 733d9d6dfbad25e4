"""Caffe layers that read a map window by window, or all of it: convolution, inner product, pooling."""

import math
from typing import Any

import torch
from torch import nn

from lrpcli.models.caffe.builder import CaffeBuilder
from lrpcli.models.caffe.network import SourceLayer
from lrpcli.models.graph_builder import META, assign_tensors

MAXIMAL_SIZE = 2**24
DEPTHWISE = ("ConvolutionDepthwise", "DepthwiseConvolution")
"""Convolutions of forks with one filter per channel."""


def convolution(builder: CaffeBuilder, layer: SourceLayer) -> None:
    node, (channels, *plane) = builder.image(layer)
    values = layer.parameters("convolution")
    outputs, groups = bounded(values.num_output, "num_output"), bounded(values.group, "group")
    if values.axis != 1:
        raise builder.unsupported(layer, f"its axis is {values.axis}, not 1")
    kernel, stride = _pair(values, "kernel", None), _pair(values, "stride", 1)
    pad, dilation = _pair(values, "pad", 0), _pair(values, "dilation", 1)
    if layer.type in DEPTHWISE:
        groups = _depthwise_groups(builder, layer, channels)
    if channels % groups or outputs % groups:
        raise ValueError(f"{channels} and {outputs} channels cannot be cut into {groups} groups")
    transposed = layer.type == "Deconvolution"
    shape = (channels, outputs // groups, *kernel) if transposed else (outputs, channels // groups, *kernel)
    weight = builder.blob(layer, 0, shape, "weights")
    bias = builder.blob(layer, 1, (outputs,), "biases") if values.bias_term else None
    kind: type[nn.Conv2d | nn.ConvTranspose2d] = nn.ConvTranspose2d if transposed else nn.Conv2d
    module = kind(
        channels, outputs, kernel, stride, pad, dilation=dilation, groups=groups, bias=bias is not None, device=META
    )
    builder.check_padded((channels, *(side + 2 * width for side, width in zip(plane, pad, strict=True))), layer.name)
    size = _transposed_size if transposed else _convolved_size
    result = [size(*sizes) for sizes in zip(plane, kernel, stride, pad, dilation, strict=True)]
    builder.module(layer, assign_tensors(module, weight=weight, bias=bias), node, (outputs, *result))


def _depthwise_groups(builder: CaffeBuilder, layer: SourceLayer, channels: int) -> int:
    """A group per channel, which these layers make whether they say so or not."""
    values = layer.parameters("convolution")
    if values.num_output != channels or (values.HasField("group") and values.group != channels):
        raise builder.unsupported(
            layer, f"it reads {channels} channels, and num_output and group must be as many, one filter for each"
        )
    return channels


def inner_product(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    values = layer.parameters("inner_product")
    if values.axis not in (1, -len(shape)):
        raise builder.unsupported(layer, f"its axis is {values.axis}, not 1")
    features, outputs = math.prod(shape), bounded(values.num_output, "num_output")
    order = (features, outputs) if values.transpose else (outputs, features)
    weight = builder.blob(layer, 0, order, "weights")
    bias = builder.blob(layer, 1, (outputs,), "biases") if values.bias_term else None
    if len(shape) > 1:
        node = builder.call(f"{layer.name}/flatten", torch.flatten, node, 1)
    module = nn.Linear(features, outputs, bias=bias is not None, device=META)
    weight = weight.t().contiguous() if values.transpose else weight
    builder.module(layer, assign_tensors(module, weight=weight, bias=bias), node, (outputs,))


def pooling(builder: CaffeBuilder, layer: SourceLayer) -> None:
    node, (channels, *plane) = builder.image(layer)
    values = layer.parameters("pooling")
    method = values.DESCRIPTOR.fields_by_name["pool"].enum_type.values_by_number[values.pool].name
    if method == "STOCHASTIC":
        raise builder.unsupported(layer, "it is stochastic")
    if values.global_pooling:
        everything = nn.AdaptiveMaxPool2d(1) if method == "MAX" else nn.AdaptiveAvgPool2d(1)
        builder.module(layer, everything, node, (channels, 1, 1))
        return
    kernel, stride, pad = _pair(values, "kernel", None), _pair(values, "stride", 1), _pair(values, "pad", 0)
    if any(2 * p > k for p, k in zip(pad, kernel, strict=True)):
        raise builder.unsupported(layer, "it pads by more than half of its window")
    kind: type[nn.MaxPool2d | nn.AvgPool2d] = nn.MaxPool2d if method == "MAX" else nn.AvgPool2d
    ceil = _rounds_up(builder, layer)
    sizes = list(zip(plane, kernel, stride, pad, strict=True))
    down, up = ([_pooled_size(*size, rounded) for size in sizes] for rounded in (False, True))
    if ceil is None and down != up:
        raise builder.unsupported(
            layer,
            "its field 13 is round_mode in BVLC's Caffe and ceil_mode in forks, which say the opposite; a net "
            "description as text (--prototxt FILE) says which",
        )
    builder.module(layer, kind(kernel, stride, pad, ceil_mode=bool(ceil)), node, (channels, *(up if ceil else down)))


def _rounds_up(builder: CaffeBuilder, layer: SourceLayer) -> bool | None:
    """Whether the size of the output is rounded up; None where a binary file may mean either."""
    values = layer.parameters("pooling")
    if values.HasField("round_mode") and values.HasField("ceil_mode"):
        raise builder.unsupported(layer, "it has both round_mode and ceil_mode")
    if values.HasField("round_mode") and not layer.textual:
        return None
    return bool(values.ceil_mode) and values.round_mode == 0


def bounded(value: int, what: str) -> int:
    """The value; ValueError unless a size or a count can be so large."""
    if not 1 <= value <= MAXIMAL_SIZE:
        raise ValueError(f"its {what} is {value}")
    return value


def _pair(values: Any, what: str, default: int | None) -> tuple[int, int]:
    """A size for height and width, given once, twice or as what_h and what_w; `default` None: it must be given."""
    names = {field.name for field in values.DESCRIPTOR.fields}
    if f"{what}_h" in names and (values.HasField(f"{what}_h") or values.HasField(f"{what}_w")):
        found = [getattr(values, f"{what}_h"), getattr(values, f"{what}_w")]
    else:
        found = list(getattr(values, "kernel_size" if what == "kernel" else what)) or [default]
    if len(found) > 2 or found[0] is None:
        raise ValueError(f"its {what} size is {'not given' if found[0] is None else found}")
    least = 0 if what == "pad" else 1
    if not all(least <= size <= MAXIMAL_SIZE for size in found):
        raise ValueError(f"its {what} size is {found}")
    return int(found[0]), int(found[-1])


def _convolved_size(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    return (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1


def _transposed_size(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    return (size - 1) * stride - 2 * pad + dilation * (kernel - 1) + 1


def _pooled_size(size: int, kernel: int, stride: int, pad: int, ceil: bool) -> int:
    """Rounded up, and no window begins in the padding behind the map: Caffe and torch agree on both."""
    span = size + 2 * pad - kernel
    result = (-(-span // stride) if ceil else span // stride) + 1
    return result - 1 if (result - 1) * stride >= size + pad else result
