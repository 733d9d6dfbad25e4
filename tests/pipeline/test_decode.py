import numpy as np
import pytest
from PIL import Image

from lrpcli.images.find import Source
from lrpcli.images.formats import DecodePolicy
from lrpcli.images.preprocess import Preprocessing
from lrpcli.pipeline.decode import Preparation


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
