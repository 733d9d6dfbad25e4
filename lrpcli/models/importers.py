"""The one door for model formats: which file suffix is read by which importer.

A new format is a module of its own and one line in TABLE. Its importer takes a path and a Description whose fields
overrule what the file says, and gives a Model; lrpcli.models.graph_builder and lrpcli.models.model.make_model do what
all importers need. Importing this module is cheap: an importer is loaded when the first file of its format is read.
"""

from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from lrpcli.errors import ModelError
from lrpcli.models.description import Description

if TYPE_CHECKING:
    from lrpcli.models.model import Model

Importer = Callable[[Path, Description], "Model"]
"""Reads a file. Raises ModelError, UnsupportedLayer or WeightsError that name the file and the layer."""

TABLE = {
    ".caffemodel": "lrpcli.models.caffe.assemble:import_caffemodel",
    ".caffemodel.h5": "lrpcli.models.caffe.assemble:import_caffemodel",
    ".onnx": "lrpcli.models.onnx.assemble:import_onnx",
    ".pt2": "lrpcli.models.program:import_program",
    ".safetensors": "lrpcli.models.self_describing:import_safetensors",
}
"""Suffix in lower case, with its dot -> "module:function" of the importer, in the order in which texts list them."""


CODE = ".py"
WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".torchscript")
"""Suffixes of files that PyTorch writes and that hold no net, or one that would have to be run."""


def import_file(path: str | Path, description: Description) -> "Model":
    """The Model in a file, by the longest suffix in TABLE that its name ends with, in any case.

    Everything in `description` overrules what the file says. Raises ModelError that lists the suffixes if there is no
    importer for the file, and what the importer raises.
    """
    suffix = _suffix(path)
    if suffix is None:
        raise ModelError(f"{str(path)!r} is no model file that can be read: {_instead(path)}")
    importer: Importer = resolve_name(TABLE[suffix])
    try:
        model = importer(Path(path), description)
    except MemoryError as error:
        raise _too_large(path) from error
    except RuntimeError as error:
        if "alloc" not in str(error):  # what torch says where memory is short
            raise
        raise _too_large(path) from error
    if description.head is not None and model.head is None:
        raise ModelError(
            f"{str(path)!r} names no heads, so --output {description.head} cannot choose one. Leave it out."
        )
    return model


def has_known_suffix(path: str | Path) -> bool:
    """Whether a name is that of a file: one that can be read, or one for which there is something to say."""
    return _suffix(path) is not None or Path(path).suffix.lower() in (CODE, *WEIGHTS)


def _suffix(path: str | Path) -> str | None:
    name = Path(path).name.lower()
    return max((known for known in TABLE if name.endswith(known)), key=len, default=None)


def _instead(path: str | Path) -> str:
    """What to give in place of a file for which there is no importer."""
    ending = Path(path).suffix.lower()
    if ending == CODE:
        return f"it is Python code. Say which function or class in it makes the net: --model {path}:make."
    if ending in WEIGHTS:
        return (
            f"it holds weights without the net, or TorchScript, which is never run. Give the code that makes the net, "
            f"and the weights beside it: --model net.py:make --weights {path}, or of a net of torchvision or timm its "
            f"name: --model torchvision:resnet18 --weights {path}."
        )
    return (
        f"supported are {suffixes_in_words('and')}. Any other net is given as the code that makes it, --model "
        "net.py:make, or in Python: lrpcli.load_model(module, input_shape=...)."
    )


def _too_large(path: str | Path) -> ModelError:
    return ModelError(f"{str(path)!r} needs more memory than there is. Give more memory, or smaller weights.")


def suffixes_in_words(conjunction: str = "or") -> str:
    """The suffixes of all formats for help and messages: ".caffemodel, .caffemodel.h5, .onnx or .safetensors"."""
    *first, last = TABLE
    return f"{', '.join(first)} {conjunction} {last}"
