"""Models by name, by path, or as torch modules. Importing this is cheap; loading imports torch.

Two tables say what can be loaded: lrpcli.models.importers.TABLE has the file formats, lrpcli.models.zoo.TABLE the
families of named models.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Union

from lrpcli.errors import ModelError
from lrpcli.models.description import Description, PreprocessingChoice
from lrpcli.models.factories import find_factory
from lrpcli.models.importers import has_known_suffix, import_file
from lrpcli.paths import require_path

if TYPE_CHECKING:
    from torch import nn

    from lrpcli.models.model import Model
    from lrpcli.models.zoo import Entry

__all__ = ["is_name", "load_architecture", "load_model", "names_code"]


def load_model(
    model: Union[str, Path, "nn.Module"],
    *,
    weights: str | Path | None = None,
    prototxt: str | Path | None = None,
    input_shape: tuple[int, int, int] | None = None,
    preprocessing: PreprocessingChoice | None = None,
    labels: str | Path | Sequence[str] | None = None,
    output: str | int | None = None,
    mirror: str | None = None,
) -> "Model":
    """A Model by name, from a file of any format in importers.TABLE, or around a torch.nn.Module.

    Code is named as "package.module:factory" or "file.py:factory": it is run, the factory called without arguments, and
    `weights` names a .safetensors, .pt or .pth file for the module that comes of it. A named model's weights are
    fetched on first use unless `weights` names a file; `mirror` is a web address or a folder where they are looked for
    first, by file name, and LRP_MIRROR where it is None. A module needs `input_shape` (C, H, W); one that is passed
    gets photos as RGB in 0..1 squashed to it unless `preprocessing` says otherwise. `preprocessing` is the name of a
    preset (imagenet, caffe, unit, symmetric, raw), a Preprocessing, a mapping of the fields to replace, or transforms
    of torchvision; `labels` is a file with one line per output, or the lines; `output` chooses one of the net's
    outputs, where it has several: by its place from 0, its key or field, or in Caffe's files by its blob or layer.
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
    for what, path in (("model", model), ("weights", weights), ("description", prototxt), ("labels", labels)):
        require_path(path, f"The file of the {what},")
    description = Description(None, prototxt, input_shape, preprocessing, labels, _text(output), mirror)
    if not isinstance(model, (str, Path)):
        return _wrap(model, weights, description)
    entry = _find_entry(model)
    if entry is not None:
        return entry.load(description, weights)
    factory = find_factory(model)
    if factory is not None:
        from lrpcli.models.module import load_factory

        return load_factory(factory, description, weights)
    if weights is not None:
        raise ModelError(
            f"{str(model)!r} is a path, so weights cannot be given beside it; they go with a name or "
            "with the code that makes a net, such as net.py:make."
        )
    _require_no_name(str(model))
    return import_file(model, description)


def load_architecture(
    model: str | Path,
    *,
    weights: str | Path | None = None,
    prototxt: str | Path | None = None,
    input_shape: tuple[int, int, int] | None = None,
    preprocessing: PreprocessingChoice | None = None,
    labels: str | Path | Sequence[str] | None = None,
    output: str | int | None = None,
    mirror: str | None = None,
) -> "Model":
    """Like load_model, but a named model without `weights` fetches nothing: its parameters are zeros without memory.

    Good for layer tables; its `weights_sha256` is None. Bundled models and paths are loaded as they are.
    """
    entry = _find_entry(model) if weights is None else None
    if entry is not None:
        description = Description(None, prototxt, input_shape, preprocessing, labels, _text(output), mirror)
        return entry.load_architecture(description)
    return load_model(model, weights=weights, prototxt=prototxt, input_shape=input_shape, preprocessing=preprocessing,
                      labels=labels, output=output, mirror=mirror)  # fmt: skip


def is_name(model: str | Path) -> bool:
    """Whether a model is meant by name: a name that a zoo claims, or a word that looks like no path."""
    from lrpcli.models.zoo import is_claimed

    if isinstance(model, Path):
        return False
    is_path = os.sep in model or "/" in model or Path(model).suffix != "" or Path(model).exists()
    return is_claimed(model) or not (is_path or names_code(model))


def names_code(model: str | Path) -> bool:
    """Whether a model is given as the code that makes it, which is run to load it."""
    from lrpcli.models.zoo import is_claimed

    return find_factory(model) is not None and not is_claimed(str(model))


def _text(output: str | int | None) -> str | None:
    return None if output is None else str(output)


def _require_no_name(model: str) -> None:
    """ModelError for what looks like a path, is none, and is the name of a model without its prefix."""
    from lrpcli.models.zoo import meant_names, unknown_name

    if has_known_suffix(model) or Path(model).exists():
        return
    meant = meant_names(model)
    if meant:
        raise unknown_name(model, (), meant)


def _find_entry(model: str | Path) -> "Entry | None":
    """The entry of a model that is meant by name; None for a path. ModelError if no model has that name."""
    from lrpcli.models.zoo import find_entry

    return find_entry(str(model)) if is_name(model) else None


def _wrap(module: "nn.Module", weights: str | Path | None, description: Description) -> "Model":
    from torch import nn
    from torch.export import ExportedProgram

    from lrpcli.models.module import wrap_module

    if isinstance(module, ExportedProgram):
        module = module.module()
    if not isinstance(module, nn.Module):
        raise ModelError(f"A model is a name, a path or a torch.nn.Module, not {type(module).__name__}.")
    if weights is not None or description.prototxt is not None:
        raise ModelError("A torch module has its weights and layers; weights and prototxt cannot be given beside it.")
    return wrap_module(module, description, "the default for a torch module")
