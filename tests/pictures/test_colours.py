"""Relevance as colour: zero neutral, symmetric, nothing outside the scale."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from lrpcli.errors import UsageError
from lrpcli.pictures.colours import DIVERGING, STEPS, colour_index, end_colours, lookup_table
from lrpcli.pictures.picture import draw
from lrpcli.pictures.style import PictureStyle


@pytest.mark.parametrize("name", DIVERGING)
def test_every_map_has_the_colours_of_matplotlib_with_zero_in_the_middle(name):
    odd = colormaps[name].resampled(2 * STEPS + 1)
    expected = np.rint(odd(np.arange(2 * STEPS + 1))[:, :3] * 255)
    np.testing.assert_array_equal(lookup_table(name), expected)
    np.testing.assert_allclose(lookup_table(name)[STEPS], np.array(colormaps[name](0.5)[:3]) * 255, atol=2.0)


@pytest.mark.parametrize("name", DIVERGING)
def test_a_map_turned_round_has_the_colours_of_matplotlib(name):
    np.testing.assert_array_equal(lookup_table(f"{name}_r"), lookup_table(name)[::-1])
    odd = colormaps[f"{name}_r"].resampled(2 * STEPS + 1)
    expected = np.rint(odd(np.arange(2 * STEPS + 1))[:, :3] * 255)
    np.testing.assert_allclose(lookup_table(f"{name}_r"), expected, atol=1.0)


def test_no_colours_are_asked_of_matplotlib():
    code = (
        "import sys\nfrom lrpcli.pictures.style import PictureStyle\nPictureStyle(cmap='berlin_r')\n"
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_zero_is_white_and_the_signs_are_apart():
    colours = lookup_table("bwr")[colour_index(np.array([[-3.0, 0.0, 3.0]], np.float32), 3.0)]
    np.testing.assert_array_equal(colours, [[[0, 0, 255], [255, 255, 255], [255, 0, 0]]])


def test_beyond_the_scale_is_the_end_colour_and_not_finite_is_neutral_or_an_end():
    index = colour_index(np.array([-99.0, 99.0, np.nan, np.inf], np.float32), 1.0)
    np.testing.assert_array_equal(index, [0, 2 * STEPS, STEPS, 2 * STEPS])


def test_a_scale_of_zero_makes_all_neutral():
    assert (colour_index(np.zeros((2, 2), np.float32), 0.0) == STEPS).all()


def test_a_map_that_is_not_diverging_is_refused():
    with pytest.raises(UsageError, match="'viridis' is not known as a diverging one"):
        lookup_table("viridis")
    with pytest.raises(UsageError, match="Did you mean 'seismic'"):
        lookup_table("seismc")


def lightness(colours):
    """L* of CIELAB (CIE 15, sRGB of IEC 61966-2-1 under D65) of colours 0..255 (..., 3)."""
    shares = np.asarray(colours, float) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126729, 0.7151522, 0.0721750]
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, 24389 / 27 * luminance)


def on_ground(grey, share, cmap="bwr"):
    """The overlay of so much relevance on a photo of one grey, and that without relevance."""
    relevance = np.array([[0.0, share]], np.float32)
    style = PictureStyle(cmap=cmap, smooth=0.0)
    return np.asarray(draw(Image.new("RGB", (2, 1), (grey,) * 3), relevance, (0, 0, 2, 1), style, 1.0))[0, ::-1]


@pytest.mark.parametrize("cmap", DIVERGING)
def test_no_end_colour_over_a_photo_is_much_darker_than_pure_red(cmap):
    assert (lightness(end_colours(cmap)) > 0.8 * lightness([255, 0, 0])).all()


def test_end_colours_that_are_light_enough_stay():
    np.testing.assert_array_equal(end_colours("bwr")[1], [255, 0, 0])
    np.testing.assert_array_equal(end_colours("bwr_r"), end_colours("bwr")[::-1])
    for cmap in ("berlin", "managua", "vanimo"):
        np.testing.assert_array_equal(end_colours(cmap), lookup_table(cmap)[[0, -1]])


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("grey", [0, 10, 25, 40])
def test_blue_stands_out_from_dark_ground_nearly_as_far_as_red(grey, share):
    """In lightness, which is what fine shapes are seen by; with pure blue it was half as far and less."""
    for sign in (1, -1):
        shown, ground = lightness(on_ground(grey, sign * share))
        assert shown - ground > 0
    differences = {sign: np.subtract(*lightness(on_ground(grey, sign * share))) for sign in (1, -1)}
    assert differences[-1] > 0.77 * differences[1] - 0.5


@pytest.mark.parametrize("grey", [0, 60, 128, 200, 255])
def test_red_is_what_it_was(grey):
    for share in (0.1, 0.5, 1.0):
        opacity = 0.9 * share**0.75
        expected = (1 - opacity) * 0.8 * grey + opacity * np.array([255, 0, 0])
        assert np.abs(on_ground(grey, share)[0] - expected).max() < 1.5


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1e30])
def test_scales_far_from_the_values_warn_of_nothing(scale):
    assert set(colour_index(np.array([-1e9, 0.0, 1e9], np.float32), scale)) <= {0, STEPS, 2 * STEPS}
