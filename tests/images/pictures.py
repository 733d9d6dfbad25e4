"""Small pictures for the tests, and what they should fail with."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lrpcli.errors import ImageError
from lrpcli.images.decode import DecodePolicy, decode


def smooth(height: int = 48, width: int = 64) -> Image.Image:
    """No two corners alike, and gentle enough for lossy formats."""
    down, across = np.mgrid[0:height, 0:width]
    pixels = np.stack([down * 255 // height, across * 255 // width, (down + across) * 255 // (height + width)], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def saved(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def failure(source: object, policy: DecodePolicy | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(source, policy or DecodePolicy())
    return caught.value


def chunk(name: bytes, data: bytes, *, right: bool = True) -> bytes:
    """A chunk of a PNG, with its right checksum or another."""
    checksum = zlib.crc32(name + data) ^ (not right)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes], interlaced: int = 0
) -> bytes:
    """A PNG put together by hand: `rows` are the scan lines with their filter bytes."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in parts)


def tiff(bits: int, photometric: int, data: bytes, width: int) -> bytes:
    """An uncompressed grey TIFF of one row."""
    tags = [
        (256, width),
        (257, 1),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, len(data)),
    ]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    body = data + b"\0" * (-len(data) % 2)
    head = b"II*\0" + struct.pack("<I", 8 + len(body))
    return head + body + struct.pack("<H", len(tags)) + directory + b"\0\0\0\0"


def bands_tiff(
    bits: list[int],
    numbers: int,
    photometric: int,
    data: bytes,
    *,
    order: str = "<",
    more: tuple[int, ...] = (),
    compression: int = 1,
    planes: int = 1,
) -> bytes:
    """An uncompressed TIFF of 20 x 10 pixels: `numbers` is the sample format, `more` describes extra channels."""
    count = len(bits) if planes == 2 else 1
    lengths = [len(data) // count] * count
    tags: list[tuple[int, str, list[int]]] = [
        (256, "I", [20]), (257, "I", [10]), (258, "H", bits), (259, "H", [compression]), (262, "H", [photometric]),
        (273, "I", [0] * count), (277, "H", [len(bits)]), (278, "I", [10]), (279, "I", lengths), (284, "H", [planes]),
        *([(338, "H", list(more))] if more else []), (339, "H", [numbers] * len(bits)),
    ]  # fmt: skip
    long = [struct.calcsize(kind) * len(values) for _, kind, values in tags if struct.calcsize(kind) * len(values) > 4]
    outside = 8 + 2 + 12 * len(tags) + 4
    entries, blocks = b"", b""
    places = [outside + sum(long) + part * lengths[0] for part in range(count)]
    for tag, kind, values in tags:
        raw = struct.pack(f"{order}{len(values)}{kind}", *(places if tag == 273 else values))
        entries += struct.pack(f"{order}HHI", tag, 3 if kind == "H" else 4, len(values))
        entries += raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(f"{order}I", outside + len(blocks))
        blocks += raw if len(raw) > 4 else b""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return start + entries + b"\0\0\0\0" + blocks + data
