"""Pictures as the content of files. Imports nothing heavy until one is made."""

import io
from typing import TYPE_CHECKING

from lrpcli.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {"png": ".png", "webp": ".webp", "jpeg": ".jpg", "pdf": ".pdf", "svg": ".svg"}
"""The formats of pictures, and how the names of their files end."""
VECTOR = ("pdf", "svg")
"""Those that hold text and lines as such; only figures have any."""
LOSSY = ("webp", "jpeg")
QUALITY = 90
"""Of WebP and JPEG, where nothing else is said: the photo looks as it does in a PNG."""
LONGEST = {"webp": 16383, "jpeg": 65500}
"""Pixels of a side that a format has room for."""
RUN_LENGTHS = 3
"""zlib's name, Z_RLE, for looking for repeated bytes alone: photos hold little else to find."""


def picture_bytes(picture: "Image.Image", picture_format: str = "png", quality: int | None = None) -> bytes:
    r"""An RGB picture as the content of a PNG, WebP or JPEG file, with nothing in it but the picture.

    Colours are kept at full resolution in JPEG files, as relevance is nothing but colour. ImageError for a picture that
    the format has no room for.

    >>> from PIL import Image
    >>> from lrpcli.pictures.encode import picture_bytes
    >>> picture_bytes(Image.new("RGB", (8, 8)), "jpeg", quality=80)[:3]
    b'\xff\xd8\xff'
    """
    if picture_format == "png":
        return png_bytes(picture)
    if max(picture.size) > LONGEST[picture_format]:
        raise ImageError(
            "too_large",
            f"A picture of {picture.width} x {picture.height} pixels has no room in the format {picture_format}, whose "
            f"sides have {LONGEST[picture_format]} at most. Take --picture-format png or a smaller --overlay-size.",
        )
    buffer = io.BytesIO()
    if picture_format == "jpeg":
        picture.save(buffer, "JPEG", quality=quality or QUALITY, subsampling=0)
    else:
        picture.save(buffer, "WEBP", quality=quality or QUALITY, method=2)
    return buffer.getvalue()


def png_bytes(picture: "Image.Image") -> bytes:
    """A picture as the content of a PNG file; packed in half the usual time, and a fourteenth larger for it."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1, compress_type=RUN_LENGTHS)
    return buffer.getvalue()
