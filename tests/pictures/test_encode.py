"""Pictures as the content of files: what they hold, how good, and what is refused."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lrpcli.errors import ImageError
from lrpcli.pictures.encode import FORMATS, VECTOR, picture_bytes

RASTER = [name for name in FORMATS if name not in VECTOR]


def picture(size=(64, 48)):
    """Red and blue spots on smooth grey, as overlays have them."""
    ground = np.linspace(0, 255, size[0])[None, :, None] * np.ones((size[1], 1, 3))
    ground[8:16, 8:16] = (255, 0, 0)
    ground[24:32, 40:48] = (20, 82, 255)
    return Image.fromarray(ground.astype(np.uint8))


def opened(content):
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image


def distance(content):
    """The mean difference of a file's picture from the one that was written, in levels."""
    return np.abs(np.asarray(opened(content)).astype(int) - np.asarray(picture())).mean()


@pytest.mark.parametrize("name", RASTER)
def test_a_picture_opens_again_in_its_format_with_nothing_else_in_it(name):
    again = opened(picture_bytes(picture(), name))
    assert again.format == name.upper() and again.mode == "RGB" and again.size == (64, 48)
    assert set(again.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background", "timestamp",
                               "duration"}  # fmt: skip
    assert not again.getexif()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (64, 48), (301, 203)])
def test_a_png_holds_the_very_pixels(size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    for one in (Image.fromarray(noise), picture(size), Image.new("RGB", size, (255, 0, 9))):
        content = picture_bytes(one)
        np.testing.assert_array_equal(np.asarray(opened(content)), np.asarray(one))
        with Image.open(io.BytesIO(content)) as image:
            image.verify()  # the checksums of its chunks


def test_a_png_is_about_as_large_as_pillows():
    """One filter for all rows, for a photo and for flat colours with letters."""
    from PIL import ImageDraw

    page = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(page).text((9, 9), "relevance\n" * 8, fill="black")
    photo = Image.open(Path(__file__).parents[2] / "sample_images" / "dog.webp").convert("RGB")
    for one in (photo, page):
        buffer = io.BytesIO()
        one.save(buffer, "PNG", compress_type=3)  # run lengths
        assert len(picture_bytes(one)) < 1.5 * len(buffer.getvalue())


@pytest.mark.parametrize("name", ["webp", "jpeg"])
def test_a_higher_quality_is_nearer_and_larger(name):
    low, usual, high = (picture_bytes(picture(), name, quality) for quality in (20, None, 100))
    assert len(low) < len(usual) < len(high)
    assert distance(high) < distance(usual) < distance(low)
    assert picture_bytes(picture(), name, 90) == usual


def test_a_jpeg_has_its_colours_at_full_resolution():
    layers = opened(picture_bytes(picture(), "jpeg")).layer
    assert [factors[1:3] for factors in layers] == [(1, 1)] * 3


@pytest.mark.parametrize(("name", "side"), [("webp", 16384), ("jpeg", 65501)])
def test_a_picture_that_a_format_has_no_room_for_fails_by_name(name, side):
    with pytest.raises(ImageError, match=f"A picture of {side} x 1 pixels has no room in the format {name}") as caught:
        picture_bytes(Image.new("RGB", (side, 1)), name)
    assert caught.value.kind == "too_large"
    picture_bytes(Image.new("RGB", (side - 1, 1)), name)
