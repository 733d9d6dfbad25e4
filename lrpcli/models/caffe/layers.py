"""One function per Caffe layer type: its hyper-parameters and blobs become a node of the graph."""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from lrpcli.errors import ModelError
from lrpcli.lrp.layers.normalization import LocalResponseNorm
from lrpcli.models.caffe.builder import CaffeBuilder
from lrpcli.models.caffe.fields import odd_numbers
from lrpcli.models.caffe.gates import axpy, scale_by_input
from lrpcli.models.caffe.network import SourceLayer
from lrpcli.models.graph_builder import META, Shape, assign_tensors

MAXIMAL_SIZE = 2**24
DEPTHWISE = ("ConvolutionDepthwise", "DepthwiseConvolution")
"""Convolutions of forks with one filter per channel."""


def add_layer(builder: CaffeBuilder, layer: SourceLayer) -> None:
    """Adds one layer. UnsupportedLayer names a type that is not known here; ModelError names what does not fit."""
    handler = HANDLERS.get(layer.type)
    if handler is None:
        raise builder.unsupported(layer, f"type {layer.type} is not known")
    if layer.unread:
        raise builder.unsupported(layer, f"{layer.unread[0]!r} is not known here and may change what it computes")
    for name in odd_numbers(layer.message, layer.type):
        raise ModelError(f"The {builder.where(layer.name)} has a {name} that is not finite. Check the net description.")
    if not layer.tops:
        raise ModelError(f"The {builder.where(layer.name)} has no output. Check the net description.")
    try:
        handler(builder, layer)
        builder.check_all_read(layer)
    # What torch refuses while a layer is made comes from the layer's hyper-parameters.
    except (ValueError, RuntimeError, TypeError, OverflowError, IndexError, KeyError) as error:
        raise ModelError(
            f"The {builder.where(layer.name)} cannot be made: {error}. Check its hyper-parameters."
        ) from error


def decimal(value: float) -> float:
    """A single-precision number as the decimal that was written: 1e-4 and not 0.0000999999974."""
    return float(str(np.float32(value)))


def convolution(builder: CaffeBuilder, layer: SourceLayer) -> None:
    node, (channels, *plane) = builder.image(layer)
    values = layer.parameters("convolution")
    outputs, groups = _bounded(values.num_output, "num_output"), _bounded(values.group, "group")
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
    features, outputs = math.prod(shape), _bounded(values.num_output, "num_output")
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
    results = [
        [_pooled_size(*sizes, up) for sizes in zip(plane, kernel, stride, pad, strict=True)] for up in (False, True)
    ]
    result = results[True if ceil is None else ceil]
    if ceil is None and results[0] != results[1]:
        raise builder.unsupported(
            layer,
            "its field 13 is round_mode in BVLC's Caffe and ceil_mode in forks, which say the opposite; a net "
            "description as text (--prototxt FILE) says which",
        )
    ceil = bool(ceil)
    builder.module(layer, kind(kernel, stride, pad, ceil_mode=ceil), node, (channels, *result))


def _rounds_up(builder: CaffeBuilder, layer: SourceLayer) -> bool | None:
    """Whether the size of the output is rounded up; None where a binary file may mean either."""
    values = layer.parameters("pooling")
    if values.HasField("round_mode") and values.HasField("ceil_mode"):
        raise builder.unsupported(layer, "it has both round_mode and ceil_mode")
    if values.HasField("round_mode") and not layer.textual:
        return None
    return bool(values.ceil_mode) and values.round_mode == 0


