import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from lrpcli.images.decode import DecodePolicy, decode
from lrpcli.images.png import needed_chunks
from tests.images.pictures import chunk, failure, png, saved, smooth

WHOLE = saved(smooth(), "PNG")
BEHIND_HEADER = 33
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
EXIF = b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
BOMB = zlib.compress(bytes(1 << 26), 9)


def with_chunks(*chunks: bytes, last: bool = False) -> bytes:
    place = len(WHOLE) - 12 if last else BEHIND_HEADER
    return WHOLE[:place] + b"".join(chunks) + WHOLE[place:]


def place_of_pixels(content: bytes) -> tuple[int, int]:
    start = content.index(b"IDAT")
    return start + 4, start + 4 + int.from_bytes(content[start - 4 : start], "big")


SURPLUS = {
    "a long text": chunk(b"tEXt", b"a\0" + b"x" * (3 << 20)),
    "much text": chunk(b"tEXt", b"a\0" + b"x" * (1 << 20)) * 80,
    "packed text": chunk(b"zTXt", b"a\0\0" + BOMB),
    "broken text": chunk(b"zTXt", b"a\0\0no stream"),
    "unknown packing": chunk(b"zTXt", b"a\0\7text"),
    "empty text": chunk(b"zTXt", b""),
    "international text": chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB),
    "packed profile": chunk(b"iCCP", b"a\0\0" + BOMB),
    "broken profile": chunk(b"iCCP", b"a\0\0no stream"),
    "packed xmp": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB) * 3,
    "much xmp": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 900_000) * 80,
    "packed exif text": chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB),
    "no exif text": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 10\nzz")),
    "wrong checksum of a text": chunk(b"tEXt", b"a\0b", right=False),
    "wrong checksum of gamma": chunk(b"gAMA", b"\0\0\0\1", right=False),
    "wrong checksum of exif": chunk(b"eXIf", EXIF, right=False),
    "no exif": chunk(b"eXIf", b"x" * (1 << 24)),
    "short gamma": chunk(b"gAMA", b""),
    "short density": chunk(b"pHYs", b"1"),
    "broken animation": chunk(b"acTL", b"1") + chunk(b"fcTL", b"2"),
    "a private chunk": chunk(b"abCd", bytes(1 << 24)),
}


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("name", SURPLUS)
def test_what_the_pixels_do_not_need_never_fails(name, last):
    content = with_chunks(SURPLUS[name], last=last)
    for policy in (DecodePolicy(), DecodePolicy(truncated="accept")):
        image = decode(io.BytesIO(content), policy)
        assert np.array_equal(np.asarray(image), np.asarray(smooth()))


@pytest.mark.parametrize(
    "turning",
    [
        chunk(b"eXIf", EXIF),
        chunk(b"eXIf", EXIF + bytes(1 << 24)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
        chunk(
            b"zTXt",
            b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 32\n" + (b"Exif\0\0" + EXIF).hex().encode()),
        ),
    ],
    ids=["exif", "long exif", "xmp", "packed xmp", "exif text"],
)
def test_an_orientation_is_found_wherever_it_stands(turning):
    image = decode(io.BytesIO(with_chunks(chunk(b"zTXt", b"a\0\0" + BOMB), turning)))
    assert np.array_equal(np.asarray(image), np.asarray(smooth().transpose(Image.Transpose.ROTATE_270)))


def test_surplus_is_neither_unpacked_nor_read():
    content = with_chunks(chunk(b"iCCP", b"a\0\0" + BOMB), chunk(b"tEXt", b"a\0" + bytes(1 << 26)))
    stream = io.BytesIO(content)
    tracemalloc.start()
    kept = needed_chunks(stream)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept.getvalue()) == len(WHOLE) and peak < 1 << 20


def test_a_transparent_colour_is_kept():
    image = Image.new("RGB", (4, 4), (9, 8, 7))
    content = saved(image, "PNG", transparency=(9, 8, 7))
    assert decode(io.BytesIO(content)).getpixel((0, 0)) == (255, 255, 255)


