"""Operators that move numbers about, or compute with shapes."""

import math
import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lrpcli.models.onnx.builder import OnnxBuilder, Symbol, Value, axis_of, ints, shape_of
from lrpcli.models.onnx.net import OnnxNode

PADDING = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
SMOOTH = {"linear": {3: "linear", 4: "bilinear", 5: "trilinear"}, "cubic": {4: "bicubic"}}


def constant(builder: OnnxBuilder, node: OnnxNode) -> None:
    for attribute in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        value = node.get(attribute)
        if value is not None:
            builder.finish(node, value if isinstance(value, Tensor) else torch.tensor(value))
            return
    raise builder.unsupported(node, "it is neither a dense tensor nor numbers")


def constant_of_shape(builder: OnnxBuilder, node: OnnxNode) -> None:
    shape, value = builder.fixed(node, 0), node.get("value")
    sizes = () if shape is None else ints(shape.tolist())
    if math.prod(sizes) > 2**28 or min(sizes, default=0) < 0:
        raise builder.unsupported(node, f"it makes a tensor of shape {sizes}")
    # One number that is read again and again takes no memory; layers that need their own copy make it.
    builder.finish(node, (torch.zeros(()) if value is None else value.reshape(())).expand(sizes))


def shape(builder: OnnxBuilder, node: OnnxNode) -> None:
    sizes = shape_of(builder.value(node, 0))
    builder.finish(node, torch.tensor(sizes[slice(node.get("start", 0), node.get("end"))], dtype=torch.int64))


def size(builder: OnnxBuilder, node: OnnxNode) -> None:
    builder.finish(node, torch.tensor(math.prod(shape_of(builder.value(node, 0)))))


