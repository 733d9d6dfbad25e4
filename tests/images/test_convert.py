import io
import struct
import warnings

import numpy as np
import PIL
import pytest
from PIL import Image

from lrpcli.images.decode import decode
from tests.images.pictures import failure, png, saved, smooth, tiff

# How a picture must be stored so that orientation 2, 3, ... 8 makes it upright: the inverse of what the reader does.
STORED = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[::-1],
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
    ],
)
def test_all_eight_orientations_show_the_upright_photo(orientation, format_name, options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(smooth()))))
    image = decode(io.BytesIO(saved(stored, format_name, exif=exif, **options)))
    assert image.size == (64, 48)
    tolerance = 5 if format_name == "JPEG" else 0
    assert np.abs(np.asarray(image, dtype=int) - np.asarray(smooth(), dtype=int)).max() <= tolerance


def test_broken_exif_neither_fails_nor_warns(capfd):
    content = saved(smooth(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12")
    with pytest.warns(UserWarning, match="Corrupt EXIF data"), Image.open(io.BytesIO(content)) as plain:
        plain.getexif()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert decode(io.BytesIO(content)).size == (64, 48)
    assert capfd.readouterr().err == ""


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 128, 129, 256, 32767, 32768, 65407, 65535]], dtype=np.uint16)
    for image in (
        decode(io.BytesIO(saved(Image.fromarray(values), "PNG"))),
        decode(io.BytesIO(saved(Image.fromarray(values), "TIFF"))),
        decode(io.BytesIO(saved(Image.fromarray(values.astype(">u2")), "TIFF"))),
        decode(io.BytesIO(b"P5 8 1 65535\n" + values.astype(">u2").tobytes())),
        decode(io.BytesIO(saved(Image.fromarray(values.astype(np.int32)), "TIFF"))),
    ):
        expected = np.round(values / 257).astype(np.uint8)
        np.testing.assert_array_equal(np.asarray(image), np.stack([expected] * 3, axis=2))


def test_tiff_of_twelve_bits_is_scaled_to_its_own_white():
    image = decode(io.BytesIO(tiff(12, 1, bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x00]), 4)))  # 0, 2048, 4095, 0
    assert [image.getpixel((x, 0))[0] for x in range(4)] == [0, 128, 255, 0]


def test_tiff_of_sixteen_bits_whose_white_is_zero():
    image = decode(io.BytesIO(tiff(16, 0, struct.pack("<3H", 0, 257, 65535), 3)))
    assert [image.getpixel((x, 0))[0] for x in range(3)] == [255, 254, 0]


def test_whole_numbers_beyond_sixteen_bits_are_unsupported(tmp_path):
    for values in ([[0, 70000]], [[-1, 5]]):
        path = tmp_path / "deep.tif"
        path.write_bytes(saved(Image.fromarray(np.array(values, dtype=np.int32)), "TIFF"))
        error = failure(path)
        assert error.kind == "unsupported"
        low, high = values[0]
        assert f"'{path}' holds whole numbers beyond 16 bits ({low} to {high})" in str(error)


def test_floating_point_is_unsupported():
    error = failure(io.BytesIO(saved(Image.new("F", (3, 3), 0.5), "TIFF")))
    assert error.kind == "unsupported"
    assert str(error) == (
        "The image on standard input holds floating-point pixels. Convert it to 8 or 16 bits per channel."
    )


@pytest.mark.parametrize(("alpha", "expected"), [(0, (255, 255, 255)), (255, (200, 0, 100)), (51, (244, 204, 224))])
@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_laid_on_white(alpha, expected, format_name):
    options = {"lossless": True, "exact": True} if format_name == "WEBP" else {}
    image = decode(io.BytesIO(saved(Image.new("RGBA", (4, 4), (200, 0, 100, alpha)), format_name, **options)))
    assert image.getpixel((1, 2)) == expected


