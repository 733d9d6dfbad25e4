"""A node of a torch.fx graph while it becomes a layer: its arguments, and which other layers it reads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx

from lrpcli.errors import UnsupportedLayer
from lrpcli.lrp.operation import Operation
from lrpcli.lrp.tracing.graph import Layer


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

    def replay(self, function: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """The traced call as a function of the values of `tensors` followed by those of `scalars`.

        `function` is what to call in place of what was traced.
        """
        order = {index: place for place, index in enumerate((*self.tensors(), *self.scalars()))}
        traced, arguments, keywords = self.traced, self.arguments, self.keywords

        def run(*values: Any) -> Any:
            def fill(leaf: Any) -> Any:
                return values[order[leaf.index]] if isinstance(leaf, Reference) else leaf

            args: Any = fx.node.map_aggregate(arguments, fill)
            kwargs: Any = fx.node.map_aggregate(keywords, fill)
            if function is not None:
                return function(*args, **kwargs)
            if traced.op == "call_method":
                return getattr(args[0], str(traced.target))(*args[1:], **kwargs)
            return traced.target(*args, **kwargs)  # type: ignore[operator]

        return run

    def layer(self, operation: Operation, *inputs: Reference) -> Translated:
        """The call as a layer that reads `inputs`, or only its first argument if none are named."""
        return Translated(self.label, operation, tuple(r.index for r in inputs or (self.only_input(),)))

    def only_input(self) -> Reference:
        """Its first argument, the one layer that it reads; UnsupportedLayer if it reads others."""
        first = self.arguments[0] if self.arguments else None
        if not isinstance(first, Reference) or self.references() != [first]:
            raise self.unsupported(
                "Only its first argument may come from other layers, and the rest must be fixed numbers."
            )
        return first

    def unsupported(self, why: str = "") -> UnsupportedLayer:
        """The error that refuses this call."""
        return unsupported_layer(self.name, self.label, why)


def unsupported_layer(name: str, kind: str, why: str = "") -> UnsupportedLayer:
    """The error for a layer without a rule: it names the layer, its type, the reason and what to do."""
    reason = f" {why}" if why else ""
    return UnsupportedLayer(
        f"Layer {name!r} of type {kind} has no relevance rule.{reason} Replace it by layers that have one "
        "(docs/rules.md lists them) or cut the model before it."
    )