def reshape(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, target = builder.value(node, 0), builder.numbers(node, 1, "shape")
    if target is None:
        raise builder.unsupported(node, "its shape is missing")
    before, wanted = shape_of(source), list(ints(target))
    if not node.get("allowzero", 0):
        wanted = [before[axis] if side == 0 and axis < len(before) else side for axis, side in enumerate(wanted)]
    if wanted.count(-1) == 1:
        others = math.prod(side for side in wanted if side != -1)
        wanted[wanted.index(-1)] = math.prod(before) // others if others else 0
    _reshaped(builder, node, source, tuple(wanted))


def _reshaped(builder: OnnxBuilder, node: OnnxNode, source: Value, wanted: tuple[int, ...]) -> None:
    """The same numbers in another shape; of images, each keeps its own."""
    if not isinstance(source, Symbol) or not builder.images:
        builder.finish(node, builder.compute(node, torch.reshape, source, wanted))
        return
    if math.prod(wanted) != math.prod(source.shape) or not wanted or wanted[0] != source.shape[0]:
        builder.keeps_images(node, moved=True)
    if len(wanted) == 2:
        builder.finish(node, builder.compute(node, torch.flatten, source, 1))
        return
    builder.finish(node, builder.compute(node, torch.reshape, source, (-1, *wanted[1:])))


def flatten(builder: OnnxBuilder, node: OnnxNode) -> None:
    source = builder.value(node, 0)
    sides = shape_of(source)
    axis = axis_of(int(node.get("axis", 1)), len(sides))
    _reshaped(builder, node, source, (math.prod(sides[:axis]), math.prod(sides[axis:])))


def transpose(builder: OnnxBuilder, node: OnnxNode) -> None:
    source = builder.value(node, 0)
    rank = len(source.shape)
    order = ints(node.get("perm") or range(rank)[::-1])
    if isinstance(source, Symbol):
        builder.keeps_images(node, moved=order[0] != 0)
        builder.finish(node, builder.permuted(node, source, order))
        return
    builder.finish(node, source.permute(order))


def squeeze(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, given = builder.value(node, 0), builder.numbers(node, 1, "axes")
    sides = shape_of(source)
    axes = {axis_of(axis, len(sides)) for axis in ints(given)} if given else {a for a, s in enumerate(sides) if s == 1}
    if isinstance(source, Symbol):
        builder.keeps_images(node, moved=0 in axes and bool(given))
        axes -= {0} if builder.images else set()
    builder.finish(node, builder.compute(node, torch.squeeze, source, tuple(sorted(axes))))


def unsqueeze(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, given = builder.value(node, 0), builder.numbers(node, 1, "axes")
    rank = len(source.shape) + len(given or ())
    axes = sorted(axis_of(axis, rank) for axis in ints(given or ()))
    if isinstance(source, Symbol):
        builder.keeps_images(node, moved=0 in axes)
    for number, axis in enumerate(axes):
        source = builder.compute(
            node, torch.unsqueeze, source, axis, part="" if number == len(axes) - 1 else f"axis{axis}"
        )
    builder.finish(node, source)


def concat(builder: OnnxBuilder, node: OnnxNode) -> None:
    values = [builder.value(node, index) for index in range(len(node.inputs))]
    axis = axis_of(int(node.get("axis", 0)), len(values[0].shape))
    if any(isinstance(value, Symbol) for value in values):
        builder.keeps_images(node, moved=axis == 0)
    builder.finish(node, values[0] if len(values) == 1 else builder.compute(node, torch.cat, values, axis))


def split(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, sizes = builder.value(node, 0), builder.numbers(node, 1, "split")
    axis = axis_of(int(node.get("axis", 0)), len(source.shape))
    if isinstance(source, Symbol):
        builder.keeps_images(node, moved=axis == 0)
    count = int(node.get("num_outputs", len(node.outputs)))
    whole = source.shape[axis]
    part = -(-whole // count)
    lengths = ints(sizes) if sizes else tuple(min(part, whole - start * part) for start in range(count))
    start = 0
    for index, length in enumerate(lengths):
        builder.finish(
            node, builder.compute(node, torch.narrow, source, axis, start, length, part=f"part{index}"), index
        )
        start += length


def slice_(builder: OnnxBuilder, node: OnnxNode) -> None:
    source = builder.value(node, 0)
    rank = len(source.shape)
    starts, ends = builder.numbers(node, 1, "starts"), builder.numbers(node, 2, "ends")
    if starts is None or ends is None:
        raise builder.unsupported(node, "its starts or ends are missing")
    axes = ints(builder.numbers(node, 3, "axes") or range(len(starts)))
    steps = ints(builder.numbers(node, 4, "steps") or (1,) * len(starts))
    result, places = source, [slice(None)] * rank
    for axis, start, end, step in zip(axes, ints(starts), ints(ends), steps, strict=True):
        axis = axis_of(axis, rank)
        first, last, stride = slice(start, max(end, -(2**31)), step).indices(source.shape[axis])
        if step < 0:  # torch has no steps backwards: the axis is turned round first
            length = source.shape[axis]
            result = builder.compute(node, torch.flip, result, (axis,), part=f"flip{axis}")
            first, last, stride = length - 1 - first, length - 1 - last, -step
        places[axis] = slice(first, last, stride)
        if isinstance(source, Symbol):
            builder.keeps_images(node, moved=axis == 0 and (first, last, stride) != (0, source.shape[0], 1))
    builder.finish(node, builder.compute(node, operator.getitem, result, tuple(places)))


def gather(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, indices = builder.value(node, 0), builder.fixed(node, 1)
    axis = axis_of(int(node.get("axis", 0)), len(source.shape))
    if indices is None:
        raise builder.unsupported(node, "its indices are missing")
    indices = torch.where(indices < 0, indices + source.shape[axis], indices)
    if isinstance(source, Symbol):
        builder.keeps_images(node, moved=axis == 0)
    if indices.dim() == 0:
        builder.finish(node, builder.compute(node, torch.select, source, axis, int(indices)))
        return
    picked = builder.compute(node, torch.index_select, source, axis, indices.reshape(-1))
    if indices.dim() > 1:
        sides = shape_of(source)
        wanted = (*sides[:axis], *indices.shape, *sides[axis + 1 :])
        picked = builder.compute(node, torch.reshape, picked, wanted, part="reshape")
    builder.finish(node, picked)


def expand(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, target = builder.value(node, 0), builder.numbers(node, 1, "shape")
    wanted = torch.broadcast_shapes(shape_of(source), ints(target or ()))
    if isinstance(source, Symbol):
        builder.keeps_images(node, moved=len(wanted) != len(source.shape) or wanted[0] != source.shape[0])
        wanted = (-1, *wanted[1:]) if builder.images else wanted
    builder.finish(node, builder.compute(node, torch.Tensor.expand, source, wanted))


def tile(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, times = builder.value(node, 0), ints(builder.numbers(node, 1, "repeats") or ())
    if isinstance(source, Symbol):
        builder.keeps_images(node, moved=times[0] != 1)
    builder.finish(node, builder.compute(node, torch.tile, source, times))


def pad(builder: OnnxBuilder, node: OnnxNode) -> None:
    source = builder.value(node, 0)
    rank = len(source.shape)
    pads = ints(builder.numbers(node, 1, "pads") or node.get("paddings") or ())
    axes = [axis_of(axis, rank) for axis in ints(builder.numbers(node, 3, "axes") or range(rank))]
    before, behind = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        before[axis], behind[axis] = pads[place], pads[place + len(axes)]
    if isinstance(source, Symbol):
        builder.keeps_images(node, moved=bool(before[0] or behind[0]))
    first = next((axis for axis in range(rank) if before[axis] or behind[axis]), rank)
    sides = [side for axis in reversed(range(first, rank)) for side in (before[axis], behind[axis])]
    if not sides:
        builder.finish(node, source)
        return
    mode = PADDING.get(str(node.get("mode", "constant")))
    if mode is None:
        raise builder.unsupported(node, f"its mode {node.get('mode')!r} is not known")
    if mode != "constant":
        sides += [0] * (2 * (rank - 2) - len(sides))  # torch wants all axes of the image
        builder.finish(node, builder.compute(node, F.pad, source, tuple(sides), mode))
        return
    value = builder.fixed(node, 2)
    number = float(node.get("value", 0.0)) if value is None else float(value)
    builder.finish(node, builder.compute(node, F.pad, source, tuple(sides), "constant", number))


def depth_to_space(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, block = builder.symbol(node), int(node.get("blocksize", 1))
    if node.get("mode", "DCR") == "CRD":
        builder.finish(node, builder.compute(node, F.pixel_shuffle, source, block))
        return
    _, channels, height, width = source.shape
    apart = (-1, block, block, channels // block**2, height, width)
    whole = (-1, channels // block**2, height * block, width * block)
    _through(builder, node, source, apart, (0, 3, 4, 1, 5, 2), whole)


def space_to_depth(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, block = builder.symbol(node), int(node.get("blocksize", 1))
    _, channels, height, width = source.shape
    apart = (-1, channels, height // block, block, width // block, block)
    whole = (-1, channels * block**2, height // block, width // block)
    order = (0, 1, 3, 5, 2, 4) if node.get("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    _through(builder, node, source, apart, order, whole)


def _through(
    builder: OnnxBuilder,
    node: OnnxNode,
    source: Symbol,
    apart: tuple[int, ...],
    order: tuple[int, ...],
    whole: tuple[int, ...],
) -> None:
    parts = builder.compute(node, torch.reshape, source, apart, part="apart")
    moved = builder.compute(node, torch.permute, parts, order, part="permute")
    builder.finish(node, builder.compute(node, torch.reshape, moved, whole))


def resize(builder: OnnxBuilder, node: OnnxNode) -> None:
    """Upsampling that torch does in the same way; all else is refused by name."""
    source = builder.symbol(node)
    rank, upsample = len(source.shape), node.operator == "Upsample"
    scales = builder.numbers(node, 1 if upsample or builder.net.opset < 11 else 2, "scales")
    sizes = None if upsample else builder.numbers(node, 3, "sizes")
    axes = [axis_of(axis, rank) for axis in ints(node.get("axes") or range(rank))]
    if len(sizes or scales or ()) != len(axes) or node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise builder.unsupported(node, "its new size is not said for every axis")
    if sizes:
        sizes = [sizes[axes.index(axis)] if axis in axes else side for axis, side in enumerate(source.shape)]
        factors = [n / s for n, s in zip(sizes, source.shape, strict=True)]
    else:
        factors = [float((scales or ())[axes.index(axis)]) if axis in axes else 1.0 for axis in range(rank)]
    if factors[:2] != [1.0, 1.0]:
        raise builder.unsupported(node, "it resizes more than the axes of the image")
    wanted = (
        tuple(int(n) for n in sizes[2:])
        if sizes
        else tuple(math.floor(side * factor) for side, factor in zip(source.shape[2:], factors[2:], strict=True))
    )
    mode = str(node.get("mode", "nearest"))
    place = (
        "asymmetric"
        if upsample or builder.net.opset < 11
        else str(node.get("coordinate_transformation_mode", "half_pixel"))
    )
    if mode == "nearest":
        _repeated(builder, node, source, wanted, place)
        return
    smooth = SMOOTH.get(mode, {}).get(rank)
    exact = all(f == w / s for f, w, s in zip(factors[2:], wanted, source.shape[2:], strict=True))
    cubic = mode != "cubic" or node.get("cubic_coeff_a", -0.75) == -0.75
    half = place in ("half_pixel", "pytorch_half_pixel") and min(wanted) > 1
    if not smooth or not exact or not cubic or node.get("antialias") or node.get("exclude_outside"):
        raise builder.unsupported(node, f"its way of resizing ({mode}, {place}) is not known")
    if not half and place != "align_corners":
        raise builder.unsupported(node, f"it places pixels by {place!r}")
    builder.finish(node, builder.compute(node, F.interpolate, source, wanted, mode=smooth, align_corners=not half))


def _repeated(builder: OnnxBuilder, node: OnnxNode, source: Symbol, wanted: tuple[int, ...], place: str) -> None:
    """Nearest neighbours where every pixel is repeated as often as every other, which all ways of counting agree on."""
    whole = all(target % side == 0 for target, side in zip(wanted, source.shape[2:], strict=True))
    rounding = str(node.get("nearest_mode", "floor" if node.operator == "Upsample" else "round_prefer_floor"))
    asymmetric = place == "asymmetric" and (rounding == "floor" or builder.net.opset < 11)
    half = place in ("half_pixel", "pytorch_half_pixel") and rounding in ("round_prefer_floor", "round_prefer_ceil")
    if not whole or not (asymmetric or half):
        raise builder.unsupported(node, f"its nearest neighbours ({place}, {rounding}) are not known")
    builder.finish(node, builder.compute(node, F.interpolate, source, wanted, mode="nearest"))


def range_(builder: OnnxBuilder, node: OnnxNode) -> None:
    bounds = [builder.numbers(node, index, "") for index in range(3)]
    if not all(bounds):
        raise builder.unsupported(node, "one of its bounds is missing")
    first, last, step = (bound[0] for bound in bounds if bound)
    builder.finish(node, torch.arange(first, last, step))


OPERATORS: dict[str, Callable[[OnnxBuilder, OnnxNode], None]] = {
    "Concat": concat,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Pad": pad,
    "Range": range_,
    "Reshape": reshape,
    "Resize": resize,
    "Shape": shape,
    "Size": size,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Upsample": resize,
}
