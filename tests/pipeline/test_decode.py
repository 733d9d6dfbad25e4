"""Photos at picture size: where the model's part of them lies, and how small ones are enlarged."""

import numpy as np
import pytest
from PIL import Image

from lrpcli.images.find import Source
from lrpcli.images.formats import DecodePolicy
from lrpcli.images.preprocess import Preprocessing
from lrpcli.pipeline.decode import ENLARGED, Preparation


@pytest.mark.parametrize(("height", "width"), [(20, 40), (40, 20), (30, 30)])
def test_a_picture_on_the_models_grid_is_what_the_model_sees(tmp_path, height, width):
    """Also where the photo is smaller than the grid, and black lies around it."""
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)).save(path)
    preprocessing = Preprocessing((16, 16), (16, 16), crop_mode="border", interpolation="bicubic")
    prepared = Preparation(DecodePolicy(), preprocessing, None, pictures=True)(Source(str(path), "photo.png"))
    assert prepared.box == (0, 0, 16, 16)
    assert prepared.photo.size == (16, 16)
    np.testing.assert_allclose(np.asarray(prepared.photo).transpose(2, 0, 1), prepared.pixels, atol=1)


def prepared(tmp_path, size, longest, *, crop=False, resize=None, crop_mode="centre"):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    preparation = Preparation(DecodePolicy(), Preprocessing((16, 16), resize or (16, 16)), longest, True, crop)
    return np.asarray(Image.open(path)), preparation(Source(str(path), "photo.png"))


@pytest.mark.parametrize(
    ("size", "longest", "factor"),
    [((32, 28), 512, 16), ((33, 20), 512, 15), ((200, 100), 512, 2), ((1, 1), 512, 512), ((256, 3), 512, 2),
     ((257, 3), 512, 1), ((512, 400), 512, 1), ((20, 30), 70, 2)],
)  # fmt: skip
def test_a_small_photo_is_enlarged_by_the_largest_whole_factor(tmp_path, size, longest, factor):
    pixels, found = prepared(tmp_path, size, longest)
    assert found.photo.size == (size[0] * factor, size[1] * factor)
    np.testing.assert_array_equal(np.asarray(found.photo), np.kron(pixels, np.ones((factor, factor, 1), np.uint8)))
    assert found.box == (0, 0, size[0] * factor, size[1] * factor)


def test_no_photo_is_enlarged_without_bounds(tmp_path):
    _, found = prepared(tmp_path, (2, 1), 16384)
    assert found.photo.size == (ENLARGED, ENLARGED // 2)
    _, found = prepared(tmp_path, (3000, 10), 16384)
    assert found.photo.size == (3000, 10)


@pytest.mark.parametrize(("size", "longest"), [((60, 40), 512), ((600, 400), 200), ((40, 90), 512)])
def test_a_cropped_photo_is_what_the_model_saw_at_picture_size(tmp_path, size, longest):
    pixels, found = prepared(tmp_path, size, longest, crop=True, resize=16)
    side, (left, top) = min(size), ((size[0] - min(size)) // 2, (size[1] - min(size)) // 2)
    assert found.photo.size[0] == found.photo.size[1] and longest / 2 < found.photo.size[0] <= longest
    np.testing.assert_allclose(found.box, (0, 0, *found.photo.size), atol=0.6 * found.photo.size[0] / side)
    part = Image.fromarray(pixels[top : top + side, left : left + side])
    expected = np.asarray(part.resize(found.photo.size, Image.Resampling.BOX if side > longest else 0)).astype(int)
    assert np.abs(np.asarray(found.photo) - expected).mean() < (20 if side > longest else 1e-9)
