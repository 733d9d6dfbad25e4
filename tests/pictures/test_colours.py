"""Relevance as colour: zero neutral, symmetric, nothing outside the scale."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import colormaps

from lrpcli.errors import UsageError
from lrpcli.pictures.colours import DIVERGING, STEPS, colour_index, lookup_table


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
