"""Regions, ranks and fills against plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpcli.evaluation.perturbation import (
    Grid,
    blur_fill,
    default_region,
    generator_for,
    mean_fill,
    noise_fill,
    perturbed,
    random_ranks,
    ranks,
)  # fmt: skip

LOW, HIGH = (
    torch.tensor([-104.0, -117.0, -123.0]).view(1, 3, 1, 1),
    torch.tensor([151.0, 138.0, 132.0]).view(1, 3, 1, 1),
)


def images(count=2, height=10, width=13, seed=0):
    return LOW + (HIGH - LOW) * torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 11))
def test_sums_and_numbers_of_regions_equal_a_loop(height, width, size):
    grid = Grid(height, width, size)
    values = torch.randn(2, height, width, generator=torch.Generator().manual_seed(height * width))
    expected, number = [], torch.zeros(height, width, dtype=torch.long)
    for top in range(0, height, size):
        for left in range(0, width, size):
            number[top : top + size, left : left + size] = len(expected)
            expected.append(values[:, top : top + size, left : left + size].double().sum((1, 2)))
    assert grid.count == len(expected)
    torch.testing.assert_close(grid.sums(values), torch.stack(expected, 1), rtol=1e-12, atol=1e-12)
    assert torch.equal(grid.region_of_pixel(), number)


def test_regions_that_do_not_fit_are_smaller_ones_of_their_own():
    grid = Grid(5, 7, 3)
    assert (grid.rows, grid.columns, grid.count) == (2, 3, 6)
    assert torch.bincount(grid.region_of_pixel().flatten()).tolist() == [9, 9, 3, 6, 6, 2]


@pytest.mark.parametrize(("side", "size"), [(227, 9), (224, 9), (128, 5), (32, 1), (8, 1)])
def test_the_usual_size_of_a_region(side, size):
    assert default_region(side, side) == default_region(side // 2, side) == size


def test_ranks_and_their_ties():
    scores = torch.tensor([[0.5, 2.0, -1.0, 2.0]])
    assert ranks(scores, descending=True).tolist() == [[2, 0, 3, 1]]
    assert ranks(scores, descending=False).tolist() == [[1, 2, 0, 3]]
    assert ranks(torch.zeros(1, 5), descending=True).tolist() == [[0, 1, 2, 3, 4]]


def test_perturbed_images_equal_a_loop_that_replaces_one_region_at_a_time():
    x, fill, grid = images(3), images(3, seed=1), Grid(10, 13, 4)
    order = torch.stack([torch.randperm(grid.count, generator=torch.Generator().manual_seed(n)) for n in range(3)])
    rank = order.argsort(1)
    for step in range(grid.count + 1):
        expected = x.clone()
        for image in range(3):
            for region in order[image, :step].tolist():
                row, column = region // grid.columns * 4, region % grid.columns * 4
                area = (slice(None), slice(row, row + 4), slice(column, column + 4))
                expected[image][area] = fill[image][area]
            turn = rank[image][grid.region_of_pixel()]
            assert torch.equal(perturbed(x[image], fill[image], turn, torch.tensor([step]))[0], expected[image])
    assert torch.equal(expected, fill)


def test_noise_is_uniform_over_the_pixels_range_and_belongs_to_its_image():
    x = images(3, 32, 32)
    noise = noise_fill(x, LOW, HIGH, seed=1, repeat=0)
    unit = (noise - LOW) / (HIGH - LOW)
    assert unit.min() >= 0 and unit.max() <= 1
    assert abs(float(unit.mean()) - 0.5) < 0.01 and abs(float(unit.var()) - 1 / 12) < 0.005
    assert torch.equal(noise_fill(x.flip(0)[:2], LOW, HIGH, seed=1, repeat=0), noise.flip(0)[:2])
    for other in (noise_fill(x, LOW, HIGH, seed=2, repeat=0), noise_fill(x, LOW, HIGH, seed=1, repeat=1)):
        assert not torch.equal(other, noise)
    assert not torch.equal(noise[0], noise[1])


def test_random_orders_are_permutations_of_their_own_image():
    x = images(3)
    found = random_ranks(x, 12, seed=0, repeat=0)
    assert found.sort(1).values.tolist() == [list(range(12))] * 3
    assert torch.equal(random_ranks(x[1:2], 12, seed=0, repeat=0)[0], found[1])
    assert not torch.equal(found[0], found[1])


def test_a_generator_is_never_negative_and_follows_its_purpose():
    x = images(1)[0]
    assert generator_for(x, "a").initial_seed() == generator_for(x.clone(), "a").initial_seed() >= 0
    assert generator_for(x, "a").initial_seed() != generator_for(x, "b").initial_seed()


def test_the_mean_is_that_of_the_image_per_channel():
    x = images(2)
    fill = mean_fill(x)
    assert fill.shape == x.shape
    for image in range(2):
        for channel in range(3):
            assert float(fill[image, channel, 3, 5]) == pytest.approx(float(x[image, channel].mean()), rel=1e-5)


def test_the_blur_equals_a_loop_and_leaves_a_flat_photo_alone():
    mean_image = torch.randn(1, 3, 10, 13) * 20  # as with a mean image: black and white differ from pixel to pixel
    low, high = -mean_image, 255 - mean_image
    flat = low + 255 * 0.3
    torch.testing.assert_close(blur_fill(flat, low, high), flat, rtol=0, atol=1e-3)
    photo = torch.rand(1, 3, 10, 13, dtype=torch.float64) * 255
    got = blur_fill(photo + low, low.double(), high.double()) - low
    deviation, total, weights = 0.05 * 13, 0.0, 0.0
    for row in range(10):
        for column in range(13):
            weight = math.exp(-((row - 2) ** 2 + (column - 12) ** 2) / (2 * deviation**2))
            total, weights = total + weight * photo[0, 1, row, column], weights + weight
    assert float(got[0, 1, 2, 12]) == pytest.approx(float(total / weights), rel=1e-6)
