"""Which files count as pictures, and under which conditions they are decoded. Imports nothing heavy."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from lrpcli.errors import UsageError
from lrpcli.setting import setting

MAX_PIXELS = 89_478_485

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)
"""How photos are resized: Pillow's filters by name."""

# Pillow's name of each format, and the suffixes (lower case) by which its files are found in folders.
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif", ".avifs"),
}
_OTHER_NAMES = {"JPG": "JPEG", "MPO": "JPEG", "TIF": "TIFF", "DIB": "BMP", "PGM": "PPM", "PBM": "PPM", "PNM": "PPM"}

DEFAULT_FORMATS = tuple(_SUFFIXES)
IMAGE_SUFFIXES = frozenset(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)


class DamagedError(ValueError):
    """A picture can be decoded, but what comes out is not what was stored; the text says how that is known."""


@dataclass(frozen=True)
class DecodePolicy:
    """What decode accepts: `formats` by Pillow's names, at most `max_pixels`, and `truncated` or damaged files or not.

    UsageError if a format is EPS or unknown to Pillow, or if a value cannot be used.

    >>> import lrpcli
    >>> policy = lrpcli.DecodePolicy(formats=("JPEG",), truncated="accept")
    >>> lrpcli.explain("cat.jpg", "cifar10", decoding=policy).map.shape
    (32, 32)
    """

    formats: tuple[str, ...] = setting(
        DEFAULT_FORMATS, flags=("--allow-format",), metavar="FORMAT",
        help="Decode only these formats.",
    )  # fmt: skip
    max_pixels: int = setting(MAX_PIXELS, help="Refuse larger images.", metavar="N", least=1)
    truncated: str = setting(
        "refuse", help="What to do with images that are cut off or damaged.", metavar="refuse|accept"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "formats", tuple(dict.fromkeys(_checked_format(name) for name in self.formats)))
        if not self.formats:
            raise UsageError("No image format is allowed, so no image could be decoded; allow at least one.")
        if self.max_pixels < 1:
            raise UsageError(f"The largest number of pixels must be at least 1, not {self.max_pixels}.")
        if self.truncated not in ("refuse", "accept"):
            raise UsageError(f"Truncated files are handled by 'refuse' or 'accept', not {self.truncated!r}.")


def image_suffixes(formats: Iterable[str]) -> frozenset[str]:
    """The suffixes, lower case with the dot, of files in these formats (names as in DecodePolicy.formats)."""
    found: set[str] = set()
    for name in formats:
        found.update(_SUFFIXES.get(name) or _registered_suffixes(name))
    return frozenset(found)


def _checked_format(given: str) -> str:
    name = given.strip().upper()
    name = _OTHER_NAMES.get(name, name)
    if name in _SUFFIXES:
        return name
    if name in ("EPS", "PS"):
        raise UsageError("EPS files are programs, not pixels, and are never opened; convert them to PNG first.")
    from PIL import Image

    Image.init()
    if name not in Image.OPEN:
        close = difflib.get_close_matches(name, Image.OPEN, n=1)
        hint = f" Did you mean {close[0]}?" if close else f" The usual ones are {', '.join(DEFAULT_FORMATS)}."
        raise UsageError(f"There is no image format {given!r}.{hint}")
    return name


def _registered_suffixes(name: str) -> list[str]:
    from PIL import Image

    return [suffix for suffix, format_name in Image.registered_extensions().items() if format_name == name]