def normalization(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    values = layer.parameters("lrn")
    within = values.norm_region == 1
    if within and len(shape) != 3:
        raise ValueError(f"normalisation within a channel needs maps, not a blob of shape {shape}")
    size = _bounded(values.local_size, "local_size")
    if size % 2 == 0:
        raise ValueError(f"its local_size is {size}, and Caffe normalises over windows of odd size only")
    region = "within-channel" if within else "across-channels"
    padded = tuple(side + size if (place > 0) == within else side for place, side in enumerate(shape))
    builder.check_padded(padded, layer.name)
    module = LocalResponseNorm(size, decimal(values.alpha), decimal(values.beta), decimal(values.k), region)
    builder.module(layer, module, node, shape)


def batch_norm(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    values = layer.parameters("batch_norm")
    # NVIDIA's layer does the work of the Scale layer behind it, too, if it says so or how to fill its blobs.
    scaled = values.scale_bias or values.HasField("scale_filler") or values.HasField("bias_filler")
    if not scaled and (not values.use_global_stats or _stays_in_training(layer)):
        raise builder.unsupported(
            layer,
            "it normalises by the statistics of a batch, which one image is not; to use the stored ones, leave "
            "out use_global_stats and phase",
        )
    mean, variance = (builder.blob(layer, index, shape[:1], "statistics").double() for index in range(2))
    # Caffe stores sums and the factor that they were scaled by, 0 for no data seen; NVIDIA's stores what it uses.
    factor = float(builder.blob(layer, 2, (1,), "scale factor").reshape(()))
    scale = 1.0 if scaled else 0.0 if factor == 0 else 1 / factor
    tensors = {"running_mean": (mean * scale).float(), "running_var": (variance * scale).float()}
    eps = max(decimal(values.eps), 1e-5) if scaled else decimal(values.eps)
    if not all(tensor.isfinite().all() for tensor in tensors.values()) or (tensors["running_var"] + eps <= 0).any():
        raise ValueError("its variance is negative, zero or not finite")
    if scaled:
        tensors["weight"] = builder.blob(layer, 3, shape[:1], "factors")
        tensors["bias"] = builder.blob(layer, 4, shape[:1], "biases")
    kind: type[nn.BatchNorm1d | nn.BatchNorm2d] = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    module = kind(shape[0], eps=eps, affine=scaled, device=META)
    builder.module(layer, assign_tensors(module, **tensors, num_batches_tracked=torch.tensor(1)), node, shape)


def _stays_in_training(layer: SourceLayer) -> bool:
    """Whether a text says so; binary files keep the phase in which they were written."""
    return (
        layer.textual
        and layer.type in ("BatchNorm", "Dropout")
        and "phase" in layer.message.DESCRIPTOR.fields_by_name
        and layer.message.HasField("phase")
        and layer.message.phase == 0
    )


def scale(builder: CaffeBuilder, layer: SourceLayer) -> None:
    """Scale and Bias: a factor and a shift per channel."""
    only_bias = layer.type == "Bias"
    if len(layer.bottoms) == 2 and only_bias:
        raise builder.unsupported(layer, "it takes its biases from a second input")
    if len(layer.bottoms) == 2:
        scale_by_input(builder, layer)
        return
    (node,), (shape,) = builder.inputs(layer)
    values = layer.parameters("bias" if only_bias else "scale")
    if values.axis not in (1, -len(shape)) or (values.num_axes != 1 and len(shape) != 1):
        raise builder.unsupported(layer, "it does not scale per channel")
    size = shape[:1]
    factor = torch.ones(size) if only_bias else builder.blob(layer, 0, size, "factors")
    has_shift = only_bias or values.bias_term
    shift = builder.blob(layer, 0 if only_bias else 1, size, "biases") if has_shift else torch.zeros(size)
    builder.module(layer, _affine(factor, shift, shape), node, shape)


def _affine(factor: torch.Tensor, shift: torch.Tensor, shape: Shape) -> nn.Module:
    """factor x + shift per channel of a blob of that shape, as a BatchNorm with mean 0 and variance 1."""
    kinds = {3: nn.BatchNorm2d, 4: nn.BatchNorm3d}
    module = kinds.get(len(shape), nn.BatchNorm1d)(shape[0], eps=0.0, device=META)
    tensors = {"running_mean": torch.zeros(shape[:1]), "running_var": torch.ones(shape[:1])}
    return assign_tensors(module, **tensors, num_batches_tracked=torch.tensor(1), weight=factor, bias=shift)


def prelu(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    count = 1 if layer.parameters("prelu").channel_shared else shape[0]
    slopes = builder.blob(layer, 0, (count,), "slopes")
    builder.module(layer, assign_tensors(nn.PReLU(count, device=META), weight=slopes), node, shape)


def pointwise(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    if _stays_in_training(layer):
        raise builder.unsupported(layer, "it stays in the training phase, so that it draws at random")
    builder.module(layer, POINTWISE[layer.type](layer), node, shape)


def softmax(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    if layer.parameters("softmax").axis not in (1, -len(shape)):
        raise builder.unsupported(layer, "it does not run over the classes")
    builder.module(layer, nn.Softmax(dim=1), node, shape)


def power(builder: CaffeBuilder, layer: SourceLayer) -> None:
    """scale x + shift, the same in all channels, and so a Scale layer."""
    (node,), (shape,) = builder.inputs(layer)
    values = layer.parameters("power")
    if values.power != 1:
        raise builder.unsupported(layer, f"its power is {decimal(values.power)}, and only 1 is linear")
    factor, shift = (torch.full(shape[:1], decimal(number)) for number in (values.scale, values.shift))
    if builder.holds(layer) == 2:  # a Scale layer that was written as Power: its blobs must say the same
        held = [builder.blob(layer, place, shape[:1], what) for place, what in enumerate(("factors", "shifts"))]
        if not (torch.equal(held[0], factor) and torch.equal(held[1], shift)):
            raise builder.unsupported(layer, "its weights hold other factors or shifts than it is described with")
    builder.module(layer, _affine(factor, shift, shape), node, shape)


def eltwise(builder: CaffeBuilder, layer: SourceLayer) -> None:
    nodes, shapes = builder.inputs(layer, None)
    values = layer.parameters("eltwise")
    if len(set(shapes)) != 1:
        raise ValueError(f"its inputs have the shapes {shapes}, which should be one")
    method = values.DESCRIPTOR.fields_by_name["operation"].enum_type.values_by_number[values.operation].name
    factors = [decimal(factor) for factor in values.coeff] or [1.0] * len(nodes)
    if len(factors) != len(nodes):
        raise ValueError(f"it has {len(factors)} coefficients for {len(nodes)} inputs")
    if method == "SUM":
        nodes = [
            node if factor == 1 else builder.call(f"{layer.name}/{place}", operator.mul, node, factor)
            for place, (node, factor) in enumerate(zip(nodes, factors, strict=True))
        ]
    combine = {"SUM": operator.add, "PROD": operator.mul, "MAX": torch.maximum}[method]
    result = nodes[0]
    for node in nodes[1:]:
        result = builder.call(layer.name, combine, result, node)
    builder.finish(layer, result, shapes[0])


def concat(builder: CaffeBuilder, layer: SourceLayer) -> None:
    nodes, shapes = builder.inputs(layer, None)
    axis = _axis(builder, layer, layer.parameters("concat"), "concat_dim", len(shapes[0]))
    others = {(*shape[: axis - 1], *shape[axis:]) for shape in shapes}
    if len(others) != 1 or len({len(shape) for shape in shapes}) != 1:
        raise ValueError(f"blobs of the shapes {shapes} cannot be joined")
    total = sum(shape[axis - 1] for shape in shapes)
    result = (*shapes[0][: axis - 1], total, *shapes[0][axis:])
    builder.finish(layer, builder.call(layer.name, torch.cat, nodes, dim=axis), result)


def slice_(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    values = layer.parameters("slice")
    axis = _axis(builder, layer, values, "slice_dim", len(shape))
    total, count = shape[axis - 1], len(layer.tops)
    points = list(values.slice_point) or [total * part // count for part in range(1, count)]
    sizes = [end - start for start, end in zip([0, *points], [*points, total], strict=True)]
    if len(sizes) != count or min(sizes) < 1 or (not values.slice_point and total % count):
        raise ValueError(f"{total} channels cannot be cut at {points} into {count} parts")
    parts = builder.call(layer.name, torch.split, node, sizes, dim=axis)
    for top, size in enumerate(sizes):
        part = builder.call(f"{layer.name}/{top}", operator.getitem, parts, top)
        builder.finish(layer, part, (*shape[: axis - 1], size, *shape[axis:]), top)


def split(builder: CaffeBuilder, layer: SourceLayer) -> None:
    """Caffe's automatic copies of a blob with several readers: other names for one node."""
    (node,), (shape,) = builder.inputs(layer)
    for top in range(len(layer.tops)):
        builder.finish(layer, node, shape, top)


def flatten(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    values = layer.parameters("flatten")
    axes = len(shape) + 1
    start, end = values.axis % axes, values.end_axis % axes
    if not 1 <= start <= end:
        raise builder.unsupported(layer, "it flattens the batch axis")
    result = (*shape[: start - 1], math.prod(shape[start - 1 : end]), *shape[end:])
    builder.finish(layer, builder.call(layer.name, torch.flatten, node, start, end), result)


def reshape(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    values = layer.parameters("reshape")
    dims = list(values.shape.dim)
    if values.axis not in (0, 1) or values.num_axes != -1:
        raise builder.unsupported(layer, "it reshapes only some of the axes")
    dims = dims[1:] if values.axis == 0 else dims
    result = [shape[place] if size == 0 else size for place, size in enumerate(dims)]
    if result.count(-1) == 1:
        result[result.index(-1)] = math.prod(shape) // max(1, -math.prod(result))
    if math.prod(result) != math.prod(shape) or min(result, default=0) < 1:
        raise ValueError(f"a blob of shape {shape} cannot be reshaped to {dims}")
    builder.finish(layer, builder.call(layer.name, torch.reshape, node, (-1, *result)), tuple(result))


def _bounded(value: int, what: str) -> int:
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


def _axis(builder: CaffeBuilder, layer: SourceLayer, values: Any, old: str, count: int) -> int:
    """Axis to join or cut along, counted with the batch axis."""
    axis = int(getattr(values, old) if values.HasField(old) else values.axis)
    axis = axis + count + 1 if axis < 0 else axis
    if not 1 <= axis <= count:
        raise builder.unsupported(layer, f"its axis is {axis}")
    return axis


def _convolved_size(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    return (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1


def _transposed_size(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    return (size - 1) * stride - 2 * pad + dilation * (kernel - 1) + 1


def _pooled_size(size: int, kernel: int, stride: int, pad: int, ceil: bool) -> int:
    """Rounded up, and no window begins in the padding behind the map: Caffe and torch agree on both."""
    span = size + 2 * pad - kernel
    result = (-(-span // stride) if ceil else span // stride) + 1
    return result - 1 if (result - 1) * stride >= size + pad else result


def _relu(layer: SourceLayer) -> nn.Module:
    slope = decimal(layer.parameters("relu").negative_slope)
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


def _relu6(layer: SourceLayer) -> nn.Module:
    if layer.parameters("relu").negative_slope:
        raise ValueError("a ReLU6 with a negative_slope is not known here")
    return nn.ReLU6()


POINTWISE: dict[str, Callable[[SourceLayer], nn.Module]] = {
    "ReLU": _relu,
    "ReLU6": _relu6,
    "ELU": lambda layer: nn.ELU(decimal(layer.parameters("elu").alpha)),
    "Dropout": lambda layer: nn.Dropout(decimal(layer.parameters("dropout").dropout_ratio)),
    "Sigmoid": lambda layer: nn.Sigmoid(),
    "TanH": lambda layer: nn.Tanh(),
    "BNLL": lambda layer: nn.Softplus(),
}

HANDLERS: dict[str, Callable[[CaffeBuilder, SourceLayer], None]] = {
    "Convolution": convolution, "Deconvolution": convolution, "InnerProduct": inner_product, "Pooling": pooling,
    **dict.fromkeys(DEPTHWISE, convolution), "Axpy": axpy,
    "LRN": normalization, "BatchNorm": batch_norm, "Scale": scale, "Bias": scale, "PReLU": prelu, "Softmax": softmax,
    "Power": power, "Eltwise": eltwise, "Concat": concat, "Slice": slice_, "Split": split, "Flatten": flatten,
    "Reshape": reshape, **dict.fromkeys(POINTWISE, pointwise),
}  # fmt: skip
