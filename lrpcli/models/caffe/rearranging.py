"""Caffe layers that join, cut and rearrange blobs."""

import math
import operator
from typing import Any

import torch

from lrpcli.models.caffe.builder import CaffeBuilder
from lrpcli.models.caffe.fields import decimal
from lrpcli.models.caffe.network import SourceLayer


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


def _axis(builder: CaffeBuilder, layer: SourceLayer, values: Any, old: str, count: int) -> int:
    """Axis to join or cut along, counted with the batch axis."""
    axis = int(getattr(values, old) if values.HasField(old) else values.axis)
    axis = axis + count + 1 if axis < 0 else axis
    if not 1 <= axis <= count:
        raise builder.unsupported(layer, f"its axis is {axis}")
    return axis
