"""Models in one .safetensors file: numbers as tensors, everything else as metadata.

Tensors are named "<layer>.weight" and "<layer>.bias". Metadata: `prototxt` (a Caffe net description), and where known
`name`, `preprocessing` (JSON), `labels` (a line per output); further entries are facts for people.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lrpcli.errors import ModelError
from lrpcli.models.caffe.assemble import assemble
from lrpcli.models.caffe.files import Weights, parse_prototxt
from lrpcli.models.caffe.network import Network
from lrpcli.models.description import Description
from lrpcli.models.model import Model
from lrpcli.models.preprocessing import CHOICES
from lrpcli.models.reading import Allowance, check_weights_file, hash_weights_file
from lrpcli.text_files import plain_reason

PARTS = ("weight", "bias")
FOR_LOADING = ("name", "prototxt", "preprocessing", "labels")
HELP = "Give a file that describes itself, as docs/models.md says."


@dataclass(frozen=True)
class SafetensorsFile:
    """What a file holds: weights with the net, what is known beside them, and facts for people by heading."""

    weights: Weights
    description: Description
    facts: dict[str, str]


def import_safetensors(path: Path, description: Description) -> Model:
    """The importer of .safetensors files; `description` overrules the file's own. Errors as for assemble."""
    found = read_safetensors(path)
    complete = description.over(found.description)
    if found.weights.network is None and complete.prototxt is None:
        raise ModelError(
            f"{str(path)!r} holds weights but does not say which net they belong to. Give its net description: "
            "--prototxt FILE."
        )
    model = assemble(found.weights, complete)
    # What was chosen here is not for a file to say.
    return replace(model, facts={**found.facts, **model.facts})


def read_safetensors(path: str | Path) -> SafetensorsFile:
    """Reads a file. WeightsError if it is missing, ModelError if it is damaged or holds anything unexpected."""
    path = Path(path)
    check_weights_file(path, "safetensors")
    digest = hash_weights_file(path)
    arrays, metadata = _contents(path)
    network = _network(metadata, path)
    weights = Weights(path, _blobs(arrays, path), digest, network)
    return SafetensorsFile(weights, _description(metadata, path), _facts(metadata))


def _contents(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    allowance, arrays = Allowance(path, "its weights"), {}
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            for name in names:
                allowance.take(tuple(file.get_slice(name).get_shape()), f"tensor {name!r}")
            for name in names:
                arrays[name] = _as_float32(file.get_tensor(name), name, path)
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise ModelError(
            f"{str(path)!r} is no undamaged safetensors file ({plain_reason(error)}). Fetch it again."
        ) from error
    return arrays, metadata


def _as_float32(tensor: Any, name: str, path: Path) -> np.ndarray:
    """Numbers of any floating-point type as float32; anything that is no number of a net is refused."""
    if not tensor.is_floating_point():
        raise ModelError(f"Tensor {name!r} of {str(path)!r} holds {tensor.dtype} and not floating-point numbers.")
    return np.asarray(tensor.float().numpy())


def _blobs(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, tuple[np.ndarray, ...]]:
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        layer, _, part = name.rpartition(".")
        if not layer or part not in PARTS:
            raise ModelError(f"Tensor {name!r} of {str(path)!r} is not named <layer>.weight or <layer>.bias. {HELP}")
        layers.setdefault(layer, {})[part] = array
    if not layers:
        raise ModelError(f"{str(path)!r} holds no weights. {HELP}")
    for layer, parts in layers.items():
        if "weight" not in parts:
            raise ModelError(f"Layer {layer!r} of {str(path)!r} has a bias but no weight. Fetch the file again.")
    return {layer: tuple(parts[part] for part in PARTS if part in parts) for layer, parts in layers.items()}


def _network(metadata: Mapping[str, str], path: Path) -> Network | None:
    return parse_prototxt(metadata["prototxt"], path) if "prototxt" in metadata else None


def _description(metadata: Mapping[str, str], path: Path) -> Description:
    labels = metadata.get("labels")
    return Description(
        name=metadata.get("name"),
        preprocessing=_preprocessing(metadata["preprocessing"], path) if "preprocessing" in metadata else None,
        labels=None if labels is None else labels.strip("\n").split("\n"),
        stated_by="the file",
    )


def _preprocessing(text: str, path: Path) -> Mapping[str, Any]:
    """The fields that adjust_preprocessing takes; the size is the net's own."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"The preprocessing in {str(path)!r} is no JSON ({plain_reason(error)}). Fetch the file again."
        ) from error
    if not isinstance(fields, dict):
        raise ModelError(f"The preprocessing in {str(path)!r} is no JSON object. Fetch the file again.")
    # A user may name a mean image by its path; a file from anywhere may not have other files read.
    if isinstance(fields.get("mean"), str):
        raise ModelError(f"The mean in {str(path)!r} is no list of numbers. Fetch the file again.")
    return {key: fields[key] for key in CHOICES if key in fields}


def _facts(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in sorted(metadata.items()) if key not in FOR_LOADING}
