"""What a program calls an image -> a photo, decoded by the rules of the command."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lrpcli.errors import UsageError
from lrpcli.images.decode import DecodePolicy, decode_opened
from lrpcli.images.find import Source
from lrpcli.paths import require_path

Pixels = NDArray[np.uint8]
KINDS = (
    "a path, a PIL image, an array (H, W, 3) of uint8 in RGB, a tensor (3, H, W) of uint8 in RGB, or a list of those"
)
"""What explain takes, for messages."""
ENCODED = (bytes, bytearray, memoryview, io.IOBase)
"""Content of files that is not decoded yet."""


def is_one(images: object) -> bool:
    """Whether what explain was given is one image; else it is many. UsageError for what is neither."""
    if isinstance(images, (str, os.PathLike, Image.Image, np.ndarray, Tensor)):
        return True
    if isinstance(images, (Mapping, Set)):
        raise UsageError(
            f"Images are given in an order that their results keep, which a {type(images).__name__} does not say: give "
            "a list of them."
        )
    if isinstance(images, ENCODED) or not isinstance(images, Iterable):
        raise _not_an_image(images, "An image")
    return False


def numbered(images: Iterable[Any]) -> Iterator[tuple[Source, Any]]:
    """Each image with its source: a path as it is, anything else "image 3" by its place from 1."""
    for number, image in enumerate(images, 1):
        if isinstance(image, (str, os.PathLike)):
            path = os.fsdecode(image)
            require_path(path, "The image")
            yield Source(path, os.path.basename(path)), image  # noqa: PTH119 - a Path would change what was given
        else:
            yield Source(f"image {number}", f"image {number}"), image


def photo_of(image: Any, name: str, policy: DecodePolicy) -> Image.Image:
    """The photo of an image that is no path, upright and in mode RGB; `name` is what errors call it.

    A PIL image gets the rules of files: EXIF orientation, alpha on white, 16 bits scaled. Arrays and tensors hold
    pixels of 0 to 255 as uint8, for what other numbers mean cannot be known. UsageError for what is no image, else the
    ImageError of decode_opened.
    """
    what = f"The image {name!r}"
    if isinstance(image, Tensor):
        image = _picture(_array_of(image, what))
    elif isinstance(image, np.ndarray):
        _check_array(image, what)
        image = _picture(image)
    if not isinstance(image, Image.Image):
        raise _not_an_image(image, what)
    return decode_opened(image, policy, what)


def _array_of(tensor: Tensor, what: str) -> Pixels:
    """The pixels (H, W, 3) of a tensor (3, H, W)."""
    shape, kind = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    if kind != "uint8":
        raise UsageError(
            f"{what} is a tensor of {kind}. Whether its numbers are 0 to 1, 0 to 255 or already preprocessed cannot be "
            "known: give pixels of 0 to 255 as torch.uint8, or explain what is preprocessed with "
            "lrpcli.Explainer(model)(x)."
        )
    if len(shape) == 4:
        raise _batch(shape, what, "tensor")
    if len(shape) != 3 or shape[0] != 3 or 0 in shape:
        hint = " Turn it with tensor.permute(2, 0, 1)." if len(shape) == 3 and shape[2] == 3 else ""
        raise UsageError(f"{what} is a tensor of the shape {shape}; a photo is one of (3, H, W).{hint}")
    try:
        pixels: Pixels = tensor.detach().cpu().permute(1, 2, 0).numpy()
    except (RuntimeError, TypeError) as error:  # of a sparse tensor, or one without values
        raise UsageError(f"{what} is a tensor whose pixels cannot be read: {str(error).partition('.')[0]}.") from error
    return pixels


def _check_array(array: Pixels, what: str) -> None:
    """UsageError unless it holds pixels (H, W, 3), or (H, W) for grey."""
    shape = array.shape
    if isinstance(array, np.ma.MaskedArray):
        raise UsageError(f"{what} is a masked array. What is masked has no colour: give array.filled(...).")
    if array.dtype != np.uint8:
        raise UsageError(
            f"{what} is an array of {array.dtype}. Whether its numbers are 0 to 1, 0 to 255 or something else cannot "
            "be known: give pixels of 0 to 255 as numpy.uint8."
        )
    if len(shape) == 4:
        raise _batch(shape, what, "array")
    if len(shape) not in (2, 3) or shape[2:] not in ((), (3,)) or 0 in shape:
        hint = ""
        if len(shape) == 3 and shape[0] == 3:
            hint = " Turn it with array.transpose(1, 2, 0)."
        elif shape[2:] == (4,):
            hint = " What the fourth channel means cannot be known: give Image.fromarray(array, 'RGBA') if it is alpha."
        raise UsageError(
            f"{what} is an array of the shape {shape}; a photo is one of (H, W, 3), or of (H, W) for grey.{hint}"
        )


def _picture(array: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(array))


def _batch(shape: tuple[int, ...], what: str, kind: str) -> UsageError:
    return UsageError(
        f"{what} is a batch: {'an' if kind == 'array' else 'a'} {kind} of the shape {shape}. Give list({kind}), which "
        "is a list of single images."
    )


def _not_an_image(given: object, what: str) -> UsageError:
    kind = type(given).__name__
    hint = ""
    if isinstance(given, ENCODED):
        hint = " Open what a file holds with PIL.Image.open, which takes an open file or io.BytesIO(data)."
    return UsageError(f"{what} is {KINDS}, not an object of type {kind}.{hint}")
