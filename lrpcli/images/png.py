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


def needed_chunks(stream: BinaryIO, *, check: bool = True) -> BinaryIO:
    """The PNG at the stream's start, of its chunks only those that decide about pixels and orientation.

    These are the critical ones, tRNS, eXIf, and texts in which an orientation may stand; all others are passed over
    unread, whatever their size and checksum. What has a broken header is kept for the decoder to complain about.
    With `check`, DamagedError if the packed pixels are not what was written; Pillow looks at none of their checksums.
    """
    parts, pixels, whole, surplus = [stream.read(len(SIGNATURE))], [], True, False
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
        right = checksum == struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
        if name == b"IDAT":
            pixels.append(data)
            whole = whole and right
        elif name == b"eXIf" or name in _TEXTS:
            keyword = b"" if name == b"eXIf" else data.partition(b"\0")[0]
            if not right or keyword in keywords or not (name == b"eXIf" or _may_orient(name, keyword, data)):
                surplus = True
                continue
            keywords.add(keyword)
        parts += [header, data, checksum]
        if name == b"IEND":
            break
    if check and not whole and not _is_whole(pixels):
        raise DamagedError("the checksum of its pixels is wrong")
    stream.seek(0)
    return io.BytesIO(b"".join(parts)) if surplus else stream


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


def _is_whole(pixels: list[bytes]) -> bool:
    """Whether packed pixels have the checksum of their own that they end with; a chunk's may be wrong by itself."""
    unpacking = zlib.decompressobj()
    try:
        for data in pixels:
            rest = data
            while rest and not unpacking.eof:
                unpacking.decompress(rest, BLOCK)
                rest = unpacking.unconsumed_tail
    except zlib.error:
        return False
    return unpacking.eof
