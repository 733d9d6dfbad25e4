"""A picture that marks an object -> which pixels are marked: those that are not zero, where that is beyond doubt."""

from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lrpcli.errors import ImageError, UsageError
from lrpcli.images.decode import decode_as
from lrpcli.images.formats import DecodePolicy

FORMATS = ("PNG", "GIF", "BMP", "TIFF", "PPM")
"""What keeps every pixel; JPEG, WebP and AVIF may make others of zeros."""
_LOSSY = ("jpeg", "tiff_jpeg", "webp")
_PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 262, 0


def mask_policy(policy: DecodePolicy) -> DecodePolicy:
    """How masks are decoded, beside photos under `policy`: without loss, and whole.

    UsageError if it allows none of FORMATS.
    """
    formats = tuple(name for name in FORMATS if name in policy.formats)
    if not formats:
        raise UsageError(
            f"Masks are decoded from {', '.join(FORMATS)}, and --allow-format allows none of these. Allow PNG too."
        )
    return replace(policy, formats=formats, truncated="refuse")


def decode_mask(source: str | Path | BinaryIO, policy: DecodePolicy, what: str) -> NDArray[np.bool_]:
    """(H, W): which pixels of the upright picture are not zero; `policy` as mask_policy gives it.

    Raises ImageError as decode does, and unsupported where it is open what zero is: see marked_pixels.

    >>> import io
    >>> from PIL import Image
    >>> from lrpcli.images.formats import DecodePolicy
    >>> from lrpcli.images.masks import decode_mask, mask_policy
    >>> file, picture = io.BytesIO(), Image.new("L", (3, 2))
    >>> picture.putpixel((2, 0), 7)
    >>> picture.save(file, "PNG")
    >>> decode_mask(io.BytesIO(file.getvalue()), mask_policy(DecodePolicy()), "The mask").tolist()
    [[False, False, True], [False, False, False]]
    """
    return decode_as(marked_pixels, source, policy, what)


def marked_pixels(image: Image.Image, what: str, raw_mode: str | None = None) -> NDArray[np.bool_]:
    """(H, W): where a loaded picture is not zero: its grey, any of its colours, or its number in a palette.

    ImageError unsupported for what is not opaque, for a palette in which a number other than 0 is black or 0 is
    another colour, and for pixels that are neither grey nor RGB.
    """
    mode = image.mode
    if image.info.get("compression") in _LOSSY:
        raise _no_mask(what, "is compressed with loss, so that zeros may have become other values")
    if not _is_opaque(image):
        raise _no_mask(what, "is transparent in places, and whether these are the object is not known")
    if mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
        raise _no_mask(what, "says that zero is white")
    if mode in ("1", "L", "I") or mode.startswith("I;16"):
        return np.asarray(np.asarray(image) != 0)
    if mode not in ("P", "LA", "RGB", "RGBA"):
        raise _no_mask(what, f"holds pixels of the mode {mode}")
    coloured = np.asarray(np.asarray(image.convert("RGB")).any(2))
    if mode == "P" and not np.array_equal(coloured, np.asarray(image) != 0):
        raise _no_mask(what, "has a palette in which black is not the colour 0 alone")
    return coloured


def _is_opaque(image: Image.Image) -> bool:
    if not image.has_transparency_data and "transparency" not in image.info:
        return True
    if image.mode not in ("P", "LA", "RGBA"):  # a colour that stands for transparent
        return False
    return bool(image.convert("RGBA").getchannel("A").getextrema() == (255, 255))


def _no_mask(what: str, reason: str) -> ImageError:
    return ImageError("unsupported", f"{what} {reason}. Save it as a PNG in grey: 0 around the object, 255 in it.")
