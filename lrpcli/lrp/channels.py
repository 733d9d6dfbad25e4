"""Which axis of a layer's output holds its channels, as far as the graph says so."""

from lrpcli.lrp.layers.layer_norm import GroupNorm
from lrpcli.lrp.layers.linear import Convolution, FullyConnected
from lrpcli.lrp.layers.normalization import NormalizationOperation
from lrpcli.lrp.layers.pooling import AdaptiveAveragePool, AdaptiveMaxPool, AveragePool, MaxPool
from lrpcli.lrp.layers.products import GatedSum
from lrpcli.lrp.layers.reductions import MaxOverAxes, Mean
from lrpcli.lrp.layers.selection import Selection
from lrpcli.lrp.layers.views import Stack, View
from lrpcli.lrp.operation import Operation
from lrpcli.lrp.tracing.graph import Graph

FIRST, LAST = 0, -1
PLANES = (Convolution, NormalizationOperation, GroupNorm, MaxPool, AdaptiveMaxPool, AveragePool, AdaptiveAveragePool)
"""What has its channels first, (C, h, w), whatever it reads."""
MOVED = (View, Stack, Mean, MaxOverAxes, GatedSum, Selection)
"""What may put the axes into another order, or take one away."""


def channel_axes(graph: Graph) -> list[int | None]:
    """For each layer the axis of its channels in an output (...) of one image, FIRST or LAST; None if not known.

    Convolutions say that they are first, fully connected layers that they are last; what works on each number keeps
    the order of what it reads.
    """
    axes: list[int | None] = [FIRST]
    for layer in graph.layers[1:]:
        axes.append(_axis(layer.operation, {axes[source] for source in layer.operation.receivers(layer.inputs)}))
    return axes


def _axis(operation: Operation, inputs: set[int | None]) -> int | None:
    if isinstance(operation, PLANES):
        return FIRST
    if isinstance(operation, FullyConnected):
        return LAST
    known = inputs - {None}
    return known.pop() if len(known) == 1 and not isinstance(operation, MOVED) else None
