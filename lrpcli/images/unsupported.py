"""How a picture stores its pixels that is whole, but for which Pillow has no decoder, or a wrong one."""

import io
import struct
from collections.abc import Collection
from typing import BinaryIO

from PIL import Image, TiffImagePlugin

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _CHANNELS, _SAMPLE_FORMAT = 256, 257, 258, 259, 277, 339
_STRIPS, _TILES, _PLANES = 273, 324, 284
_SIGNED, _SEPARATE = 2, 2
_NUMBERS = {1: "whole numbers", 2: "whole numbers with a sign", 3: "floating point", 5: "complex", 6: "complex"}
_UNKNOWN_NUMBERS = "numbers of an unknown kind"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_USUAL_FRAMES = (0xC0, 0xC1, 0xC2)
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}


def unsupported_layout(stream: BinaryIO, formats: Collection[str], *, opened: bool) -> str | None:
    """How a JPEG or TIFF at the stream's start stores its pixels, if Pillow has no decoder for that; None for others.

    To be asked when Pillow has failed; `opened`: not yet at the header, so that a TIFF's layout is one that it knows.
    """
    try:
        stream.seek(0)
        start = stream.read(4)
        stream.seek(0)
        if start.startswith(b"\xff\xd8") and "JPEG" in formats:
            return _jpeg_layout(stream)
        if start in TiffImagePlugin.PREFIXES and "TIFF" in formats and not opened:
            return _tiff_layout(stream)
    except Exception:  # Pillow raises nearly anything on a broken directory
        return None
    return None


def misread_layout(image: Image.Image) -> str | None:
    """How an opened TIFF stores its pixels, if Pillow would make other pixels of it without a word; else None."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    bits = tags.get(_BITS, (1,))
    if _SIGNED in tags.get(_SAMPLE_FORMAT, ()) and max(bits) <= 8:
        return "bytes with a sign"
    if tags.get(_PLANES) == _SEPARATE and len(bits) > 1 and max(bits) > 8:
        return f"planes of {max(bits)} bits that lie one behind the other"
    return None


def _tiff_layout(stream: BinaryIO) -> str | None:
    header = stream.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(header + (stream.read(8) if 43 in header[2:4] else b""))
    stream.seek(tags.next)
    tags.load(stream)
    # Without these the directory itself is broken.
    if not (tags.get(_WIDTH) and tags.get(_HEIGHT) and tags.get(_BITS) and (_STRIPS in tags or _TILES in tags)):
        return None
    bits, channels, compression = tags[_BITS], tags.get(_CHANNELS, 1), tags.get(_COMPRESSION, 1)
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        return f"pixels packed by the method {compression}"
    kinds = {_NUMBERS.get(kind, _UNKNOWN_NUMBERS) for kind in tags.get(_SAMPLE_FORMAT, (1,))}
    return f"{_channels(channels)} of {' or '.join(map(str, sorted(set(bits))))} bits ({', '.join(sorted(kinds))})"


def _jpeg_layout(stream: BinaryIO) -> str | None:
    """From the frame header, if that is not of 8 bits in 1, 3 or 4 channels and a process that libjpeg knows."""
    stream.read(2)
    while len(segment := stream.read(2)) == 2:
        marker = segment[1]
        if segment[0] != 0xFF or marker in _WITHOUT_LENGTH:
            return None
        (length,) = struct.unpack(">H", stream.read(2))
        if marker not in _FRAMES:
            stream.seek(length - 2, io.SEEK_CUR)
            continue
        bits, _, _, channels = struct.unpack(">BHHB", stream.read(6))
        if bits != 8 or channels not in (1, 3, 4):
            return f"{_channels(channels)} of {bits} bits"
        return None if marker in _USUAL_FRAMES else f"pixels packed by the process of the marker {marker:#04x}"
    return None


def _channels(count: int) -> str:
    return f"{count} channel" + ("" if count == 1 else "s")
