"""Functional convolutions and products with a fixed matrix -> linear operations."""

from typing import Any

import torch
from torch import Tensor, nn

from lrpcli.lrp.layers.call import Call, Place
from lrpcli.lrp.layers.linear import Convolution, FullyConnected
from lrpcli.lrp.layers.views import Pad, View
from lrpcli.lrp.tracing.node import Node, Reference, Translated


def linear(node: Node) -> Translated:
    """functional.linear with a fixed weight."""
    return _fully_connected(node, fixed(node, 1, "weight"), fixed(node, 2, "bias"))


def matrix_product(node: Node) -> Translated:
    """x @ W with a fixed matrix W."""
    weight = fixed(node, 1, "other")
    if weight is None or weight.dim() != 2 or not isinstance(node.arguments[0], Reference):
        raise node.unsupported("Only a product with a fixed matrix behind the signal is known.")
    return _fully_connected(node, weight.t(), None)


def biased_matrix_product(node: Node) -> Translated:
    """torch.addmm: b + x @ W with a fixed matrix W."""
    bias, x, weight = fixed(node, 0, "input"), node.get(1, "mat1"), fixed(node, 2, "mat2")
    if weight is None or not isinstance(x, Reference) or node.keywords.keys() & {"alpha", "beta"}:
        raise node.unsupported("Only a fixed addend plus the signal times a fixed matrix is known.")
    return node.layer(FullyConnected(_linear(weight.t(), bias)), x)


def fixed(node: Node, index: int, keyword: str) -> Tensor | None:
    """An argument that must be a fixed tensor or None."""
    value = node.get(index, keyword)
    if value is not None and not isinstance(value, Tensor):
        raise node.unsupported(f"Its {keyword} must be fixed, and not computed from the input.")
    return value


def _fully_connected(node: Node, weight: Tensor | None, bias: Tensor | None) -> Translated:
    if weight is None or weight.dim() != 2:
        raise node.unsupported("Its weight must be a fixed matrix.")
    return node.layer(FullyConnected(_linear(weight, bias)), node.first())


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    module = nn.Linear(1, 1, bias=False, device="meta")
    module.weight = nn.Parameter(weight, requires_grad=False)
    module.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)  # type: ignore[assignment]
    return module


def convolution(node: Node) -> Translated:
    """functional.conv1d to conv3d and their transposed forms, with fixed weights."""
    dimensions, transposed = int(node.label[-2]), "transpose" in node.label
    weight, bias = fixed(node, 1, "weight"), fixed(node, 2, "bias")
    if weight is None:
        raise node.unsupported("Its weight must be given.")
    stride, padding = node.get(3, "stride", 1), node.get(4, "padding", 0)
    if transposed:
        output_padding, groups = node.get(5, "output_padding", 0), node.get(6, "groups", 1)
        dilation, extra = node.get(7, "dilation", 1), {"output_padding": output_padding}
    else:
        dilation, groups, extra = node.get(5, "dilation", 1), node.get(6, "groups", 1), {}
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, **extra}
    if any(isinstance(value, Reference) for value in settings.values()):
        raise node.unsupported("Its stride, padding and dilation must be fixed.")
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{dimensions}d")
    inputs, outputs = weight.shape[0], weight.shape[1] * groups
    if not transposed:
        inputs, outputs = outputs, inputs
    module = kind(inputs, outputs, tuple(weight.shape[2:]), bias=False, device="meta", **settings)
    module.weight = nn.Parameter(weight, requires_grad=False)
    module.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    return convolved(node, module)


def convolved(node: Node, module: Any) -> Translated:
    """A convolution, behind a layer that pads where its own padding is no zeros or differs on the two sides."""
    x = node.first()
    sizes, zeros = _both_sides(module), module.padding_mode == "zeros"
    before, behind = sizes[::2], sizes[1::2]
    if zeros and before == behind:
        return node.layer(Convolution(module, before[::-1]), x)
    if zeros:
        x = node.insert("padding", Pad(sizes), x)
    else:
        x = node.insert("padding", View(Call(torch.nn.functional.pad, (Place(0), sizes, module.padding_mode), {})), x)
    return node.layer(Convolution(module, (0,) * len(before)), x)


def _both_sides(module: Any) -> tuple[int, ...]:
    """Padding as torch.nn.functional.pad counts it: before and behind the last axis, then the one before it."""
    axes = range(len(module.kernel_size))
    if module.padding == "valid":
        return (0, 0) * len(axes)
    if isinstance(module.padding, str):  # "same"
        totals = [module.dilation[axis] * (module.kernel_size[axis] - 1) for axis in axes]
        return tuple(size for total in reversed(totals) for size in (total // 2, total - total // 2))
    return tuple(size for axis in reversed(axes) for size in (module.padding[axis],) * 2)
