"""Operators that move numbers about, or compute with shapes."""

import math
import operator
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lrpcli.models.onnx.builder import OnnxBuilder
from lrpcli.models.onnx.net import OnnxNode
from lrpcli.models.onnx.values import Symbol, Value, axis_of, ints, shape_of

PADDING = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def constant(builder: OnnxBuilder, node: OnnxNode) -> None:
    for attribute in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        value = node.get(attribute)
        if value is not None:
            builder.finish(node, value if isinstance(value, Tensor) else torch.tensor(value))
            return
    raise builder.unsupported(node, "it is neither a dense tensor nor numbers")


def constant_of_shape(builder: OnnxBuilder, node: OnnxNode) -> None:
    sizes, value = ints(builder.numbers(node, 0, "") or ()), node.get("value")
    if min(sizes, default=0) < 0:
        raise builder.unsupported(node, f"it makes a tensor of shape {sizes}")
    builder.take_fixed(node, sizes)
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
    if math.prod(wanted) != math.prod(source.shape):
        raise ValueError(f"numbers of the shape {source.shape} cannot have the shape {wanted}")
    if len(wanted) == 1 == source.shape[0]:  # what torch.export makes of strides: a Gather follows
        flat = builder.compute(node, torch.flatten, source, 1)
        assert isinstance(flat, Symbol)
        builder.finish(node, replace(flat, flattened=True))
        return
    if not wanted or wanted[0] != source.shape[0]:
        builder.keeps_images(node, moved=True)
    if len(wanted) == 2:
        builder.finish(node, builder.compute(node, torch.flatten, source, 1))
        return
    for function, longer, shorter in ((torch.unsqueeze, wanted, source.shape), (torch.squeeze, source.shape, wanted)):
        axis = _inserted(longer, shorter)
        if axis is not None:  # which leaves open how large the image is
            builder.finish(node, builder.compute(node, function, source, axis))
            return
    builder.finish(node, builder.compute(node, torch.reshape, source, builder.kept(source, wanted)))


def _inserted(longer: tuple[int, ...], shorter: tuple[int, ...]) -> int | None:
    """The axis of one place that the longer shape has more, behind the first; None if they differ otherwise."""
    places = (axis for axis in range(1, len(longer)) if (*longer[:axis], 1, *longer[axis + 1 :]) == longer)
    return next((axis for axis in places if (*longer[:axis], *longer[axis + 1 :]) == shorter), None)


def flatten(builder: OnnxBuilder, node: OnnxNode) -> None:
    source = builder.value(node, 0)
    sides = shape_of(source)
    axis = axis_of(int(node.get("axis", 1)), len(sides))
    _reshaped(builder, node, source, (math.prod(sides[:axis]), math.prod(sides[axis:])))


def transpose(builder: OnnxBuilder, node: OnnxNode) -> None:
    source = builder.value(node, 0)
    rank = len(source.shape)
    order = ints(node.get("perm") or range(rank)[::-1])
    if sorted(order) != list(range(rank)):
        raise ValueError(f"its order {order} is not one of {rank} axes")
    if isinstance(source, Symbol):
        builder.keeps_images(node, moved=order[0] != 0)
        builder.finish(node, builder.permuted(node, source, order))
        return
    builder.finish(node, source.permute(order))


