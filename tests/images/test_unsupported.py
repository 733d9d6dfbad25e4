"""Pictures that are whole, but stored in a way for which there is no rule."""

import io

import numpy as np
import pytest

from lrpcli.images.decode import DecodePolicy, decode
from tests.images.pictures import bands_tiff, failure, saved, smooth

BYTES = bytes(20 * 10 * 32)
JPEG = saved(smooth(), "JPEG")
FRAME = JPEG.index(b"\xff\xc0")


def jpeg(place: int, value: int) -> bytes:
    """A JPEG with another value in its frame header."""
    return JPEG[: FRAME + place] + bytes([value]) + JPEG[FRAME + place + 1 :]


TIFFS = {
    "3 channels of 32 bits (floating point)": ([32] * 3, 3, 2, {}),
    "1 channel of 64 bits (floating point)": ([64], 3, 1, {}),
    "1 channel of 16 bits (floating point)": ([16], 3, 1, {}),
    "1 channel of 64 bits (complex)": ([64], 6, 1, {}),
    "1 channel of 64 bits (whole numbers)": ([64], 1, 1, {}),
    "3 channels of 8 bits (whole numbers with a sign)": ([8] * 3, 2, 2, {}),
    "bytes with a sign": ([8], 2, 1, {}),
    "5 channels of 8 bits": ([8] * 5, 1, 2, {"more": (2, 2)}),
    "5 channels of 8 bits (whole numbers)": ([8] * 5, 1, 5, {"more": (2,)}),
    "7 channels of 8 bits": ([8] * 7, 1, 1, {"more": (0,) * 6}),
    "3 channels of 12 bits": ([12] * 3, 1, 2, {}),
    "1 channel of 14 bits": ([14], 1, 1, {}),
    "pixels packed by the method 34887": ([8] * 3, 1, 2, {"compression": 34887}),
    "planes of 16 bits": ([16] * 3, 1, 2, {"planes": 2}),
}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("layout", TIFFS)
def test_layouts_of_tiff_without_a_rule_are_unsupported(layout, order):
    bits, numbers, photometric, others = TIFFS[layout]
    error = failure(io.BytesIO(bands_tiff(bits, numbers, photometric, BYTES, order=order, **others)))
    assert error.kind == "unsupported"
    assert layout in str(error) and "Convert it to RGB of 8 bits per channel." in str(error)


def test_floating_grey_is_unsupported():
    error = failure(io.BytesIO(bands_tiff([32], 3, 1, np.full(200, np.nan, "<f4").tobytes())))
    assert error.kind == "unsupported" and "floating-point" in str(error)


@pytest.mark.parametrize("order", "<>")
def test_layouts_beside_them_are_decoded(order):
    colours = np.random.default_rng(2).integers(0, 0x10000, (10, 20, 3)).astype(f"{order}u2")
    deep = bands_tiff([16] * 3, 1, 2, colours.tobytes(), order=order)
    assert np.array_equal(np.asarray(decode(io.BytesIO(deep))), colours >> 8)
    flat = (colours >> 8).astype(np.uint8)
    planes = bands_tiff([8] * 3, 1, 2, flat.transpose(2, 0, 1).tobytes(), order=order, planes=2)
    assert np.array_equal(np.asarray(decode(io.BytesIO(planes))), flat)


@pytest.mark.parametrize("length", [9, 60, 100, 150])
def test_a_broken_directory_is_a_broken_file(length):
    assert failure(io.BytesIO(bands_tiff([32] * 3, 3, 2, BYTES)[:length])).kind == "decode"


@pytest.mark.parametrize(
    ("content", "layout"),
    [
        (jpeg(4, 12), "3 channels of 12 bits"),
        (jpeg(9, 2), "2 channels of 8 bits"),
        (jpeg(1, 0xC5), "the marker 0xc5"),
        (jpeg(1, 0xCB), "the marker 0xcb"),
    ],
    ids=["12 bits", "2 channels", "hierarchical", "lossless arithmetic"],
)
def test_jpegs_without_a_decoder_are_unsupported(content, layout):
    error = failure(io.BytesIO(content))
    assert error.kind == "unsupported" and layout in str(error)


def test_a_bitmap_packed_in_an_unknown_way_is_unsupported():
    content = bytearray(saved(smooth(), "BMP"))
    content[30] = 4
    assert failure(io.BytesIO(bytes(content))).kind == "unsupported"


def test_a_format_that_is_not_allowed_stays_a_decode_error():
    content = bands_tiff([32] * 3, 3, 2, BYTES)
    assert failure(io.BytesIO(content), DecodePolicy(formats=("PNG",))).kind == "decode"
