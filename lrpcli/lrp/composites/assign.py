"""From a composite to one bound rule per layer, each with the reason why."""

from dataclasses import dataclass, fields

from torch import Tensor

from lrpcli.errors import ConfigError, suggestion
from lrpcli.lrp.composites.composite import Composite
from lrpcli.lrp.composites.entries import Entry, best_entry, check_parameters
from lrpcli.lrp.composites.input_range import input_range
from lrpcli.lrp.operation import Surroundings
from lrpcli.lrp.rules import RULES, AnyRule
from lrpcli.lrp.tracing.graph import Graph, Layer


@dataclass(frozen=True)
class Assignment:
    """The rule of one layer and why it got it."""

    layer: Layer
    rule: AnyRule
    rule_name: str
    reason: str

    @property
    def parameters(self) -> str:
        """Parameters of the rule as text, such as "epsilon=0.01 bias=absorb"; without tensors and what it lacks."""
        values = ((item.name, getattr(self.rule, item.name)) for item in fields(self.rule))
        return " ".join(
            f"{name}={value}" for name, value in values if value is not None and not isinstance(value, Tensor)
        )


def assign_rules(
    composite: Composite, graph: Graph, pixel_range: tuple[Tensor, Tensor] | None = None
) -> list[Assignment]:
    """One assignment per layer of the graph, the input's included; the most specific entry wins.

    ConfigError if a rule does not fit its layer, lacks what it must know of it, or a name or pattern fits no layer.
    """
    for entry in composite.entries:
        if entry.table == "name":
            _require_match(entry, composite, graph)
    source, *layers = graph.layers
    assignments = [Assignment(source, RULES[source.kind]["default"](), "default", "it is the input")]
    for layer in layers:
        surroundings = Surroundings(layer.name, layer.operation, composite.bias, input_range(layer, graph, pixel_range))
        assignments.append(_assign(layer, composite, surroundings))
    return assignments


def _require_match(entry: Entry, composite: Composite, graph: Graph) -> None:
    """ConfigError if an entry's name or pattern matches no layer, or none that can have the rule."""
    matching = [layer for layer in graph.layers[1:] if entry.matches(layer)]
    if not matching:
        names = [name for name, _ in graph.named()]
        raise ConfigError(
            f"Config {composite.title!r} names the layer {entry.key!r}, but no layer of the model is called that."
            f"{suggestion(entry.key, names)}"
        )
    if not any(entry.rule in RULES[layer.kind] for layer in matching):
        kinds = ", ".join(sorted({layer.kind for layer in matching}))
        choices = sorted({rule for layer in matching for rule in RULES[layer.kind]})
        raise ConfigError(
            f"Config {composite.title!r} gives {entry.key!r} the rule {entry.rule!r}, which layers of kind {kinds} "
            f"cannot have. They can have: {', '.join(choices)}."
        )


def _assign(layer: Layer, composite: Composite, surroundings: Surroundings) -> Assignment:
    entry = best_entry(composite.entries, layer)
    name = entry.rule if entry else next(iter(RULES[layer.kind]))
    given = dict(entry.parameters) if entry else {}
    rule = RULES[layer.kind][name]
    check_parameters(rule, name, given, composite.title, f" for layer {layer.name!r} of kind {layer.kind}")
    bound = rule.bind(given, surroundings)
    why_unfit = bound.why_unfit(layer.operation)
    if why_unfit:
        raise ConfigError(f"Layer {layer.name!r} cannot have the rule {name!r}. {why_unfit}")
    return Assignment(layer, bound, name, entry.reason if entry else "the default")