def test_changed_pixels_are_damage_unless_accepted():
    """Pillow looks at no checksum of the pixels, and often shows others than were stored."""
    noise = Image.effect_noise((64, 64), 60)
    content = saved(noise, "PNG")
    start, end = place_of_pixels(content)
    silent = 0
    for place in range(start + 50, end - 4, 29):
        changed = bytearray(content)
        changed[place] ^= 0x10
        error = failure(io.BytesIO(bytes(changed)))
        assert error.kind == "decode"
        silent += "the checksum of its pixels is wrong" in str(error)
    assert silent > 10
    assert decode(io.BytesIO(bytes(changed)), DecodePolicy(truncated="accept")).size == (64, 64)


def test_a_wrong_checksum_beside_right_pixels_is_no_damage():
    _, end = place_of_pixels(WHOLE)
    changed = WHOLE[:end] + b"\0\0\0\0" + WHOLE[end + 4 :]
    assert np.array_equal(np.asarray(decode(io.BytesIO(changed))), np.asarray(smooth()))


@pytest.mark.parametrize("cut", [9, 20, 40, 60, -30, -13, -12, -8, -4, -1])
def test_what_is_cut_off_fails(cut):
    assert failure(io.BytesIO(WHOLE[:cut])).kind == "decode"


@pytest.mark.parametrize("cut", [-12, -8, -4, -1])
def test_whole_pixels_without_the_end_of_the_file_can_be_accepted(cut):
    image = decode(io.BytesIO(WHOLE[:cut]), DecodePolicy(truncated="accept"))
    assert np.array_equal(np.asarray(image), np.asarray(smooth()))


def with_pixels(width: int, height: int, depth: int, colour: int, interlaced: int, unpacked: bytes) -> bytes:
    """A PNG with right checksums throughout, whatever its pixels are."""
    palette = [(b"PLTE", bytes(range(48)))] if colour == 3 else []
    return png(width, height, depth, colour, unpacked, *palette, interlaced=interlaced)


def bytes_of_pixels(width: int, height: int, bits: int, interlaced: int) -> int:
    """By counting the pixels of each pass one by one, as the standard draws them in a square of 8."""
    square = ("16462646", "77777777", "56565656", "77777777", "36463646", "77777777", "56565656", "77777777")
    total = 0
    for number in "1234567":
        rows = [sum(not interlaced or square[y % 8][x % 8] == number for x in range(width)) for y in range(height)]
        total += sum(1 + (columns * bits + 7) // 8 for columns in rows if columns)
        if not interlaced:
            return total
    return total


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("depth", "colour", "samples"), [(1, 0, 1), (4, 3, 1), (8, 2, 3), (16, 4, 2), (8, 6, 4)])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2), (5, 7), (8, 8), (13, 11)])
def test_pixels_that_end_early_are_damage(width, height, depth, colour, samples, interlaced):
    """Pillow shows the rest as black, although every checksum is right."""
    needed = bytes_of_pixels(width, height, depth * samples, interlaced)
    whole = with_pixels(width, height, depth, colour, interlaced, bytes(needed))
    assert decode(io.BytesIO(whole)).size == (width, height)
    assert decode(io.BytesIO(with_pixels(width, height, depth, colour, interlaced, bytes(needed + 9))))
    short = with_pixels(width, height, depth, colour, interlaced, bytes(needed - 1))
    assert f"its pixels end after {needed - 1} of {needed} bytes" in str(failure(io.BytesIO(short)))
    assert decode(io.BytesIO(short), DecodePolicy(truncated="accept")).size == (width, height)


def test_pixels_beyond_the_size_are_not_unpacked():
    content = with_pixels(2, 2, 8, 2, 0, bytes(1 << 26))
    tracemalloc.start()
    decode(io.BytesIO(content))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 23


def test_a_chunk_that_claims_more_than_there_is():
    content = WHOLE[:BEHIND_HEADER] + struct.pack(">I", 0x7FFFFFFF) + b"tEXt" + WHOLE[BEHIND_HEADER:]
    assert failure(io.BytesIO(content)).kind == "decode"
