"""A PNG without what its pixels do not need: texts, profiles, animations. Pillow reads them, and fails for some."""

import io
import struct
import zlib
from typing import BinaryIO

from lrpcli.images.formats import DamagedError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAXIMAL_TEXT = 1 << 20
"""Bytes of an unpacked text in which an orientation is looked for; Pillow fails beyond that."""
BLOCK = 1 << 20
_ANCILLARY = 0x20
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTATIONS = (b"XML:com.adobe.xmp", b"Raw profile type exif")
"""Keywords of the texts that may say how the photo is turned."""
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by the header's type of colour."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced picture's passes: the first column and row, and the steps to the next ones."""


def needed_chunks(stream: BinaryIO) -> BinaryIO:
    """The PNG at the stream's start, of its chunks only those that decide about pixels and orientation.

    These are the critical ones, tRNS, eXIf, and texts in which an orientation may stand; all others are passed over
    unread, whatever their size and checksum. What has a broken header is kept for the decoder to complain about.
    """
    parts, surplus = [stream.read(len(SIGNATURE))], False
    keywords: set[bytes] = set()
    while len(header := stream.read(8)) == 8:
        length, name = struct.unpack(">I4s", header)
        if not name.isalpha():
            parts += [header, stream.read()]
            break
        if _is_surplus(name, length):
            stream.seek(length + 4, io.SEEK_CUR)
            surplus = True
            continue
        data, checksum = stream.read(length), stream.read(4)
        if name == b"eXIf" or name in _TEXTS:
            keyword = b"" if name == b"eXIf" else data.partition(b"\0")[0]
            if (
                not _is_right(name, data, checksum)
                or keyword in keywords
                or not (name == b"eXIf" or _may_orient(name, keyword, data))
            ):
                surplus = True
                continue
            keywords.add(keyword)
        parts += [header, data, checksum]
        if name == b"IEND":
            break
    stream.seek(0)
    return io.BytesIO(b"".join(parts)) if surplus else stream


def require_whole(stream: BinaryIO) -> None:
    """DamagedError if a PNG is cut off, or its packed pixels are fewer than its size needs, or not what was written.

    Pillow looks at none of their checksums, and shows what is missing as black. Its own errors, which come later, are
    left to it. The stream stands at its start behind it.
    """
    stream.seek(len(SIGNATURE))
    needed, pixels, right, ended = 0, [], True, False
    while not ended and len(header := stream.read(8)) == 8:
        length, name = struct.unpack(">I4s", header)
        data, checksum = stream.read(length), stream.read(4)
        if name == b"IHDR":
            needed = _unpacked_bytes(data)
        elif name == b"IDAT":
            pixels.append(data)
            right = right and _is_right(name, data, checksum)
        ended = name == b"IEND" and len(checksum) == 4
    stream.seek(0)
    if not ended:
        raise DamagedError("it is cut off, or broken before its end")
    _require_pixels(pixels, needed, right)


def _is_right(name: bytes, data: bytes, checksum: bytes) -> bool:
    return checksum == struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def _unpacked_bytes(header: bytes) -> int:
    """How many bytes the pixels have: rows of each pass, a byte before each that names its filter."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    bits = depth * _SAMPLES.get(colour, 0)
    total = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        total += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    return total


def _is_surplus(name: bytes, length: int) -> bool:
    if name in _TEXTS:
        return length > MAXIMAL_TEXT
    return bool(name[0] & _ANCILLARY) and name not in (b"tRNS", b"eXIf")


def _may_orient(name: bytes, keyword: bytes, data: bytes) -> bool:
    """Whether a text may hold an orientation, and is small once it is unpacked."""
    if keyword not in _ORIENTATIONS:
        return False
    text = data[len(keyword) + 1 :]
    if name == b"zTXt":
        return _is_small(text[1:])
    return name == b"tEXt" or text[:1] != b"\1" or _is_small(text[2:].split(b"\0", 2)[-1])


def _is_small(packed: bytes) -> bool:
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed, MAXIMAL_TEXT)
    except zlib.error:
        return False
    return not unpacking.unconsumed_tail


def _require_pixels(pixels: list[bytes], needed: int, right: bool) -> None:
    """Unpacks pixels, of right ones no more than needed, as a chunk's checksum may be wrong beside right pixels."""
    unpacking, found = zlib.decompressobj(), 0
    try:
        for data in pixels:
            rest = data
            while rest and not unpacking.eof and not (right and found >= needed):
                found += len(unpacking.decompress(rest, BLOCK))
                rest = unpacking.unconsumed_tail
    except zlib.error:
        found = needed
    if not right and not unpacking.eof:
        raise DamagedError("the checksum of its pixels is wrong")
    if unpacking.eof and found < needed:
        raise DamagedError(f"its pixels end after {found} of {needed} bytes")
