"""A model format and a zoo that exist for tests alone: what a guest of the two doors needs to bring.

A .toy file is JSON: a name, the input shape, and layers in order: convolutions, ReLUs and fully connected layers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lrpcli.errors import UnsupportedLayer
from lrpcli.images.preprocess import Preprocessing
from lrpcli.models.description import Description
from lrpcli.models.graph_builder import META, GraphBuilder, assign_tensors, copy_as_float32
from lrpcli.models.importers import import_file
from lrpcli.models.model import Model, check_input_shape, make_model
from lrpcli.models.reading import name_damage, read_weights_file
from lrpcli.models.zoo import Entry, Zoo
from lrpcli.models.zoo.weights import State, WeightsFile

FOLDER = Path("nowhere")
"""Where the toy zoo keeps its files; a test sets it."""


def write_toy(path: Path, **changes: Any) -> Path:
    """A .toy file with weights drawn from a seed."""
    random = np.random.default_rng(5)
    layers = [
        {"name": "conv/1", "kind": "conv", "weight": random.normal(size=(4, 3, 3, 3)).tolist()},
        {"name": "relu/1", "kind": "relu"},
        {"name": "scores", "kind": "linear", "weight": random.normal(size=(5, 4 * 14 * 14)).tolist()},
    ]
    path.write_text(json.dumps({"name": "toy-net", "input": [3, 16, 16], "layers": layers, **changes}))
    return path


def import_toy(path: Path, description: Description) -> Model:
    data, digest = read_weights_file(path, "text")
    with name_damage(path, "Give an undamaged .toy file.", KeyError):
        net = json.loads(data)
        shape = check_input_shape(description.input_shape or net["input"], str(path))
        builder = GraphBuilder(path, "pixels", shape)
        last = "pixels"
        for layer in net["layers"]:
            last = _add_layer(builder, layer, last)
        builder.flatten_scores(last)
    model = make_model(
        builder.build(last, "ToyNet"),
        shape,
        Preprocessing(size=shape[1:], channels=shape[0]),
        description,
        name=net["name"],
        source=str(path),
        outputs=builder.shapes[last][0],
        weights_sha256=digest,
        stated_by="the toy format",
    )
    return replace(model, facts={"licence": "made in a test"})


def _add_layer(builder: GraphBuilder, layer: Mapping[str, Any], source: str) -> str:
    """Adds a layer that reads the value `source`; the name of the value that it makes."""
    name, shape, node = layer["name"], builder.shapes[source], builder.nodes[source]
    if layer["kind"] == "relu":
        builder.define(name, builder.call_module(name, nn.ReLU(), node), shape, name)
        return name
    if layer["kind"] not in ("conv", "linear"):
        raise UnsupportedLayer(f"The {builder.where(name)} cannot be imported: kind {layer['kind']} is not known.")
    weight = np.asarray(layer["weight"])
    tensor = copy_as_float32(weight, weight.shape, f"weights of {builder.where(name)}", builder.path)
    if layer["kind"] == "conv":
        module = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], bias=False, device=META)
        shape = (
            weight.shape[0],
            *(side - kernel + 1 for side, kernel in zip(shape[1:], weight.shape[2:], strict=True)),
        )
    else:
        module = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=META)
        node, shape = builder.call(f"{name}/flatten", torch.flatten, node, 1), weight.shape[:1]
    builder.define(name, builder.call_module(name, assign_tensors(module, weight=tensor), node), shape, name)
    return name


@dataclass(frozen=True)
class ToyFile(WeightsFile):
    def path(self) -> Path:
        return FOLDER / f"{self.model.removeprefix(ToyZoo.prefix)}.toy"

    def state(self) -> State:
        return "cached" if self.path().is_file() else "not fetched"

    def fetch(self, *, mirror: str | None = None, progress: bool = True) -> Path:
        return self.path() if self.path().is_file() else write_toy(self.path())


@dataclass(frozen=True)
class ToyEntry(Entry):
    @property
    def weights(self) -> ToyFile:
        return ToyFile(self.name)

    def load(self, description: Description, weights: str | Path | None = None) -> Model:
        named = description.over(Description(self.name, labels=["a", "b", "c", "d", "e"]))
        return import_file(self.weights.fetch() if weights is None else weights, named)


class ToyZoo(Zoo):
    prefix = "toy:"

    def entries(self) -> Mapping[str, Entry]:
        return {"toy:small": ToyEntry("toy:small", "A toy", (3, 16, 16), 5, licence="none")}
