"""A node of a torch.fx graph while it becomes a layer: its arguments, and which other layers it reads."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import fx

from lrpcli.errors import UnsupportedLayer
from lrpcli.lrp.layers.call import Call, Place
from lrpcli.lrp.operation import Operation
from lrpcli.lrp.tracing.attention import why_attention
from lrpcli.lrp.tracing.graph import Layer
from lrpcli.lrp.tracing.names import IN_PLACE_OPERATORS, function_name

ONLY_FIRST = "Only its first argument may come from other layers, and the rest must be fixed numbers."


@dataclass(frozen=True)
class Reference:
    """Stands where an argument of a traced call is the output of a layer: the index of that layer."""

    index: int


@dataclass
class Translated:
    """What a node became: a layer (`operation` with its inputs), or a plain `value` that is no layer."""

    type: str
    operation: Operation | None = None
    inputs: tuple[int, ...] = ()
    scalars: tuple[int, ...] = ()
    value: Any = None
    in_place: bool = False
    """Whether the call writes over its input, so that later readers of the input see the output."""


@dataclass
class Node:
    """A call in the traced graph; arguments that are outputs of layers are References, all others plain values."""

    traced: fx.Node
    name: str
    """What the layer will be called."""
    label: str
    """What is called: a function, a method or a type of module."""
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    layers: list[Layer]
    """The layers so far."""

    def get(self, index: int, keyword: str, default: Any = None) -> Any:
        """An argument by position or keyword."""
        return self.arguments[index] if len(self.arguments) > index else self.keywords.get(keyword, default)

    def references(self) -> list[Reference]:
        """The layers among the arguments, in order of appearance, each once."""
        found: list[Reference] = []

        def visit(leaf: Any) -> Any:
            if isinstance(leaf, Reference) and leaf not in found:
                found.append(leaf)
            return leaf

        fx.node.map_aggregate((self.arguments, self.keywords), visit)
        return found

    def is_scalar(self, reference: Reference) -> bool:
        """Whether a layer puts out sizes, which carry no relevance."""
        return self.layers[reference.index].kind == "scalar"

    def tensors(self) -> tuple[int, ...]:
        """The layers among the arguments that carry relevance, each once."""
        return tuple(r.index for r in self.references() if not self.is_scalar(r))

    def scalars(self) -> tuple[int, ...]:
        """The layers among the arguments that put out sizes, each once."""
        return tuple(r.index for r in self.references() if self.is_scalar(r))

    def replay(self, function: Callable[..., Any] | None = None) -> Call:
        """The traced call as a function of the values of `tensors` followed by those of `scalars`; out of place.

        `function` is what to call in place of what was traced.
        """
        return Call(function or self._called(), self.placed(self.arguments), self.placed(self.keywords))

    def placed(self, arguments: Any) -> Any:
        """Arguments with Places for References: `tensors` first, then `scalars`."""
        order = {index: place for place, index in enumerate((*self.tensors(), *self.scalars()))}

        def place(leaf: Any) -> Any:
            return Place(order[leaf.index]) if isinstance(leaf, Reference) else leaf

        return fx.node.map_aggregate(arguments, place)

    def _called(self) -> Callable[..., Any]:
        """What was traced, made to leave its first argument as it is where it writes over that."""
        if self.traced.op == "call_method":
            return _method(self.label)
        function: Any = self.traced.target
        if function in IN_PLACE_OPERATORS:
            return cast(Callable[..., Any], getattr(operator, self.label))
        return cast(Callable[..., Any], function) if function_name(self.traced) == self.label else _on_copy(function)

    def insert(self, suffix: str, operation: Operation, *inputs: Reference) -> Reference:
        """Puts a layer of its own before this one, for calls that are several layers; `suffix` ends its name."""
        self.layers.append(Layer(f"{self.name}.{suffix}", suffix, operation, tuple(r.index for r in inputs)))
        return Reference(len(self.layers) - 1)

    def layer(self, operation: Operation, *inputs: Reference) -> Translated:
        """The call as a layer that reads `inputs`, or only its first argument if none are named; and its sizes."""
        return Translated(self.label, operation, tuple(r.index for r in inputs or (self.only_input(),)), self.scalars())

    def only_input(self) -> Reference:
        """Its first argument, the one layer that it reads; UnsupportedLayer if it reads others."""
        first = self.first()
        if self.references() != [first]:
            raise self.unsupported(ONLY_FIRST)
        return first

    def first(self) -> Reference:
        """Its first argument, the one layer with relevance that it reads; sizes may be read off others."""
        first = self.arguments[0] if self.arguments else None
        if not isinstance(first, Reference) or self.tensors() != (first.index,):
            raise self.unsupported(ONLY_FIRST)
        return first

    def unsupported(self, why: str = "") -> UnsupportedLayer:
        """The error that refuses this call; where it is attention it says so, whatever else there is to say."""
        return unsupported_layer(self.name, self.label, why_attention(self.traced, self.label) or why)


def _method(name: str) -> Callable[..., Any]:
    return lambda value, *arguments, **keywords: getattr(value, name)(*arguments, **keywords)


def _on_copy(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda first, *arguments, **keywords: function(first.clone(), *arguments, **keywords)


def unsupported_layer(name: str, kind: str, why: str = "") -> UnsupportedLayer:
    """The error for a layer without a rule: it names the layer, its type, the reason and what to do."""
    reason = f" {why}" if why else ""
    return UnsupportedLayer(
        f"Layer {name!r} of type {kind} has no relevance rule.{reason} Replace it by layers that have one "
        "(docs/rules.md lists them) or cut the model before it."
    )
