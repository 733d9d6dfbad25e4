"""Convolutions, products with fixed matrices, and normalisation."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lrpcli.models.graph_builder import META, assign_tensors
from lrpcli.models.onnx.builder import OnnxBuilder
from lrpcli.models.onnx.net import OnnxNode
from lrpcli.models.onnx.operators.windows import check_padding, padded, window_of
from lrpcli.models.onnx.values import Symbol, Value, ints

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORMS = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORMS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def convolution(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, weight = builder.symbol(node), _required(builder, node, 1)
    window = window_of(builder, node, source.shape[2:], tuple(weight.shape[2:]))
    check_padding(builder, node, source, window)
    kind = _of_rank(builder, node, CONVOLUTIONS, source)
    groups, bias = int(node.get("group", 1)), builder.fixed(node, 2)
    if not window.even:
        source = padded(builder, node, source, window, 0.0)
    padding = window.before if window.even else (0,) * len(window.kernel)
    module = kind(
        weight.shape[1] * groups, weight.shape[0], window.kernel, window.stride, padding,
        dilation=window.dilation, groups=groups, bias=bias is not None, device=META,
    )  # fmt: skip
    builder.finish(node, builder.apply(node, module, source, weight=weight, bias=bias))


def transposed_convolution(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, weight = builder.symbol(node), _required(builder, node, 1)
    plane = source.shape[2:]
    window = window_of(builder, node, plane, tuple(weight.shape[2:]))
    more = ints(node.get("output_padding") or (0,) * len(plane))
    full = [
        step * (size - 1) + extra + reach
        for step, size, extra, reach in zip(window.stride, plane, more, window.extent, strict=True)
    ]
    builder.check_padded((weight.shape[1], *full), node.name)
    before, behind = _cropped(node, full, plane, window.stride, window.before, window.behind)
    if min(*before, *behind) < 0:
        raise builder.unsupported(node, "its output_shape is larger than what its kernel reaches")
    kind = _of_rank(builder, node, TRANSPOSED, source)
    groups, bias = int(node.get("group", 1)), builder.fixed(node, 2)
    even = before == behind
    module = kind(
        weight.shape[0], weight.shape[1] * groups, window.kernel, window.stride, before if even else 0, more,
        groups, bias is not None, window.dilation, device=META,
    )  # fmt: skip
    result: Value = builder.apply(node, module, source, weight=weight, bias=bias)
    if not even:
        inner = tuple(slice(b, f - e) for b, f, e in zip(before, full, behind, strict=True))
        result = builder.compute(node, _crop, result, inner, part="crop")
    builder.finish(node, result)


def _crop(x: Tensor, inner: tuple[slice, ...]) -> Tensor:
    return x[(slice(None), slice(None), *inner)]


def _cropped(
    node: OnnxNode,
    full: list[int],
    plane: tuple[int, ...],
    stride: tuple[int, ...],
    before: tuple[int, ...],
    behind: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What is cut off on each side of a transposed convolution's full output."""
    mode, wanted = node.get("auto_pad", "NOTSET"), node.get("output_shape")
    if wanted is None and mode in ("NOTSET", "", "VALID"):
        return before, behind
    sizes = ints(wanted)[-len(plane) :] if wanted else tuple(s * p for s, p in zip(stride, plane, strict=True))
    totals = [f - s for f, s in zip(full, sizes, strict=True)]
    small, large = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def general_product(builder: OnnxBuilder, node: OnnxNode) -> None:
    """alpha A B + beta C, where A is what the net computes."""
    source, weight = builder.symbol(node), _required(builder, node, 1)
    if node.get("transA", 0):
        builder.keeps_images(node, moved=True)
        transposed = builder.compute(node, torch.transpose, source, 0, 1, part="transpose")
        assert isinstance(transposed, Symbol)
        source = transposed
    if len(source.shape) != 2 or weight.dim() != 2:
        raise builder.unsupported(node, f"it multiplies tensors of shape {source.shape} and {tuple(weight.shape)}")
    weight = _times(weight if node.get("transB", 0) else weight.t(), float(node.get("alpha", 1.0)))
    addend = builder.fixed(node, 2)
    if addend is not None:
        addend = _times(addend, float(node.get("beta", 1.0)))
    outputs = weight.shape[0]
    per_output = addend is None or addend.numel() == 1 or tuple(addend.shape) in ((outputs,), (1, outputs))
    bias = addend.reshape(-1).expand(outputs).contiguous() if addend is not None and per_output else None
    module = nn.Linear(weight.shape[1], outputs, bias=bias is not None, device=META)
    result: Value = builder.apply(node, module, source, weight=weight, bias=bias)
    if addend is not None and not per_output:
        builder.keeps_axes(node, result, addend)
        result = builder.compute(node, torch.add, result, addend, part="add")
    builder.finish(node, result)


