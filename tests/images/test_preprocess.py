import json

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from lrpcli.errors import UsageError
from lrpcli.images.preprocess import Preprocessing

SIZES = [(100, 100), (333, 501), (501, 333), (97, 1500), (1, 1), (1, 300)]


def photo(height: int, width: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def planes(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float32).transpose(2, 0, 1)


def assert_one_grey_level(result: np.ndarray, expected: np.ndarray) -> None:
    """Pillow rounds to whole grey levels between its two passes, and which pass comes first depends on the shape."""
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() <= 1


@pytest.mark.parametrize("size", SIZES)
def test_squashes_the_whole_photo(size):
    result, placement = Preprocessing((24, 31)).apply(photo(*size))
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, planes(photo(*size).resize((31, 24), Image.Resampling.BILINEAR)))
    assert placement.box == (0, 0, size[1], size[0])
    assert (placement.image_size, placement.size) == (size, (24, 31))


@pytest.mark.parametrize("size", SIZES)
def test_squashes_and_crops_as_caffe_does(size):
    result, placement = Preprocessing((227, 224), (256, 257)).apply(photo(*size))
    squashed = planes(photo(*size).resize((257, 256), Image.Resampling.BILINEAR))
    assert_one_grey_level(result, squashed[:, 14 : 14 + 227, 16 : 16 + 224])
    height, width = size
    expected = (16 * width / 257, 14 * height / 256, 240 * width / 257, 241 * height / 256)
    assert placement.box == pytest.approx(expected)


@pytest.mark.parametrize("size", SIZES)
def test_an_integer_resizes_and_crops_as_torchvision_does(size):
    reference = transforms.Compose([transforms.Resize(40), transforms.CenterCrop((33, 37))])
    result, placement = Preprocessing((33, 37), 40).apply(photo(*size))
    np.testing.assert_array_equal(result, planes(reference(photo(*size))))
    left, top, right, bottom = placement.box
    assert 0 <= left < right <= size[1]
    assert 0 <= top < bottom <= size[0]


def test_the_placement_lies_where_the_model_looks():
    """A bright square in a dark photo comes back to where it was."""
    pixels = np.zeros((400, 600, 3), dtype=np.uint8)
    pixels[180:240, 250:310] = 255
    for resize in (None, 256, (256, 256)):
        result, placement = Preprocessing((224, 224), resize).apply(Image.fromarray(pixels))
        back = placement.to_image(result[0])
        inside = back[180:240, 250:310].sum() / back.sum()
        rows, columns = back.sum(axis=1), back.sum(axis=0)
        assert inside > 0.95
        assert (rows * (np.arange(400) + 0.5)).sum() / rows.sum() == pytest.approx(210, abs=0.2)
        assert (columns * (np.arange(600) + 0.5)).sum() / columns.sum() == pytest.approx(280, abs=0.2)


def test_channel_order_scale_mean_and_std():
    image = Image.new("RGB", (3, 3), (10, 20, 30))
    rgb = Preprocessing((2, 2), mean=(1, 2, 3), std=(2, 4, 5)).apply(image)[0]
    np.testing.assert_allclose(rgb[:, 0, 0], [4.5, 4.5, 5.4])
    bgr = Preprocessing((2, 2), None, "BGR", 0.5, mean=(1, 2, 3)).apply(image)[0]
    np.testing.assert_allclose(bgr[:, 1, 1], [14, 8, 2])
    one_for_all = Preprocessing((2, 2), mean=(5,), std=(2,))
    assert (one_for_all.mean, one_for_all.std) == ((5, 5, 5), (2, 2, 2))


def test_a_mean_image_is_subtracted_in_the_order_of_the_model():
    mean = np.arange(12, dtype=np.float64).reshape(3, 2, 2)
    preprocessing = Preprocessing((2, 2), channel_order="BGR", mean=mean)
    result, _ = preprocessing.apply(Image.new("RGB", (2, 2), (10, 20, 30)))
    np.testing.assert_allclose(result, np.array([30, 20, 10])[:, None, None] - mean)
    low, high = preprocessing.pixel_range()
    np.testing.assert_allclose(low, -mean)
    np.testing.assert_allclose(high, 255 - mean)
    mean[:] = 0  # a copy was taken
    np.testing.assert_allclose(preprocessing.pixel_range()[0], low)


