"""The only loop: a forward pass that remembers what the rules need, a backward pass that redistributes and frees."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lrpcli.errors import ModelError
from lrpcli.lrp.batch_limit import is_full, is_lost
from lrpcli.lrp.in_place import overwritten
from lrpcli.lrp.layers.elementwise import Rectifier
from lrpcli.lrp.operation import Operation, Step
from lrpcli.lrp.rules import AnyRule
from lrpcli.lrp.tracing.graph import Graph, Layer

AnyStep = Step[Operation]


class Plan:
    """What a pass over a graph does at each layer: found once, as it depends on the graph and the rules only.

    Without rules nothing is remembered, for the logits are all that is wanted.
    """

    def __init__(self, graph: Graph, rules: Sequence[AnyRule] | None = None) -> None:
        self.graph = graph
        self.rules = list(rules or ())
        """One per layer."""
        self.overwritten = overwritten(graph, rules)
        """Layers whose output the ReLU behind them writes over; see in_place."""
        self.freed = _last_reads(graph)
        """Per layer: those whose values no later layer reads."""


def _last_reads(graph: Graph) -> list[list[int]]:
    last = {source: index for index, layer in enumerate(graph.layers) for source in layer.sources}
    freed: list[list[int]] = [[] for _ in graph.layers]
    for source, index in last.items():
        if source != graph.output:
            freed[index].append(source)
    return freed


@dataclass
class Trace:
    """One forward pass: the logits as the model gives them, and a step for every layer."""

    output: Tensor
    steps: list[AnyStep | None]


def forward(plan: Plan, x: Tensor) -> Trace:
    """Runs the graph on `x` (N, C, H, W), keeps per layer what its rule needs, and frees the rest at its last use.

    ModelError names a layer that its input does not fit, or the shape that the graph was traced for.
    """
    graph, written_over = plan.graph, plan.overwritten
    graph.require_shape(x.shape)
    values: dict[int, Any] = {0: x}
    steps: list[AnyStep | None] = [None]
    for index, layer in enumerate(graph.layers[1:], 1):
        inputs = tuple(values[i] for i in layer.inputs)
        scalars = tuple(values[i] for i in layer.scalars)
        operation = layer.operation.settled(*scalars)
        if isinstance(operation, Rectifier) and layer.inputs[0] in written_over:
            output, memo = operation.overwrite(inputs[0]), None
        else:
            output, memo = _run(layer, operation, inputs, scalars)
        values[index] = output
        if plan.rules:
            rectified = written_over.get(index, False)
            steps.append(_step(layer, operation, plan.rules[index], inputs, scalars, output, memo, rectified))
        else:
            steps.append(None)
        for source in plan.freed[index]:
            del values[source]
    return Trace(values[graph.output], steps)


def _run(
    layer: Layer, operation: Operation, inputs: tuple[Any, ...], scalars: tuple[Any, ...]
) -> tuple[Any, Tensor | None]:
    try:
        return operation.run(*inputs, *scalars)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if is_lost(error) or is_full(error):
            raise
        shapes = ", ".join(str(tuple(getattr(value, "shape", ()))) for value in inputs)
        raise ModelError(
            f"Layer {layer.name!r} ({layer.type}) cannot take an input of shape {shapes}: {error}"
        ) from error


def _step(
    layer: Layer,
    operation: Operation,
    rule: AnyRule,
    inputs: tuple[Any, ...],
    scalars: tuple[Any, ...],
    output: Any,
    memo: Tensor | None,
    rectified: bool,
) -> AnyStep | None:
    if layer.kind == "scalar":
        return None
    return Step(
        operation,
        tuple(tensor.shape for tensor in inputs),
        inputs if "inputs" in rule.needs else (),
        output if "output" in rule.needs else None,
        rule.remember(operation, output, memo),
        scalars,
        layer.nonnegative,
        rectified,
    )


@dataclass
class Redistributed:
    """Relevance of the input (N, C, H, W), per layer at its output if kept, and the total per layer (N,).

    `absorbed`, of layers that are kept: what of its total a layer did not hand on, (N,).
    """

    relevance: Tensor
    layers: dict[str, Tensor]
    totals: dict[str, Tensor]
    absorbed: dict[str, Tensor] = field(default_factory=dict)

    def minus(self, other: "Redistributed", scale: Tensor) -> "Redistributed":
        """This one less `scale` (N,) times another, at the input and at every layer that both reach."""
        return Redistributed(
            _difference(self.relevance, other.relevance, scale),
            {name: _difference(value, other.layers[name], scale) for name, value in self.layers.items()},
            {name: _difference(value, other.totals[name], scale) for name, value in self.totals.items()},
            {name: _difference(value, other.absorbed[name], scale) for name, value in self.absorbed.items()},
        )


def _difference(value: Tensor, other: Tensor, scale: Tensor) -> Tensor:
    """value - scale * other, for values (N, ...) and a scale (N,)."""
    return value - scale.view(-1, *[1] * (value.dim() - 1)) * other


def backward(plan: Plan, trace: Trace, start: Tensor, *, keep_layers: bool = False, free: bool = True) -> Redistributed:
    """Redistributes `start` (the shape of the output) to the input; `free` lets go of each step once it is used.

    A layer read by several others gets the sum of what they send, so branches and modules used twice are right.
    """
    graph = plan.graph
    arrived: dict[int, Tensor] = {graph.output: start}
    result = Redistributed(start, {}, {})
    for index in range(graph.output, 0, -1):
        relevance, step = arrived.pop(index, None), trace.steps[index]
        if free:
            trace.steps[index] = None
        if relevance is None or step is None:
            continue
        layer = graph.layers[index]
        _record(result, layer.names, relevance, keep_layers)
        shares = plan.rules[index].relevance(step, relevance)
        if keep_layers:
            sent = sum(_total(share) for share in shares if share is not None)
            result.absorbed.update({name: result.totals[name] - sent for name in layer.names})
        for source, share in zip(layer.inputs, shares, strict=True):
            if share is not None:
                arrived[source] = arrived[source] + share if source in arrived else share
    if 0 not in arrived:
        raise ModelError("No relevance reaches the input: the logits do not depend on it.")
    _record(result, ("input",), arrived[0], False)
    result.relevance = arrived[0]
    return result


def _record(result: Redistributed, names: tuple[str, ...], relevance: Tensor, keep: bool) -> None:
    total = _total(relevance)
    for name in names:
        result.totals[name] = total
        if keep:
            result.layers[name] = relevance


def _total(relevance: Tensor) -> Tensor:
    """The sum per image, (N,)."""
    axes = tuple(range(1, relevance.dim()))
    return relevance.sum(axes) if axes else relevance  # no axes would mean all