def test_grey_with_alpha_is_laid_on_white():
    for alpha, expected in ((0, 255), (255, 90), (51, 222)):
        assert (
            decode(io.BytesIO(saved(Image.new("LA", (2, 2), (90, alpha)), "PNG"))).getpixel((0, 0)) == (expected,) * 3
        )
    deep = png(1, 1, 16, 4, b"\0" + struct.pack(">2H", 90 * 257, 51 * 257))
    assert decode(io.BytesIO(deep)).getpixel((0, 0)) == (222,) * 3


def test_palette_with_transparent_entries():
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for x in range(3):
        image.putpixel((x, 0), x)
    opaque = decode(io.BytesIO(saved(image, "PNG")))
    assert [opaque.getpixel((x, 0)) for x in range(3)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    shaded = decode(io.BytesIO(saved(image, "PNG", transparency=bytes([0, 51, 255]))))
    assert [shaded.getpixel((x, 0)) for x in range(3)] == [(255, 255, 255), (204, 255, 204), (0, 0, 255)]
    for format_name in ("PNG", "GIF"):
        single = decode(io.BytesIO(saved(image, format_name, transparency=1)))
        assert [single.getpixel((x, 0)) for x in range(3)] == [(255, 0, 0), (255, 255, 255), (0, 0, 255)]


@pytest.mark.parametrize(
    ("depth", "colour", "pixels", "transparent", "expected"),
    [
        (1, 0, bytes([0b01000000]), (0,), [255, 255]),
        (1, 0, bytes([0b01000000]), (1,), [0, 255]),
        (2, 0, bytes([0b01100000]), (1,), [255, 170]),
        (4, 0, bytes([0x3C]), (3,), [255, 204]),
        (8, 0, bytes([3, 51]), (3,), [255, 51]),
        (16, 0, struct.pack(">2H", 3, 51 * 257), (3,), [255, 51]),
        (16, 0, struct.pack(">2H", 4, 51 * 257), (3,), [0, 51]),
        (8, 2, bytes([3, 3, 3, 51, 51, 51]), (3, 3, 3), [255, 51]),
        (16, 2, struct.pack(">6H", 770, 770, 770, 51, 51, 51), (770, 770, 770), [255, 0]),
    ],
)
def test_the_one_transparent_colour_of_a_png(depth, colour, pixels, transparent, expected):
    chunk = (b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    image = decode(io.BytesIO(png(2, 1, depth, colour, b"\0" + pixels, chunk)))
    assert [image.getpixel((x, 0)) for x in range(2)] == [(value,) * 3 for value in expected]


def test_cmyk_with_and_without_adobes_inversion():
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow: red
    jpeg = saved(inks, "JPEG", quality=100)
    assert b"Adobe" in jpeg
    for content in (jpeg, saved(inks, "TIFF")):
        red, green, blue = decode(io.BytesIO(content)).getpixel((8, 8))
        assert red >= 250
        assert max(green, blue) <= 5


def test_lab():
    for values, expected in (((128, 128, 128), (119, 119, 119)), ((138, 209, 198), (255, 0, 0))):  # L* 50; sRGB red
        lab = decode(io.BytesIO(saved(Image.new("LAB", (2, 2), values), "TIFF"))).getpixel((0, 0))
        assert np.abs(np.array(lab) - expected).max() <= 6


@pytest.mark.skipif(PIL.__version__ < "13", reason="this Pillow cannot read the TIFF files in YCbCr that it writes")
def test_ycbcr():
    ycbcr = decode(io.BytesIO(saved(Image.new("YCbCr", (2, 2), (76, 85, 255)), "TIFF"))).getpixel((0, 0))
    assert np.abs(np.array(ycbcr) - [254, 0, 0]).max() <= 3


def test_one_bit_is_black_and_white():
    image = Image.new("1", (2, 1), 0)
    image.putpixel((1, 0), 1)
    for format_name in ("PNG", "BMP", "TIFF", "PPM"):
        decoded = decode(io.BytesIO(saved(image, format_name)))
        assert [decoded.getpixel((x, 0)) for x in range(2)] == [(0, 0, 0), (255, 255, 255)]
