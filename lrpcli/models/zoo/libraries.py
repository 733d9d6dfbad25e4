"""What nets of a Python library have in common, torchvision's and timm's: their cache, and how their input is sized."""

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lrpcli.errors import ModelError
from lrpcli.models.description import Description
from lrpcli.models.zoo.weights import CachedFile

if TYPE_CHECKING:
    from torch import nn

HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")
"""The first digits of a file's sha256, as torch.hub expects them in its name."""


def checkpoint(model: str, url: str, file: str | None = None) -> CachedFile:
    """A weights file in torch.hub's folder, where users of the library have it already; it is called `file` there."""
    name = file or Path(urlsplit(url).path).name
    found = HASH_IN_NAME.search(name)
    return CachedFile(model, f"sha256:{found[1]}" if found else None, (url,), file=name, folder=_checkpoints())


def _checkpoints() -> Path | None:
    """torch.hub's folder of checkpoints; None for a user without a home, who has no such folder."""
    import torch.hub

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return folder if folder.is_absolute() or not str(folder).startswith("~") else None


def require_own_layers(name: str, description: Description) -> None:
    """ModelError for what only belongs to nets that come as files."""
    if description.prototxt is not None:
        raise ModelError(f"{name!r} has layers of its own, so that --prototxt cannot be given beside it. Leave it out.")
    if description.head is not None:
        raise ModelError(f"{name!r} has one output, so --output {description.head} cannot choose one. Leave it out.")


def choose_shape(
    name: str, description: Description, usual: tuple[int, int, int], least: tuple[int, int] = (1, 1)
) -> tuple[int, int, int]:
    """The input shape (C, H, W) that the description asks for, or the usual one; ModelError if it is too small."""
    from lrpcli.models.model import check_input_shape

    shape = check_input_shape(description.input_shape or usual, name)
    if shape[1] < least[0] or shape[2] < least[1]:
        raise ModelError(
            f"The input of {name!r} must have {least[0]} x {least[1]} pixels at least, not {shape[1]} x {shape[2]}. "
            "Give a larger --input-shape."
        )
    return shape


def without_memory(module: "nn.Module") -> "nn.Module":
    """The module in eval mode, with zeros that take no memory in the place of its numbers."""
    import torch
    from torch import nn

    for part in module.modules():
        for key, parameter in part._parameters.items():
            if parameter is not None:
                zeros = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
                part._parameters[key] = nn.Parameter(zeros, requires_grad=False)
        for key, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[key] = torch.zeros((), dtype=buffer.dtype).expand(buffer.shape)
    return module.eval()


def labels_that_fit(labels: tuple[str, ...] | None, outputs: int) -> tuple[str, ...] | None:
    """The class names of the library's own weights, unless the net has other classes than those."""
    return labels if labels is not None and len(labels) == outputs else None
