"""Preprocessing against the transforms of torchvision and timm themselves, bit for bit, on photos of odd sizes."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from lrpcli.images import preprocess
from lrpcli.images.formats import INTERPOLATIONS
from lrpcli.images.preprocess import Preprocessing
from tests.images.test_preprocess import photo

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDES = st.tuples(st.integers(1, 90), st.integers(1, 90))
GRIDS = st.tuples(st.integers(1, 40), st.integers(1, 40))
USUAL = settings(max_examples=60, deadline=None, derandomize=True)


def scaled(size, resize, **fields):
    return Preprocessing(size, resize, pixel_scale=1 / 255, mean=MEAN, std=STD, **fields)


def assert_same(preprocessing: Preprocessing, transform, image: Image.Image) -> None:
    np.testing.assert_array_equal(preprocessing.apply(image)[0], transform(image).numpy())


def of_torchvision(resize, size, interpolation):
    return transforms.Compose([
        transforms.Resize(resize, InterpolationMode(interpolation)), transforms.CenterCrop(size),
        transforms.ToTensor(), transforms.Normalize(MEAN, STD),
    ])  # fmt: skip


@USUAL
@given(SIDES, GRIDS, st.integers(1, 50), st.sampled_from(INTERPOLATIONS))
@example((97, 1500), (30, 30), 33, "bicubic")
@example((1, 700), (24, 24), 24, "lanczos")
@example((31, 30), (30, 31), 20, "nearest")  # smaller than the crop on one side after resizing
def test_a_side_equals_resize_and_centre_crop_of_torchvision(photo_size, size, side, interpolation):
    preprocessing = scaled(size, side, interpolation=interpolation, crop_mode="center")
    assert_same(preprocessing, of_torchvision(side, size, interpolation), photo(*photo_size))


@USUAL
@given(SIDES, GRIDS, GRIDS, st.sampled_from(INTERPOLATIONS))
@example((50, 40), (32, 32), (35, 39), "bilinear")  # three rows too many: Caffe would cut one elsewhere
def test_height_and_width_equal_resize_and_centre_crop_of_torchvision(photo_size, size, resize, interpolation):
    preprocessing = scaled(size, resize, interpolation=interpolation, crop_mode="squash")
    assert_same(preprocessing, of_torchvision(resize, size, interpolation), photo(*photo_size))


@pytest.mark.parametrize("size", [(500, 333), (375, 500), (224, 224), (1024, 681), (97, 1500)])
def test_the_preset_of_torchvisions_weights(size):
    preset = ImageClassification(crop_size=224, resize_size=232, interpolation=InterpolationMode.BICUBIC)
    assert_same(scaled((224, 224), 232, interpolation="bicubic"), preset, photo(*size))


@USUAL
@given(
    SIDES, GRIDS, st.sampled_from(["center", "squash", "border"]), st.sampled_from([0.875, 0.95, 1.0, 1.15]),
    st.sampled_from(["bilinear", "bicubic", "lanczos"]),
)  # fmt: skip
@example((64, 90), (24, 32), "center", 0.875, "bicubic")
@example((90, 31), (32, 32), "border", 1.0, "bicubic")
def test_the_crop_modes_equal_timms(photo_size, size, mode, crop_pct, interpolation):
    timm_data = pytest.importorskip("timm.data", reason="timm is an extra")
    resize = tuple(int(side // crop_pct) for side in size)
    if min(resize) < 1 or (mode == "border" and min(photo_size) * min(resize) < max(photo_size)):
        return  # timm would resize to nothing
    transform = timm_data.create_transform(
        (3, *size), crop_mode=mode, crop_pct=crop_pct, interpolation=interpolation, mean=MEAN, std=STD
    )
    side = resize[0] if mode == "center" and resize[0] == resize[1] else resize
    assert_same(scaled(size, side, interpolation=interpolation, crop_mode=mode), transform, photo(*photo_size))


def test_a_very_long_photo_is_resized_only_where_it_is_seen(monkeypatch):
    """torchvision would make 224 x 20,000,000 pixels of it."""
    image = photo(1, 90_000)
    assert scaled((224, 224), 224).apply(image)[0].shape == (3, 224, 224)
    whole = scaled((8, 8), 9, crop_mode="center").apply(photo(20, 700))[0]
    padded = scaled((12, 8), 9, crop_mode="center").apply(photo(20, 700))[0]
    monkeypatch.setattr(preprocess, "WHOLE", 50)
    level = 1 / 255 / min(STD) * 1.001
    assert np.abs(scaled((8, 8), 9, crop_mode="center").apply(photo(20, 700))[0] - whole).max() <= level
    assert np.abs(scaled((12, 8), 9, crop_mode="center").apply(photo(20, 700))[0] - padded).max() <= level


@pytest.mark.parametrize(
    ("fields", "size", "box"),
    [
        ({"crop_mode": "border"}, (20, 40), (0, -10, 40, 30)),
        ({"crop_mode": "center"}, (20, 40), (10, 0, 30, 20)),
        ({"crop_mode": "squash"}, (20, 40), (0, 0, 40, 20)),
        ({"resize": (4, 4), "crop_mode": "squash"}, (20, 40), (-20, -10, 60, 30)),
        ({"resize": 4, "crop_mode": "center"}, (20, 40), (0, -10, 40, 30)),
    ],
)
def test_the_placement_goes_beyond_the_photo_where_the_input_does(fields, size, box):
    assert Preprocessing((8, 8), **{"resize": (8, 8), **fields}).placement(*size).box == box


def test_defaults_are_left_out_of_the_fingerprint_so_that_older_runs_go_on():
    assert set(Preprocessing((8, 8), 9).fingerprint()) == {
        "size", "resize", "channel_order", "pixel_scale", "mean", "std", "channels",
    }  # fmt: skip
    others = [{}, {"interpolation": "bicubic"}, {"crop_mode": "squash"}, {"crop_mode": "border"}]
    prints = [json.dumps(Preprocessing((8, 8), (9, 9), **fields).fingerprint()) for fields in others]
    assert len(set(prints)) == len(prints)


def test_describes_crop_modes_and_interpolation():
    def steps(**fields):
        return Preprocessing((8, 8), **{"resize": (9, 9), **fields}).describe().removesuffix(", RGB, 0..255")

    assert steps(interpolation="lanczos") == "squashed to 9 x 9 (lanczos), centre 8 x 8"
    assert steps(resize=None, interpolation="nearest") == "whole photo squashed to 8 x 8 (nearest)"
    assert steps(crop_mode="center") == "resized to cover 9 x 9, centre 8 x 8"
    assert steps(crop_mode="border") == "resized to fit in 9 x 9, centre 8 x 8 on the mean colour"
    assert steps(resize=7, crop_mode="center") == "shorter side 7, centre 8 x 8 on black"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"interpolation": "cubic"}, "The interpolation is nearest, bilinear, .* or hamming, not 'cubic'"),
        ({"interpolation": 2}, "not 2"),
        ({"crop_mode": "centre"}, "The crop mode is center, squash or border, not 'centre'"),
        ({"crop_mode": "center"}, "needs a size to resize to"),
        ({"crop_mode": "border", "resize": 9}, "needs resize as"),
        ({"crop_mode": "border", "resize": (9, 9), "mean": np.zeros((3, 8, 8))}, "which a mean image does not have"),
    ],
)  # fmt: skip
def test_unusable_values_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing((8, 8), **fields)


@pytest.mark.parametrize("scale", [5e-324, 1e-30, 1 / 255, 1 / 256, 0.017, 1, 3, -1 / 255])
def test_pixels_are_scaled_by_any_number(scale):
    result = Preprocessing((2, 2), pixel_scale=scale).apply(photo(2, 2))[0]
    expected = np.asarray(photo(2, 2), np.float64).transpose(2, 0, 1) * scale
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-45)
