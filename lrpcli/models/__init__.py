"""Models by name, by path, or as torch modules. Importing this is cheap; loading imports torch."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Union

from lrpcli.errors import ModelError
from lrpcli.models.description import Description, PreprocessingChoice
from lrpcli.models.zoo.registry import named_model, named_models

if TYPE_CHECKING:
    from torch import nn

    from lrpcli.models.model import Model

SUFFIXES = (".caffemodel", ".caffemodel.h5", ".safetensors")


def load_model(
    model: Union[str, Path, "nn.Module"],
    *,
    weights: str | Path | None = None,
    prototxt: str | Path | None = None,
    input_shape: tuple[int, int, int] | None = None,
    preprocessing: PreprocessingChoice | None = None,
    labels: str | Path | Sequence[str] | None = None,
) -> "Model":
    """A Model by name, from a .caffemodel, .caffemodel.h5 or .safetensors file, or around a torch.nn.Module.

    A named model's weights are fetched on first use unless `weights` names a file. A module needs `input_shape`
    (C, H, W), and gets photos as RGB in 0..1 squashed to it unless `preprocessing` says otherwise. `preprocessing` is a
    Preprocessing or a mapping of the fields to replace; `labels` is a file with one line per output, or the lines.
    Raises ModelError, UnsupportedLayer or WeightsError.

    >>> import lrpcli, torch
    >>> lrpcli.load_model("cifar10").labels[:3]
    ('airplane', 'automobile', 'bird')
    >>> lrpcli.load_model("net.caffemodel", prototxt="deploy.prototxt").input_shape
    (3, 32, 32)
    >>> module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    >>> lrpcli.load_model(module, input_shape=(3, 2, 2), labels=["cat", "dog"]).find_class("dog")
    1
    """
    details = Description(None, prototxt, input_shape, preprocessing, labels)
    if not isinstance(model, (str, Path)):
        return _wrapped(model, weights, details)
    if not is_name(model):
        if weights is not None:
            raise ModelError(f"{str(model)!r} is a path, so weights cannot be given beside it; they go with a name.")
        return _load_file(model, details)
    from lrpcli.models.zoo.weights import fetch

    entry = named_model(str(model))
    return _load_file(fetch(entry) if weights is None else weights, details.over(entry.details()))


def load_architecture(
    model: str | Path,
    *,
    weights: str | Path | None = None,
    prototxt: str | Path | None = None,
    input_shape: tuple[int, int, int] | None = None,
    preprocessing: PreprocessingChoice | None = None,
    labels: str | Path | Sequence[str] | None = None,
) -> "Model":
    """Like load_model, but a named model without `weights` fetches nothing: its parameters are zeros without memory.

    Good for layer tables; its `weights_sha256` is None. Bundled models and paths are loaded as they are.
    """
    details = Description(None, prototxt, input_shape, preprocessing, labels)
    entry = named_model(str(model)) if is_name(model) else None
    if entry is None or entry.architecture is None or weights is not None:
        return load_model(model, weights=weights, prototxt=prototxt, input_shape=input_shape,
                          preprocessing=preprocessing, labels=labels)  # fmt: skip
    from lrpcli.models.caffe.assemble import assemble
    from lrpcli.models.caffe.files import Weights

    return assemble(Weights(entry.architecture, None, None, None), details.over(entry.details()))


def is_name(model: str | Path) -> bool:
    """Whether a model is meant by name: a name of the registry, or a word that looks like no path."""
    if isinstance(model, Path):
        return False
    looks_like_path = os.sep in model or "/" in model or Path(model).suffix != "" or Path(model).exists()
    return model in named_models() or not looks_like_path


def _load_file(path: str | Path, details: Description) -> "Model":
    name = Path(path).name.lower()
    if not name.endswith(SUFFIXES):
        raise ModelError(
            f"{str(path)!r} is no model file that can be read: supported are {', '.join(SUFFIXES[:-1])} and "
            f"{SUFFIXES[-1]}. Any other net can be explained in Python: lrpcli.load_model(module, input_shape=...)."
        )
    if name.endswith(".safetensors"):
        from lrpcli.models.self_describing import load_safetensors

        return load_safetensors(path, details)
    from lrpcli.models.caffe.assemble import assemble
    from lrpcli.models.caffe.files import read_weights

    return assemble(read_weights(path), details)


def _wrapped(module: "nn.Module", weights: str | Path | None, details: Description) -> "Model":
    from torch import nn

    from lrpcli.models.module import wrap_module

    if not isinstance(module, nn.Module):
        raise ModelError(f"A model is a name, a path or a torch.nn.Module, not {type(module).__name__}.")
    if weights is not None or details.prototxt is not None:
        raise ModelError("A torch module has its weights and layers; weights and prototxt cannot be given beside it.")
    return wrap_module(module, details)
