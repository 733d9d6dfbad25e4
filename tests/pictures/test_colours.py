"""Relevance as colour: zero neutral, symmetric, nothing outside the scale."""

import numpy as np
import pytest
from matplotlib import colormaps

from lrpcli.errors import UsageError
from lrpcli.pictures.colours import DIVERGING, STEPS, colour_index, colourise, lookup_table


@pytest.mark.parametrize("name", [*DIVERGING, *(f"{name}_r" for name in DIVERGING)])
def test_every_map_gives_the_colours_of_matplotlib_with_zero_in_the_middle(name):
    table = lookup_table(name)
    assert table.shape == (2 * STEPS + 1, 3)
    for place, position in ((0, 0.0), (STEPS, 0.5), (2 * STEPS, 1.0)):
        expected = np.array(colormaps[name](position)[:3]) * 255
        np.testing.assert_allclose(table[place], expected, atol=2.0)


def test_zero_is_white_and_the_signs_are_apart():
    colours = colourise(np.array([[-3.0, 0.0, 3.0]], np.float32), 3.0, "bwr")
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