def test_pixel_range_is_what_black_and_white_become():
    preprocessing = Preprocessing((4, 4), pixel_scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    for bound, colour in zip(preprocessing.pixel_range(), ("black", "white"), strict=True):
        assert bound.shape == (3, 1, 1)
        result, _ = preprocessing.apply(Image.new("RGB", (9, 9), colour))
        np.testing.assert_allclose(result, np.broadcast_to(bound, (3, 4, 4)), rtol=1e-6)


def test_one_channel_is_luminance():
    image = Image.new("RGB", (5, 5), (200, 100, 50))
    result, _ = Preprocessing((3, 3), channels=1).apply(image)
    assert result.shape == (1, 3, 3)
    np.testing.assert_allclose(result, 0.299 * 200 + 0.587 * 100 + 0.114 * 50, atol=0.5)


def test_a_model_that_reads_no_picture_says_so():
    preprocessing = Preprocessing((3, 3), channels=5)
    assert preprocessing.pixel_range()[1].shape == (5, 1, 1)
    with pytest.raises(UsageError, match="The model reads 5 channels, but a photo has 3"):
        preprocessing.apply(photo(5, 5))
    with pytest.raises(ValueError, match="must be in mode RGB, not L"):
        Preprocessing((3, 3)).apply(Image.new("L", (5, 5)))


def test_describes_itself():
    caffe = Preprocessing((227, 227), (256, 256), "BGR", mean=(104.007, 116.669, 122.679))
    assert caffe.describe() == (
        "squashed to 256 x 256, centre 227 x 227, BGR, 0..255, minus mean 104.007, 116.669, 122.679"
    )
    vision = Preprocessing((224, 224), 256, pixel_scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert vision.describe() == (
        "shorter side 256, centre 224 x 224, RGB, 0..1, minus mean 0.485, 0.456, 0.406, divided by 0.229, 0.224, 0.225"
    )
    cifar = Preprocessing((32, 32), mean=np.ones((3, 32, 32)))
    assert cifar.describe() == "whole photo squashed to 32 x 32, RGB, 0..255, minus a mean image"
    assert Preprocessing((8, 8), channels=1).describe() == "whole photo squashed to 8 x 8, grey, 0..255"


def test_the_fingerprint_tells_everything_that_matters():
    base = {"size": (8, 8), "resize": 9, "mean": np.zeros((3, 8, 8), dtype=np.float32)}
    changes = [
        {"size": (8, 7), "mean": (0,)},
        {"resize": (9, 9)},
        {"channel_order": "BGR"},
        {"pixel_scale": 0.5},
        {"mean": np.full((3, 8, 8), 1e-3)},
        {"std": (2,)},
    ]
    prints = [json.dumps(Preprocessing(**{**base, **change}).fingerprint()) for change in [{}, *changes]]
    assert len(set(prints)) == len(prints)
    assert (
        Preprocessing(**base).fingerprint()
        == Preprocessing(**{**base, "mean": base["mean"].astype(float)}).fingerprint()
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (0, 3)}, r"The size of the model's input is \(height, width\) in whole pixels, not \(0, 3\)"),
        ({"size": (3, 3.0)}, "in whole pixels"),
        ({"resize": (3, 3, 3)}, r"The size of resize is \(height, width\)"),
        ({"resize": 3}, "A photo resized to 3 is smaller than the model's input, 4 x 4"),
        ({"resize": (9, 3)}, r"A photo resized to \(9, 3\) is smaller"),
        ({"channel_order": "GBR"}, "The channel order is RGB or BGR, not 'GBR'"),
        ({"pixel_scale": 0}, "The pixel scale must be a number other than 0"),
        ({"pixel_scale": float("nan")}, "The pixel scale must be a number other than 0"),
        ({"mean": (1, 2)}, "The mean has 2 values for a model of 3 channels"),
        ({"mean": (1, 2, float("inf"))}, "The mean holds a value that is not finite"),
        (
            {"mean": np.zeros((3, 4, 5))},
            r"The mean image has the shape \(3, 4, 5\), but the model's input is \(3, 4, 4\)",
        ),
        ({"mean": np.full((3, 4, 4), np.nan)}, "The mean image holds values that are not finite"),
        ({"std": (1, 0, 1)}, "The std of a channel is divided by and must not be 0"),
        ({"channels": 0}, "at least one input channel, not 0"),
    ],
)
def test_unusable_values_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**{"size": (4, 4), **fields})


@pytest.mark.parametrize("values", [{"std": (1e-44,)}, {"pixel_scale": 1e38}, {"pixel_scale": 1e36, "std": (1e-5,)}])
def test_values_that_make_pixels_infinite_are_refused(values):
    with pytest.raises(ValueError, match="beyond the range of float32"):
        Preprocessing((8, 8), **values)
