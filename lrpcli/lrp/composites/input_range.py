"""The range of pixels, carried through the preprocessing inside a model to a layer that reads its result."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lrpcli.errors import ModelError
from lrpcli.lrp.layers.elementwise import Affine, is_unchanged
from lrpcli.lrp.layers.linear import Convolution, LinearOperation
from lrpcli.lrp.propagate import Plan, forward
from lrpcli.lrp.tracing.graph import Graph, Layer, alone, leading_to

Range = tuple[Tensor, Tensor]
"""Smallest and largest value, broadcastable to a layer's input (1, C, H, W)."""
SIDES = ((61, 67, 71), (83, 97, 101))
"""Sides of the images that are tried where the range is the same for every pixel, as many as they have."""
CHANNELS = (3, 1)


def input_range(layer: Layer, graph: Graph, pixel_range: Range | None) -> Range | None:
    """The range of what a layer reads, from that of the model's input; None where it reads more than preprocessing.

    Also None where it depends on the size of the images, as behind a flatten or a border.
    """
    if pixel_range is None or not layer.inputs or layer.inputs[0] not in graph.preprocessing:
        return None
    path = leading_to(graph.layers, layer.inputs[0])
    if all(is_unchanged(graph.layers[index].operation) for index in path):
        return pixel_range
    if not isinstance(layer.operation, LinearOperation):
        return None
    dimensions = _dimensions(layer.operation, pixel_range)
    if dimensions < 0:
        return None
    plan = Plan(Graph(alone(graph.layers, path), len(path) - 1))
    found: list[Range] = []
    for sides in _sides(graph, path, pixel_range, dimensions):
        bounds = _carried(layer.operation, plan, pixel_range, sides)
        if bounds is None:
            return None
        found.append(bounds)
    low, high = found[0]
    return (low, high) if all(_equal(low, first) and _equal(high, second) for first, second in found[1:]) else None


def _dimensions(operation: LinearOperation, pixel_range: Range) -> int:
    """Axes of the model's input behind batch and channels: those of the range, or of a convolution if it has more.

    Negative where neither tells.
    """
    own = operation.weight.dim() - 2 if isinstance(operation, Convolution) else -1
    return max(own, pixel_range[0].dim() - 2)


def _sides(graph: Graph, path: list[int], pixel_range: Range, count: int) -> tuple[tuple[int, ...], ...]:
    """Heights and widths to try: those of mean images, inside or outside the model, or any two."""
    tensors = [*pixel_range]
    for index in path:
        operation = graph.layers[index].operation
        if isinstance(operation, Affine) and not operation.per_channel:
            tensors += [value for value in (operation.scale, operation.shift) if isinstance(value, Tensor)]
    shapes = [tuple(tensor.shape[tensor.dim() - count :]) for tensor in tensors if tensor.dim() >= count > 0]
    fixed = [sides for sides in shapes if min(sides) > 1]
    return (fixed[0],) if fixed else tuple(sides[:count] for sides in SIDES)


def _carried(operation: LinearOperation, plan: Plan, pixel_range: Range, sides: tuple[int, ...]) -> Range | None:
    """Both bounds at the end of the path for images of one size, as small as they broadcast."""
    for shape in _shapes(operation, pixel_range, sides):
        try:
            ends = [forward(plan, bound.to(operation.weight).expand(shape)).output for bound in pixel_range]
        except (ModelError, RuntimeError):  # another number of channels, or of pixels
            continue
        if ends[0].shape[_channel_axis(operation)] == _channels(operation):
            low, high = torch.minimum(*ends), torch.maximum(*ends)
            return _shrink(low, high, _channel_axis(operation) % low.dim())
    return None


def _shapes(operation: LinearOperation, pixel_range: Range, sides: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    low = pixel_range[0]
    sizes = (*(1,) * (len(sides) + 2 - low.dim()), *low.shape)
    for channels in dict.fromkeys((*CHANNELS, _channels(operation))):
        usual = (1, channels, *sides)
        yield tuple(size if size > 1 else other for size, other in zip(sizes, usual, strict=True))


def _channel_axis(operation: LinearOperation) -> int:
    return 1 if isinstance(operation, Convolution) else -1


def _channels(operation: LinearOperation) -> int:
    return operation.channels if isinstance(operation, Convolution) else operation.weight.shape[1]


def _shrink(low: Tensor, high: Tensor, channels: int) -> Range:
    """Without the axes along which both are constant, that of the channels left as it is."""
    for axis in {*range(1, low.dim())} - {channels}:
        first_low, first_high = low.narrow(axis, 0, 1), high.narrow(axis, 0, 1)
        if torch.equal(first_low.expand_as(low), low) and torch.equal(first_high.expand_as(high), high):
            low, high = first_low, first_high
    return low.clone(), high.clone()


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)
