"""Pixels of any kind -> RGB, by the rules written down in docs/images.md."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lrpcli.errors import ImageError

_ORIENTATION_TAG, _BITS_TAG, _PHOTOMETRIC_TAG = 0x0112, 258, 262
_WHITE_IS_ZERO = 0
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A transparent grey is stored in the depth of the file, but its pixels arrive spread over 0..255.
_GREY_FACTORS = {"L;2": 85, "L;4": 17}


def upright(image: Image.Image) -> Image.Image:
    """The loaded image turned as its EXIF orientation says; unreadable EXIF data counts as none."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
        method = _UPRIGHT.get(orientation)  # type: ignore[arg-type]
    except Exception:  # Pillow raises nearly anything on broken EXIF data, which is no reason to lose the photo
        method = None
    return image if method is None else image.transpose(method)


def to_rgb(image: Image.Image, what: str, raw_mode: str | None = None) -> Image.Image:
    """A new RGB image of the loaded `image`; `what` names it in errors.

    `raw_mode` is how the pixels lie in the file (Pillow's name), which decides what a transparent colour means.
    ImageError `unsupported` for pixels whose range is not known.
    """
    if image.mode == "F":
        raise ImageError("unsupported", f"{what} holds floating-point pixels. Convert it to 8 or 16 bits per channel.")
    colour = image.info.pop("transparency", None) if image.mode in ("1", "L", "RGB", "I;16") else None
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_deep_grey(image, what, colour)
    if image.has_transparency_data:
        return _on_white(image)
    try:
        rgb = image.convert("RGB")
    except ValueError as error:
        raise ImageError("unsupported", f"{what} holds pixels of the mode {image.mode}, for which there is no rule."
                         " Convert it to RGB.") from error  # fmt: skip
    return rgb if colour is None else _colour_to_white(rgb, colour, raw_mode)


def _on_white(image: Image.Image) -> Image.Image:
    """Alpha composited on white; a colour that lies under full transparency does not show."""
    if image.mode == "La":  # the only mode with alpha that has no direct way
        image = image.convert("LA")
    layers = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(layers.convert("RGB"), mask=layers.getchannel("A"))
    return white


def _colour_to_white(rgb: Image.Image, colour: Any, raw_mode: str | None) -> Image.Image:
    """Pixels of the one transparent colour (PNG's tRNS, GIF) become white."""
    channels = np.array(colour if isinstance(colour, tuple) else (colour,) * 3)
    if raw_mode == "RGB;16B":
        channels >>= 8  # of 16 bits Pillow keeps the upper eight
    channels *= _GREY_FACTORS.get(raw_mode or "", 1)
    pixels = np.array(rgb)  # (H, W, 3)
    pixels[(pixels == channels).all(axis=2)] = 255
    return Image.fromarray(pixels)


def _from_deep_grey(image: Image.Image, what: str, transparent: Any) -> Image.Image:
    """Grey of 9 to 16 bits scaled to 8; `transparent` is the value that stands for transparent, or None."""
    values = np.asarray(image)
    if image.mode == "I" and (values.min() < 0 or values.max() > 0xFFFF):
        raise ImageError(
            "unsupported",
            f"{what} holds whole numbers beyond 16 bits ({values.min()} to {values.max()}), and it is not known which "
            "of them is white. Convert it to 8 or 16 bits per channel.",
        )
    table = _grey_table(getattr(image, "tag_v2", {}))
    if isinstance(transparent, int):
        table[transparent] = 255
    return Image.fromarray(table[values]).convert("RGB")


def _grey_table(tags: Any) -> npt.NDArray[np.uint8]:
    """(65536,): the 8-bit grey of each value. TIFF's 12-bit values arrive unscaled, and its white may be zero."""
    bits = tags.get(_BITS_TAG, (16,))[0]
    white = 2**bits - 1 if 8 < bits < 16 else 0xFFFF
    greys: npt.NDArray[np.uint8] = np.minimum((np.arange(0x10000) * 255 + white // 2) // white, 255).astype(np.uint8)
    return greys[::-1].copy() if tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO else greys
