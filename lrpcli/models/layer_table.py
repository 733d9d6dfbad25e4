"""The layer table of a model: what the engine sees, with the shapes that go through it."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from lrpcli.errors import LrpError, ModelError
from lrpcli.lrp.tracing.graph import Layer
from lrpcli.lrp.tracing.translate import build_graph
from lrpcli.models.model import Model

META = torch.device("meta")


@dataclass(frozen=True)
class LayerRow:
    """One layer: its name and kind as configs use them, the shape of its output per image, and its settings."""

    name: str
    kind: str
    output: tuple[int, ...]
    details: str


def layer_table(model: Model) -> list[LayerRow]:
    """A row per layer in execution order, without the input and a final softmax; folded layers show up in the details.

    Nothing is computed: shapes come from a pass on torch's meta device. UnsupportedLayer names a layer without a rule.
    """
    graph = build_graph(model.module, model.input_shape).to(META, torch.float32)
    values: list[Any] = [torch.empty(1, *model.input_shape, device=META)]
    for layer in graph.layers[1:]:
        arguments = [values[source] for source in (*layer.inputs, *layer.scalars)]
        try:
            values.append(layer.operation.run(*arguments)[0])
        except (RuntimeError, TypeError, ValueError) as error:
            raise ModelError(f"Layer {layer.name!r} does not fit an input of {model.input_shape}: {error}") from error
    return [
        LayerRow(layer.name, layer.kind, tuple(value.shape[1:]), _details(layer))
        for layer, value in zip(graph.layers[1:], values[1:], strict=True)
        if isinstance(value, torch.Tensor)
    ]


def count_outputs(model: Model) -> int | None:
    """How many classes the net has, as far as it can be explained; nothing is computed.

    >>> import lrpcli
    >>> from lrpcli.models.layer_table import count_outputs
    >>> count_outputs(lrpcli.load_model("cifar10"))
    10
    """
    try:
        shape = layer_table(model)[-1].output
    except (LrpError, IndexError):
        return None
    return shape[0] if shape and math.prod(shape) == shape[0] else None


def _details(layer: Layer) -> str:
    folded = f"with {', '.join(layer.aliases)}" if layer.aliases else ""
    return " ".join(part for part in (layer.operation.describe(), folded) if part)


def parameter_count(model: Model) -> int:
    """Numbers that were trained, in the module as it is."""
    return sum(parameter.numel() for parameter in model.module.parameters())
