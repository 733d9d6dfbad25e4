"""Functional pooling, upsampling and padding -> operations."""

from collections.abc import Callable
from typing import Any

from torch._ops import OpOverload
from torch.nn import functional

from lrpcli.lrp.layers.call import Call, Place
from lrpcli.lrp.layers.pooling import AdaptiveAveragePool, AdaptiveMaxPool, AveragePool, MaxPool
from lrpcli.lrp.layers.reductions import AnyMaxPool, LinearMap, PoolByIndex
from lrpcli.lrp.layers.views import Pad, View
from lrpcli.lrp.operation import Operation
from lrpcli.lrp.tracing.node import Node, Reference, Translated

NEAREST = ("nearest", "nearest-exact")
UPSAMPLING = {
    **{f"upsample_nearest{n}d": "nearest" for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": "nearest-exact" for n in (1, 2, 3)},
    "upsample_linear1d": "linear", "upsample_trilinear3d": "trilinear",
    "upsample_bilinear2d": "bilinear", "_upsample_bilinear2d_aa": "bilinear",
    "upsample_bicubic2d": "bicubic", "_upsample_bicubic2d_aa": "bicubic",
}  # fmt: skip
"""Operators that resize, and their modes."""
INDEXED = "_with_indices"
"""How torch.fx ends the name of a pooling that returns indices; adaptive operators always do."""


def max_pool(node: Node) -> Translated:
    """Max pooling; two-dimensional with a fixed window, or any other."""
    dimensions, kernel = _dimensions(node), node.get(1, "kernel_size")
    stride, padding = node.get(2, "stride") or kernel, node.get(3, "padding", 0)
    dilation, ceil = node.get(4, "dilation", 1), bool(node.get(5, "ceil_mode", False))
    if dimensions == 2 and not node.scalars():
        return _with_values(node, MaxPool(pair(kernel), pair(stride), pair(padding), pair(dilation), ceil))
    window = (Place(0), *node.placed((kernel, stride, padding)))
    return _with_values(node, indexed_max_pool(dimensions, window, node.placed(dilation), ceil))


def indexed_max_pool(dimensions: int, window: tuple[Any, ...], dilation: Any, ceil: bool) -> PoolByIndex:
    """Max pooling in so many dimensions; `window` holds the Place of the input, kernel, stride and padding."""
    maxima = Call(getattr(functional, f"max_pool{dimensions}d{INDEXED}"), (*window, dilation, ceil), {})
    average = Call(getattr(functional, f"avg_pool{dimensions}d"), (*window, ceil, False), {})
    dense = dilation in (1, (1,) * dimensions, [1] * dimensions)
    return PoolByIndex(maxima, average if dense else None)


def adaptive_max_pool(node: Node) -> Translated:
    """Max pooling to a fixed size."""
    dimensions, size = _dimensions(node), node.get(1, "output_size")
    if dimensions == 2 and not node.scalars():
        return _with_values(node, AdaptiveMaxPool(size))
    return _with_values(node, indexed_adaptive_max_pool(dimensions, node.placed(size)))


def indexed_adaptive_max_pool(dimensions: int, size: Any) -> PoolByIndex:
    """Max pooling to a fixed size in so many dimensions."""
    maxima = Call(getattr(functional, f"adaptive_max_pool{dimensions}d{INDEXED}"), (Place(0), size), {})
    return PoolByIndex(maxima, Call(getattr(functional, f"adaptive_avg_pool{dimensions}d"), (Place(0), size), {}))


def _with_values(node: Node, pool: AnyMaxPool) -> Translated:
    operator = isinstance(node.traced.target, OpOverload)
    pool.returns_indices = node.label.endswith(INDEXED) or (operator and node.label.startswith("adaptive"))
    return node.layer(pool, node.first())


def _dimensions(node: Node) -> int:
    """2 for max_pool2d."""
    return int(node.label.removesuffix(INDEXED)[-2])


def average_pool(node: Node) -> Translated:
    """Average pooling; two-dimensional with a fixed window, or any other."""
    kernel, divisor = node.get(1, "kernel_size"), node.get(6, "divisor_override")
    if _dimensions(node) != 2 or node.scalars():
        return node.layer(LinearMap(node.replay(), signed=(divisor or 1) < 0), node.first())
    geometry = pair(kernel), pair(node.get(2, "stride") or kernel), pair(node.get(3, "padding", 0))
    ceil, count_padding = bool(node.get(4, "ceil_mode", False)), bool(node.get(5, "count_include_pad", True))
    return node.layer(AveragePool(*geometry, ceil, count_padding, divisor))


def adaptive_average_pool(node: Node) -> Translated:
    """Average pooling to a fixed size."""
    fixed = _dimensions(node) == 2 and not node.scalars()
    return node.layer(
        AdaptiveAveragePool(node.get(1, "output_size")) if fixed else LinearMap(node.replay()), node.first()
    )


def interpolate(node: Node) -> Translated:
    """Resizing: to the nearest pixel a view, else a weighted sum."""
    first = node.first()
    default = "bilinear" if node.label == "upsample_bilinear" else "nearest"
    return node.layer(resized(node.replay(), node.get(3, "mode", default)), first)


def upsample(node: Node) -> Translated:
    """The operators of torch.export that resize: `interpolate` in one mode and number of axes each."""
    return node.layer(resized(node.replay(), UPSAMPLING[node.label]), node.first())


def resized(function: Callable[..., Any], mode: str) -> Operation:
    """The operation of a function that resizes in one of torch's modes; bicubic weights may be negative."""
    return View(function) if mode in NEAREST else LinearMap(function, signed=mode == "bicubic")


def pad(node: Node) -> Translated:
    """Padding with a number, or with what lies inside the image."""
    mode, value, sizes = node.get(2, "mode", "constant"), node.get(3, "value"), node.get(1, "pad")
    if isinstance(value, Reference):
        raise node.unsupported("It pads with what it reads off a tensor; the number must be fixed.")
    if mode != "constant":
        return node.layer(View(node.replay()), node.first())
    if node.scalars():
        return node.layer(Pad(Call(tuple, (node.placed(sizes),), {}), float(value or 0)), node.first())
    return node.layer(Pad(tuple(sizes), float(value or 0)))


def pair(value: Any) -> tuple[int, int]:
    """A size for height and width, given once or twice."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))
