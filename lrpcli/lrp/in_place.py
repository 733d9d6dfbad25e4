"""Where a ReLU may write over its input, and where relevance is then known to be zero."""

from collections.abc import Sequence

from lrpcli.lrp.layers.elementwise import Activation, Affine, Rectifier, Sum, is_unchanged
from lrpcli.lrp.layers.linear import LinearOperation
from lrpcli.lrp.layers.selection import Selection
from lrpcli.lrp.operation import Operation
from lrpcli.lrp.rules import AnyRule
from lrpcli.lrp.tracing.graph import Graph


def overwritten(graph: Graph, rules: Sequence[AnyRule] | None) -> dict[int, bool]:
    """Layers whose output only a ReLU reads and may write over, and whether their relevance is zero where that is.

    A rule that needs its output relies on that: it then finds the output as it was wherever relevance is. Without rules
    nothing is kept, and every such output may be written over.
    """
    readers = _readers(graph)
    quiet = _quiet(graph, rules, readers) if rules else [False] * len(graph.layers)
    found: dict[int, bool] = {}
    for index, layer in enumerate(graph.layers):
        if not isinstance(layer.operation, Rectifier):
            continue
        (source,) = layer.inputs
        if readers[source] != [index] or source == graph.output or not _is_fresh(graph.layers[source].operation):
            continue
        if rules and ("inputs" in rules[index].needs or ("output" in rules[source].needs and not quiet[index])):
            continue
        found[source] = quiet[index]
    return found


def _readers(graph: Graph) -> list[list[int]]:
    """The layers that read each layer's values, once for each reading; one that reads only its size does not count."""
    readers: list[list[int]] = [[] for _ in graph.layers]
    for index, layer in enumerate(graph.layers):
        for source in layer.inputs:
            readers[source].append(index)
    return readers


def _quiet(graph: Graph, rules: Sequence[AnyRule], readers: list[list[int]]) -> list[bool]:
    """Per layer: whether no relevance arrives where its output is zero."""
    quiet = [False] * len(graph.layers)
    for index in range(graph.output - 1, 0, -1):
        quiet[index] = all(
            rules[reader].zero_input_gets == "zero"
            or (
                rules[reader].zero_input_gets == "passes"
                and quiet[reader]
                and _keeps_zero(graph.layers[reader].operation)
            )
            for reader in readers[index]
        )
    return quiet


def _keeps_zero(operation: Operation) -> bool:
    """Whether an output is zero where all its inputs are; other layers whose rule passes relevance on do."""
    if isinstance(operation, Selection):
        return not operation.whole
    return not isinstance(operation, Activation) or isinstance(operation, Rectifier) or is_unchanged(operation)


def _is_fresh(operation: Operation) -> bool:
    """Whether the output is always a new tensor of which no other layer's is a view."""
    return isinstance(operation, (LinearOperation, Affine)) or (isinstance(operation, Sum) and len(operation.signs) > 1)
