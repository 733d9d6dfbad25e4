"""Transforms of torchvision, as a program has them for its own net, as Preprocessing: the same pixels, or refused.

Each step is read by the name of its class, so that torchvision itself is not imported.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lrpcli.errors import ModelError, suggestion
from lrpcli.images.formats import INTERPOLATIONS
from lrpcli.images.preprocess import Preprocessing

HOMES = ("torchvision.", "timm.")
ADVICE = "Give a Preprocessing, a mapping of its fields, or tensors to the Explainer."


PRODUCT = float(np.float32(1 / 255))
"""What the new transforms multiply pixels with, where the old ones divide by 255: the last digit may differ."""


@dataclass(frozen=True)
class _Steps:
    """What the steps so far make of a photo: `cropped` is the size of the centre crop, `scale` 1 for pixels in 0..255.

    `tensor`: whether it is a tensor already, `floating`: one of float32.
    """

    resize: int | tuple[int, int] | None = None
    interpolation: str = "bilinear"
    cropped: tuple[int, int] | None = None
    grey: bool = False
    tensor: bool = False
    floating: bool = False
    scale: float = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] = (1.0,)


def read_transforms(transform: object, size: tuple[int, int], channels: int) -> Preprocessing:
    """The preprocessing that does what transforms do, for a net that reads `channels` and `size` (h, w).

    Takes Compose and nn.Sequential of Resize, CenterCrop, ToTensor, PILToTensor, ToImage, ConvertImageDtype, ToDtype,
    Normalize and Grayscale, old or new, and what weights.transforms() gives. ModelError names a step that cannot be
    done alike, or makes images of another size.

    >>> from torchvision import transforms
    >>> from lrpcli.models.transforms import read_transforms
    >>> steps = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])
    >>> read_transforms(steps, (64, 64), 3).describe()
    'whole photo squashed to 64 x 64, RGB, 0..1'
    """
    if not _is_torchvisions(transform) and not isinstance(transform, torch.nn.Sequential):
        raise ModelError(
            f"Preprocessing is the name of a preset, a Preprocessing, a mapping of its fields or transforms of "
            f"torchvision, not an object of type {type(transform).__name__}. {ADVICE}"
        )
    steps = _Steps()
    for step in _flattened(transform):
        steps = _add(steps, step)
    return _finished(steps, size, channels)


def _is_torchvisions(step: object) -> bool:
    return type(step).__module__.startswith(HOMES)


def _flattened(transform: Any) -> Iterable[Any]:
    name = type(transform).__name__
    if isinstance(transform, torch.nn.Sequential):
        inner = list(transform)
    elif name == "Compose":
        inner = transform.transforms
    else:
        return [transform]
    return [step for part in inner for step in _flattened(part)]


def _add(steps: _Steps, step: Any) -> _Steps:
    name = type(step).__name__
    if not _is_torchvisions(step) or name not in READERS:
        random = "Random" in name or name in ("AutoAugment", "RandAugment", "TrivialAugmentWide", "AugMix")
        why = " differs from call to call; give what the net is tested with" if random else " cannot be done alike here"
        raise ModelError(f"The transform {name}{why}.{suggestion(name, READERS)} {ADVICE}")
    try:
        return READERS[name](steps, step)
    except ValueError as error:
        raise ModelError(f"The transform {name} cannot be done alike here: {error}. {ADVICE}") from error


def _resize(steps: _Steps, step: Any) -> _Steps:
    if steps.tensor:
        raise ValueError("on tensors it gives other pixels than on photos; resize before the photo becomes a tensor")
    if steps.resize is not None or steps.cropped is not None:
        raise ValueError("the photo is resized or cropped before")
    if getattr(step, "max_size", None) is not None:
        raise ValueError("it has a max_size")
    return replace(steps, resize=_sides(step.size), interpolation=_interpolation(step.interpolation))


def _crop(steps: _Steps, step: Any) -> _Steps:
    size = _sides(step.size)
    if steps.cropped is not None:
        raise ValueError("the photo is cropped before")
    if steps.resize is None:
        raise ValueError("it cuts from a photo of any size; resize before")
    return replace(steps, cropped=(size, size) if isinstance(size, int) else size)


def _grey(steps: _Steps, step: Any) -> _Steps:
    if step.num_output_channels != 1:
        raise ValueError("it makes three equal channels")
    if steps.tensor:
        raise ValueError("on tensors it rounds otherwise than on photos; put it before the photo becomes a tensor")
    if steps.cropped is None and steps.resize is None:
        raise ValueError("the photo is made grey before it is resized; put it behind")
    return replace(steps, grey=True)


def _to_tensor(steps: _Steps, step: Any) -> _Steps:
    return replace(_as_tensor(steps, step), scale=1 / 255, floating=True)


def _as_tensor(steps: _Steps, step: Any) -> _Steps:
    if steps.tensor:
        raise ValueError("the photo is a tensor before")
    return replace(steps, tensor=True)


def _convert(steps: _Steps, step: Any) -> _Steps:
    dtype = step.dtype[torch.Tensor] if isinstance(step.dtype, Mapping) and torch.Tensor in step.dtype else step.dtype
    if dtype != torch.float32:
        raise ValueError(f"it makes {dtype} of the pixels, and nets read float32")
    if not steps.tensor:
        raise ValueError("the photo is no tensor there")
    if steps.floating:
        return steps
    if not getattr(step, "scale", True):  # ConvertImageDtype has no choice
        return replace(steps, floating=True)
    return replace(steps, scale=PRODUCT if ".v2." in type(step).__module__ else 1 / 255, floating=True)


def _normalise(steps: _Steps, step: Any) -> _Steps:
    if not steps.floating:
        raise ValueError("the photo is no tensor of float32 there")
    if steps.mean is not None:
        raise ValueError("there are two of it")
    return replace(steps, mean=tuple(map(float, step.mean)), std=tuple(map(float, step.std)))


def _preset(steps: _Steps, step: Any) -> _Steps:
    if steps != _Steps():
        raise ValueError("something comes before it")
    resize, crop = _sides(step.resize_size), _sides(step.crop_size)
    return _Steps(
        resize=resize,
        interpolation=_interpolation(step.interpolation),
        cropped=(crop, crop) if isinstance(crop, int) else crop,
        tensor=True,
        floating=True,
        scale=1 / 255,
        mean=tuple(map(float, step.mean)),
        std=tuple(map(float, step.std)),
    )


def _nothing(steps: _Steps, step: Any) -> _Steps:
    return steps


READERS: dict[str, Callable[[_Steps, Any], _Steps]] = {
    "Resize": _resize,
    "CenterCrop": _crop,
    "Grayscale": _grey,
    "ToTensor": _to_tensor,
    "MaybeToTensor": _to_tensor,
    "PILToTensor": _as_tensor,
    "ToImage": _as_tensor,
    "ToImageTensor": _as_tensor,
    "ConvertImageDtype": _convert,
    "ConvertDtype": _convert,
    "ToDtype": _convert,
    "Normalize": _normalise,
    "ImageClassification": _preset,
    "ToPureTensor": _nothing,
    "Identity": _nothing,
}
"""Class of torchvision -> what it does to a photo."""


def _sides(size: Any) -> int | tuple[int, int]:
    """A shorter side, or (height, width)."""
    if isinstance(size, int):
        return size
    sides = tuple(size)
    if not all(isinstance(side, int) for side in sides) or len(sides) not in (1, 2):
        raise ValueError(f"its size is {size!r}")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _interpolation(chosen: Any) -> str:
    name = str(getattr(chosen, "value", chosen)).lower()
    name = "nearest" if name == "nearest-exact" else name  # the same on photos
    if name not in INTERPOLATIONS:
        raise ValueError(f"its interpolation is {name}")
    return name


def _extent(steps: _Steps) -> str:
    made = steps.cropped or steps.resize
    if made is None:
        return "any size"
    return f"{made} pixels on the shorter side" if isinstance(made, int) else f"{made[0]} x {made[1]}"


def _finished(steps: _Steps, size: tuple[int, int], channels: int) -> Preprocessing:
    if not steps.floating:
        raise ModelError("The transforms do not make a float32 tensor of the photo. Add ToTensor.")
    if (steps.cropped or steps.resize) != size:
        raise ModelError(
            f"The transforms make images of {_extent(steps)}, and the model reads {size[0]} x {size[1]} (height x "
            f"width). End them with CenterCrop(({size[0]}, {size[1]}))."
        )
    if steps.grey != (channels == 1):
        raise ModelError(
            f"The transforms make {'one channel' if steps.grey else 'three channels'}, and the model reads {channels}."
        )
    whole = steps.cropped is None or steps.cropped == steps.resize
    try:
        return Preprocessing(
            size,
            resize=None if whole else steps.resize,
            pixel_scale=steps.scale,
            mean=steps.mean or (0.0,),
            std=steps.std,
            channels=channels,
            interpolation=steps.interpolation,  # type: ignore[arg-type]
            crop_mode=None if whole else "center" if isinstance(steps.resize, int) else "squash",
        )
    except (ValueError, TypeError) as error:
        raise ModelError(f"The transforms cannot be done alike here: {error}") from error