def squeeze(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, given = builder.value(node, 0), builder.numbers(node, 1, "axes")
    sides = shape_of(source)
    axes = {axis_of(axis, len(sides)) for axis in ints(given)} if given else {a for a, s in enumerate(sides) if s == 1}
    if any(sides[axis] != 1 for axis in axes):
        raise ValueError(f"not all of its axes {sorted(axes)} have one place in the shape {sides}")
    if isinstance(source, Symbol):
        builder.keeps_images(node, moved=0 in axes and (bool(given) or not builder.open_batch))
        axes -= {0} if builder.images else set()
    builder.finish(node, builder.compute(node, torch.squeeze, source, tuple(sorted(axes))) if axes else source)


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
    symbolic = [isinstance(value, Symbol) for value in values]
    builder.keeps_images(node, moved=any(symbolic) and (axis == 0 or not all(symbolic)))
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
    if sum(lengths) != whole or min(lengths) < 0:
        raise ValueError(f"parts of {lengths} do not make up the {whole} along axis {axis}")
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
    if len({axis_of(axis, rank) for axis in axes}) != len(axes):
        raise ValueError(f"its axes {axes} are not different ones")
    result, places = source, [slice(None)] * rank
    for given, start, end, step in zip(axes, ints(starts), ints(ends), steps, strict=True):
        axis = axis_of(given, rank)
        first, last, stride = slice(start, max(end, -(2**31)), step).indices(source.shape[axis])
        if step < 0:  # torch has no steps backwards: the axis is turned round first
            length = source.shape[axis]
            result = builder.compute(node, torch.flip, result, (axis,), part=f"flip{axis}")
            first, last, stride = length - 1 - first, length - 1 - last, -step
        places[axis] = slice(first, last, stride)
        if isinstance(source, Symbol) and axis == 0 and builder.images:
            builder.keeps_images(node, moved=(first, last, stride) != (0, source.shape[0], 1))
            places[axis] = slice(None)  # however many images there are
    builder.finish(node, builder.compute(node, operator.getitem, result, tuple(places)))


def gather(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, indices = builder.value(node, 0), builder.fixed(node, 1)
    if indices is None:
        raise builder.unsupported(node, "its indices are missing")
    if isinstance(source, Symbol) and source.flattened:
        _regathered(builder, node, source, indices)
        return
    axis = axis_of(int(node.get("axis", 0)), len(source.shape))
    builder.count_work(node, 4 * indices.numel())
    indices = torch.where(indices < 0, indices + source.shape[axis], indices)
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < source.shape[axis]:
        raise ValueError(f"its indices leave the {source.shape[axis]} along axis {axis}")
    if isinstance(source, Symbol):
        builder.keeps_images(node, moved=axis == 0)
    if indices.dim() == 0:
        builder.finish(node, builder.compute(node, torch.select, source, axis, int(indices)))
        return
    picked = builder.compute(node, torch.index_select, source, axis, indices.reshape(-1))
    if indices.dim() > 1:
        sides = shape_of(source)
        wanted = builder.kept(source, (*sides[:axis], *indices.shape, *sides[axis + 1 :]))
        picked = builder.compute(node, torch.reshape, picked, wanted, part="reshape")
    builder.finish(node, picked)


def _regathered(builder: OnnxBuilder, node: OnnxNode, source: Symbol, indices: Tensor) -> None:
    """All numbers of one image, once more in order, in a shape that starts with a batch of one."""
    same = torch.arange(source.shape[1])
    if indices.shape[:1] != (1,) or indices.dim() < 2 or not torch.equal(indices.reshape(-1), same):
        builder.keeps_images(node, moved=True)
    result = builder.compute(node, torch.reshape, source, (-1, *indices.shape[1:]))
    builder.finish(node, result)


def expand(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, target = builder.value(node, 0), builder.numbers(node, 1, "shape")
    wanted: tuple[int, ...] = torch.broadcast_shapes(shape_of(source), ints(target or ()))  # type: ignore[no-untyped-call]
    if isinstance(source, Symbol):
        builder.keeps_images(node, moved=len(wanted) != len(source.shape) or wanted[0] != source.shape[0])
        wanted = builder.kept(source, wanted)
    builder.finish(node, builder.compute(node, torch.Tensor.expand, source, wanted))


def tile(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, times = builder.value(node, 0), ints(builder.numbers(node, 1, "repeats") or ())
    if len(times) != len(source.shape):
        raise ValueError(f"it has {len(times)} repeats for {len(source.shape)} axes")
    if isinstance(source, Symbol):
        builder.keeps_images(node, moved=times[:1] != (1,))
    builder.finish(node, builder.compute(node, torch.tile, source, times))


def pad(builder: OnnxBuilder, node: OnnxNode) -> None:
    source = builder.value(node, 0)
    rank = len(source.shape)
    pads = ints(builder.numbers(node, 1, "pads") or node.get("paddings") or ())
    axes = [axis_of(axis, rank) for axis in ints(builder.numbers(node, 3, "axes") or range(rank))]
    if len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise ValueError(f"it has {len(pads)} pads for the axes {axes}")
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
    number = builder.number(node, 2, float(node.get("value", 0.0)))
    builder.finish(node, builder.compute(node, F.pad, source, tuple(sides), "constant", number))


def range_(builder: OnnxBuilder, node: OnnxNode) -> None:
    bounds = [builder.numbers(node, index, "") for index in range(3)]
    if not all(bounds):
        raise builder.unsupported(node, "one of its bounds is missing")
    first, last, step = (bound[0] for bound in bounds if bound)
    builder.take_fixed(node, (max(math.ceil((last - first) / step), 0),))
    builder.finish(node, torch.arange(first, last, step))


OPERATORS: dict[str, Callable[[OnnxBuilder, OnnxNode], None]] = {
    "Concat": concat,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Pad": pad,
    "Range": range_,
    "Reshape": reshape,
    "Shape": shape,
    "Size": size,
    "Slice": slice_,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
