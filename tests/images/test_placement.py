import json
from fractions import Fraction

import numpy as np
import pytest

from lrpcli.images.placement import ROWS_AT_ONCE, Placement, spread


def overlap(first: tuple[Fraction, Fraction], second: tuple[Fraction, Fraction]) -> Fraction:
    return max(Fraction(0), min(first[1], second[1]) - max(first[0], second[0]))


def slow_to_image(placement: Placement, relevance: np.ndarray) -> np.ndarray:
    """Every cell shares its value among the pixels by the area that it has in common with each, in exact fractions."""
    (height, width), (rows, columns) = placement.image_size, placement.size
    left, top, right, bottom = (Fraction(edge) for edge in placement.box)
    cell_height, cell_width = (bottom - top) / rows, (right - left) / columns
    result = np.zeros((height, width))
    for row, column in np.ndindex(rows, columns):
        down = (top + row * cell_height, top + (row + 1) * cell_height)
        across = (left + column * cell_width, left + (column + 1) * cell_width)
        for y, x in np.ndindex(height, width):
            area = overlap(down, (Fraction(y), Fraction(y + 1))) * overlap(across, (Fraction(x), Fraction(x + 1)))
            result[y, x] += relevance[row, column] * float(area / (cell_height * cell_width))
    return result


@pytest.mark.parametrize(
    ("image_size", "box", "size"),
    [
        ((7, 9), (0.0, 0.0, 9.0, 7.0), (3, 4)),  # finer than the grid, edges between pixels
        ((3, 5), (0.0, 0.0, 5.0, 3.0), (8, 6)),  # coarser than the grid
        ((6, 8), (1.3, 0.7, 7.1, 5.9), (4, 5)),  # a crop with broken edges
        ((5, 5), (2.25, 2.25, 2.75, 2.75), (2, 2)),  # all within one pixel
    ],
)
def test_to_image_equals_exact_areas(image_size, box, size):
    placement = Placement(image_size, box, size)
    relevance = np.random.default_rng(1).standard_normal(size)
    result = placement.to_image(relevance)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, slow_to_image(placement, relevance), atol=1e-6)


def test_the_total_stays_and_nothing_lies_outside_the_box():
    placement = Placement((200, 300), (50.5, 20.25, 250.5, 180.75), (32, 32))
    relevance = np.random.default_rng(2).standard_normal((4, 3, 32, 32)) + 1
    result = placement.to_image(relevance)
    assert result.shape == (4, 3, 200, 300)
    np.testing.assert_allclose(result.sum((-2, -1), dtype=np.float64), relevance.sum((-2, -1)), rtol=1e-6)
    outside = np.ones((200, 300), dtype=bool)
    outside[20:181, 50:251] = False
    assert not result[..., outside].any()
    assert result[..., 20, 100].all()  # the pixel that the box cuts has its quarter


def test_blocks_of_rows_join_without_a_seam():
    height = 2 * ROWS_AT_ONCE + 17
    placement = Placement((height, 2), (0.0, 0.0, 2.0, float(height)), (1, 1))
    result = placement.to_image(np.array([[2.0 * height]]))
    np.testing.assert_allclose(result, 1.0, rtol=1e-6)


def test_each_cell_is_shared_out_whole():
    np.testing.assert_allclose(spread(11, 0.3, 10.9, 4).sum(axis=0), 1.0)


def test_survives_json():
    placement = Placement((333, 501), (102.8025974025974, 18.2109375, 398.2, 313.48828125), (227, 227))
    assert Placement.from_dict(json.loads(json.dumps(placement.as_dict()))) == placement


def test_a_map_of_another_grid_is_refused():
    placement = Placement((10, 10), (0.0, 0.0, 10.0, 10.0), (4, 5))
    with pytest.raises(ValueError, match=r"A map of shape \(5, 4\) does not lie on this grid of 4 x 5 cells"):
        placement.to_image(np.zeros((5, 4)))


def test_what_lies_around_the_photo_is_left_out():
    placement = Placement((4, 8), (0.0, -2.0, 8.0, 6.0), (8, 8))
    result = placement.to_image(np.arange(64.0).reshape(8, 8))
    np.testing.assert_array_equal(result, np.arange(64.0).reshape(8, 8)[2:6])
    assert placement.seen == ((0, 0, 8, 4), (0, 2, 8, 6))
    assert Placement((4, 8), (1.0, 1.0, 3.0, 3.0), (8, 8)).seen == ((1, 1, 3, 3), (0, 0, 8, 8))