def _times(tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1.0 else factor * tensor


def matrix_product(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, factor = builder.value(node, 0), builder.value(node, 1)
    if isinstance(source, Symbol) and isinstance(factor, Tensor) and factor.dim() == 2 and len(source.shape) > 1:
        module = nn.Linear(factor.shape[0], factor.shape[1], bias=False, device=META)
        builder.finish(node, builder.apply(node, module, source, weight=factor.t()))
        return
    for value in (source, factor):
        rank, symbolic = len(value.shape), isinstance(value, Symbol)
        builder.keeps_images(node, moved=rank < 3 if symbolic else rank > 2 and value.shape[0] != 1)
    builder.keeps_images(node, moved=len(source.shape) > 2 < len(factor.shape) != len(source.shape))
    builder.finish(node, builder.compute(node, torch.matmul, source, factor))


def batch_normalization(builder: OnnxBuilder, node: OnnxNode) -> None:
    source = builder.symbol(node)
    scale, shift, mean, variance = (_required(builder, node, index) for index in range(1, 5))
    if node.get("training_mode", 0) or any(builder.is_used(node, output) for output in range(1, len(node.outputs))):
        raise builder.unsupported(node, "it normalises by the statistics of the batch; export the net in eval mode")
    if not node.get("spatial", 1):
        raise builder.unsupported(node, "it normalises every pixel by itself (spatial = 0)")
    kind = BATCH_NORMS.get(len(source.shape) - 2)
    if kind is None:
        raise builder.unsupported(node, f"it reads a tensor of shape {source.shape}")
    module = kind(scale.numel(), eps=float(node.get("epsilon", 1e-5)), device=META).eval()
    tensors = {"weight": scale, "bias": shift, "running_mean": mean, "running_var": variance}
    builder.finish(node, builder.apply(node, module, source, **tensors, num_batches_tracked=torch.tensor(0)))


def instance_normalization(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, weight, bias = builder.symbol(node), _required(builder, node, 1), _required(builder, node, 2)
    kind = _of_rank(builder, node, INSTANCE_NORMS, source)
    module = kind(weight.numel(), eps=float(node.get("epsilon", 1e-5)), affine=True, device=META)
    builder.finish(node, builder.apply(node, module, source, weight=weight, bias=bias))


def layer_normalization(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, weight, bias = builder.symbol(node), _required(builder, node, 1), builder.fixed(node, 2)
    if any(builder.is_used(node, output) for output in range(1, len(node.outputs))):
        raise builder.unsupported(node, "its mean or its deviation is read too")
    axis = int(node.get("axis", -1)) % len(source.shape)
    builder.keeps_images(node, moved=axis == 0)
    shape = source.shape[axis:]
    module = nn.LayerNorm(shape, eps=float(node.get("epsilon", 1e-5)), bias=bias is not None, device=META)
    tensors = {"weight": weight.expand(shape).contiguous()}
    if bias is not None:
        tensors["bias"] = bias.expand(shape).contiguous()
    builder.finish(node, builder.apply(node, module, source, **tensors))


def group_normalization(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, weight, bias = builder.symbol(node), _required(builder, node, 1), _required(builder, node, 2)
    groups, channels = int(node.get("num_groups", 1)), source.shape[1]
    if weight.numel() == groups != channels:  # before opset 21 there is one factor a group
        weight, bias = (tensor.repeat_interleave(channels // groups) for tensor in (weight, bias))
    module = nn.GroupNorm(groups, channels, eps=float(node.get("epsilon", 1e-5)), device=META)
    builder.finish(node, builder.apply(node, module, source, weight=weight, bias=bias))


def local_response_normalization(builder: OnnxBuilder, node: OnnxNode) -> None:
    size = int(node.get("size", 0))
    if size < 1 or size % 2 == 0:
        raise builder.unsupported(
            node, f"its window of {size} channels has no centre, and programs differ on which channels it holds"
        )
    numbers = (float(node.get("alpha", 1e-4)), float(node.get("beta", 0.75)), float(node.get("bias", 1.0)))
    if not all(0 <= number < math.inf for number in numbers):
        raise builder.unsupported(node, f"its alpha, beta and bias are {numbers}")
    builder.finish(node, builder.apply(node, nn.LocalResponseNorm(size, *numbers), builder.symbol(node)))


def fold(builder: OnnxBuilder, node: OnnxNode, source: Symbol, name: str, number: Tensor, *, factor: bool) -> bool:
    """Takes a factor or an addend per channel into the layer that `source` comes from, if only this node reads it."""
    inner, order = source.permuted or (source, tuple(range(len(source.shape))))
    module = inner.module
    if builder.readers[name] != 1 or not isinstance(module, (*CONVOLUTIONS.values(), *BATCH_NORMS.values(), nn.Linear)):
        return False
    axis = order.index(len(source.shape) - 1 if isinstance(module, nn.Linear) else 1)
    shape = (1,) * (len(source.shape) - number.dim()) + tuple(number.shape)
    if len(shape) != len(source.shape) or any(side != 1 for i, side in enumerate(shape) if i != axis):
        return False
    channels = number.reshape(-1).expand(source.shape[axis])
    if not _change(builder, node, module, channels, factor=factor):
        return False
    builder.finish(node, source)
    return True


def _change(builder: OnnxBuilder, node: OnnxNode, module: Any, channels: Tensor, *, factor: bool) -> bool:
    """Multiplies what a module puts out, or adds to it, by its parameters. False if they would not be finite."""
    weight = module.weight.detach()
    builder.count_work(node, 4 * weight.numel())
    channels = channels.to(weight.dtype)
    bias = None if module.bias is None else module.bias.detach()
    if factor:
        weight = weight * channels.reshape(-1, *(1,) * (weight.dim() - 1))
        bias = None if bias is None else bias * channels
    else:
        bias = channels.clone() if bias is None else bias + channels
    if not all(bool(torch.isfinite(tensor).all()) for tensor in (weight, bias) if tensor is not None):
        return False
    assign_tensors(module, weight=weight, bias=bias)
    return True


def _required(builder: OnnxBuilder, node: OnnxNode, index: int) -> Tensor:
    builder.value(node, index)
    tensor = builder.fixed(node, index)
    assert tensor is not None
    if not tensor.numel():
        raise ValueError(f"its input {index + 1} has the shape {tuple(tensor.shape)}")
    return tensor


def _of_rank(builder: OnnxBuilder, node: OnnxNode, kinds: dict[int, Any], source: Symbol) -> Any:
    kind = kinds.get(len(source.shape) - 2)
    if kind is None:
        raise builder.unsupported(node, f"it reads a tensor of shape {source.shape}")
    return kind


OPERATORS: dict[str, Callable[[OnnxBuilder, OnnxNode], None]] = {
    "BatchNormalization": batch_normalization,
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Gemm": general_product,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": local_response_normalization,
    "LayerNormalization": layer_normalization,
    "MatMul": matrix_product,
}
