"""Measures on maps against slow loops, against Quantus, and on maps whose answers are known."""

import json
import math

import numpy as np
import pytest
import torch

from lrpcli.evaluation.imputation import imputed
from lrpcli.evaluation.localisation import rank_inside, share_inside
from lrpcli.evaluation.map_metrics import (
    cosines,
    edges,
    entropy_gains,
    gini,
    histogram_entropy,
    kept_shares,
    positive_shares,
    rank_correlations,
)
from lrpcli.evaluation.perturbation import road_fill, road_noise
from tests.evaluation.quantus_values import CELLS, FILE, maps, masks, photo

QUANTUS = json.loads(FILE.read_text())
LEFT, RIGHT = torch.from_numpy(maps(1)), torch.from_numpy(maps(2))


def close(found, expected, within=1e-6):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=within, atol=within)


def test_equal_to_quantus():
    close(cosines(LEFT, RIGHT), QUANTUS["class"])
    close(gini(LEFT), QUANTUS["gini"])
    before, after = QUANTUS["entropy"]
    close(histogram_entropy(LEFT), before)
    close(entropy_gains(LEFT, RIGHT), [two / one - 1 for one, two in zip(before, after, strict=True)])
    close(rank_correlations(LEFT, RIGHT), QUANTUS["last_layer"])
    close(positive_shares(LEFT, torch.tensor(CELLS, dtype=torch.bool)), QUANTUS["focus"])
    pairs = list(zip(maps(1), masks(), strict=True))
    close([share_inside(scores, inside) for scores, inside in pairs], QUANTUS["mass"])
    close([rank_inside(scores, inside) for scores, inside in pairs[:3]], QUANTUS["rank"])
    image, removed = photo()
    close(imputed(torch.from_numpy(image)[None], torch.from_numpy(removed)[None], 1e-10)[0], QUANTUS["road"])


def loop_cosine(left, right):
    product = sum(a * b for a, b in zip(left, right, strict=True))
    return product / math.sqrt(sum(a * a for a in left)) / math.sqrt(sum(b * b for b in right))


def loop_gini(values):
    """Half the mean difference of two pixels' sizes over their mean."""
    sizes = [abs(value) for value in values]
    mean = sum(sizes) / len(sizes)
    return sum(abs(one - two) for one in sizes for two in sizes) / (2 * len(sizes) ** 2 * mean)


def loop_entropy(values):
    low, high = min(values), max(values)
    counts = [0] * 100
    for value in values:
        counts[min(99, int((value - low) / (high - low) * 100))] += 1
    shares = [count / len(values) for count in counts if count]
    return -sum(share * math.log(share) for share in shares)


def loop_ranks(values):
    return [
        1 + sum(other < value for other in values) + (sum(other == value for other in values) - 1) / 2
        for value in values
    ]


def loop_spearman(left, right):
    one, two = loop_ranks([abs(value) for value in left]), loop_ranks([abs(value) for value in right])
    middle = (len(one) + 1) / 2
    return loop_cosine([value - middle for value in one], [value - middle for value in two])


def test_equal_to_slow_loops():
    for place in range(4):
        one, two = LEFT[place].flatten().tolist(), RIGHT[place].flatten().tolist()
        close(cosines(LEFT, RIGHT)[place], loop_cosine(one, two), 1e-12)
        close(gini(LEFT)[place], loop_gini(one), 1e-12)
        close(histogram_entropy(LEFT)[place], loop_entropy(one), 1e-12)
        close(rank_correlations(LEFT, RIGHT)[place], loop_spearman(one, two), 1e-12)
        cells = CELLS[place]
        share = sum(
            max(value, 0)
            for row, line in enumerate(LEFT[place].tolist())
            for column, value in enumerate(line)
            if cells[2 * (row >= 6) + (column >= 5)]
        ) / sum(max(value, 0) for value in one)
        close(positive_shares(LEFT, torch.tensor(CELLS, dtype=torch.bool))[place], share, 1e-12)


def test_a_map_that_does_not_depend_on_the_class_has_the_cosine_1():
    assert cosines(LEFT, 3 * LEFT).tolist() == pytest.approx([1] * 4, abs=1e-12)
    assert cosines(LEFT, -LEFT).tolist() == pytest.approx([-1] * 4, abs=1e-12)
    assert cosines(LEFT.abs(), (-LEFT).abs()).tolist() == pytest.approx([1] * 4, abs=1e-12)
    assert cosines(LEFT, RIGHT).abs().max() < 0.5
    tiny = torch.full((1, 2, 2), 1e-30)
    assert cosines(tiny, tiny.clone()).tolist() == pytest.approx([1])


def test_a_map_that_is_the_same_for_every_net_gains_no_entropy_and_keeps_its_ranks():
    assert entropy_gains(LEFT, 2 * LEFT).tolist() == pytest.approx([0] * 4, abs=1e-12)
    assert rank_correlations(LEFT, -2 * LEFT).tolist() == pytest.approx([1] * 4)
    simple = torch.zeros(1, 20, 20)
    simple[0, :3, :3] = 1
    assert float(entropy_gains(simple, torch.randn(1, 20, 20))) > 5


def test_complexity_of_known_maps():
    single = torch.zeros(1, 5, 8)
    single[0, 2, 3] = -7
    assert gini(single).tolist() == pytest.approx([1 - 1 / 40])
    assert gini(torch.ones(1, 5, 8)).tolist() == pytest.approx([0])
    assert histogram_entropy(torch.ones(1, 5, 8)).tolist() == [0]
    ramp = torch.arange(100.0).view(1, 10, 10)
    assert histogram_entropy(ramp).tolist() == pytest.approx([math.log(100)])


def test_focus_of_known_maps():
    cells = torch.tensor([[True, False, False, True]])
    even = torch.ones(1, 8, 8)
    assert positive_shares(even, cells).tolist() == [0.5]
    right = even.clone()
    right[:, :4, 4:] = right[:, 4:, :4] = -1
    assert positive_shares(right, cells).tolist() == [1] and positive_shares(-right, cells).tolist() == [0]


def test_the_kept_share_and_its_sign():
    kept = kept_shares(torch.stack([torch.ones(2, 3), -torch.ones(2, 3), torch.ones(2, 3)]), torch.tensor([12.0, 3, 0]))
    assert kept[:2].tolist() == [0.5, -2] and bool(kept[2].isnan())


def test_what_a_map_of_zeros_does_not_define():
    zeros, some = torch.zeros(1, 4, 4), torch.rand(1, 4, 4)
    cells = torch.ones(1, 4, dtype=torch.bool)
    for found in (cosines(zeros, some), gini(zeros), entropy_gains(zeros, some), rank_correlations(some, zeros),
                  positive_shares(zeros, cells)):  # fmt: skip
        assert bool(found.isnan().all())


def test_maps_that_are_not_finite_have_no_measure():
    odd, some = torch.full((2, 4, 4), torch.nan), torch.rand(2, 4, 4)
    odd[1] = 1
    odd[1, 0, 0] = torch.inf
    for found in (cosines(odd, some), gini(odd), entropy_gains(odd, some), entropy_gains(some, odd)):
        assert bool(found.isnan().all())


def test_edges_equal_a_loop():
    image = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    grey = image.mean(1)
    found = edges(image)
    assert found.shape == (2, 5, 7)
    for row in range(5):
        for column in range(7):

            def at(down, across, row=row, column=column):
                return float(grey[1, min(max(row + down, 0), 4), min(max(column + across, 0), 6)])

            right = sum(weight * (at(step, 1) - at(step, -1)) for step, weight in ((-1, 1), (0, 2), (1, 1)))
            below = sum(weight * (at(1, step) - at(-1, step)) for step, weight in ((-1, 1), (0, 2), (1, 1)))
            assert float(found[1, row, column]) == pytest.approx(math.hypot(right, below), abs=1e-12)
    assert edges(torch.full((1, 3, 4, 4), 0.7)).abs().max() < 1e-6


def loop_road(image, removed):
    """The system written out and solved whole: x_i = sum of w_j x_j over the neighbours there are / sum of w_j."""
    _, height, width = image.shape
    matrix, right = np.eye(height * width), image.reshape(len(image), -1).copy()
    for row, column in zip(*np.nonzero(removed), strict=True):
        here = row * width + column
        neighbours = {
            (row + down) * width + column + across: 1 / 6 if 0 in (down, across) else 1 / 12
            for down in (-1, 0, 1)
            for across in (-1, 0, 1)
            if (down or across) and 0 <= row + down < height and 0 <= column + across < width
        }
        right[:, here] = 0
        for place, weight in neighbours.items():
            matrix[here, place] = -weight / sum(neighbours.values())
    return np.linalg.solve(matrix, right.T).T.reshape(image.shape)


def test_road_equals_the_system_solved_whole():
    image, removed = photo()
    several = np.stack([removed, ~removed, np.zeros_like(removed)])
    found = imputed(torch.from_numpy(image).expand(3, -1, -1, -1), torch.from_numpy(several), 1e-12).numpy()
    for one, mask in zip(found, several, strict=True):
        np.testing.assert_allclose(one, loop_road(image, mask), rtol=0, atol=1e-9)
    assert np.array_equal(found[2], image)


def test_road_in_float32_errs_by_less_than_its_noise():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 60, 60, generator=generator)
    removed = torch.zeros(1, 60, 60, dtype=torch.bool)
    removed[:, 10:50, 15:55] = True
    exact = imputed(image.double(), removed, 1e-12)
    assert float((imputed(image, removed) - exact).abs().max()) < 0.001


@pytest.mark.parametrize("side", [1, 6])
def test_road_where_nothing_is_left_is_the_mean(side):
    image = torch.rand(1, 3, side, side, dtype=torch.float64)
    found = imputed(image, torch.ones(1, side, side, dtype=torch.bool))
    torch.testing.assert_close(found, image.mean((2, 3), keepdim=True).expand_as(image))


def test_road_solves_for_the_photo_whatever_the_preprocessing():
    image, removed = (torch.from_numpy(array) for array in photo())
    mean_image = torch.randn(1, 3, 12, 11, dtype=torch.float64) * 20
    low, high = -mean_image, 255 - mean_image
    found = road_fill((low + 255 * image)[0], removed[None], low, high)
    torch.testing.assert_close((found - low) / 255, imputed(image[None], removed[None]), rtol=0, atol=1e-9)
    noise = road_noise(torch.rand(2, 3, 50, 50) * 255, torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), 255.0), 0, 0)
    assert abs(float(noise.std()) / 2.55 - 1) < 0.03 and abs(float(noise.mean())) < 0.1
    assert not torch.equal(noise[0], noise[1])


def test_road_depends_on_no_other_image_of_the_batch():
    image, removed = (torch.from_numpy(array).float() for array in photo())
    masks = torch.stack([removed > 0, torch.ones(12, 11) > 0, torch.arange(132).view(12, 11) % 7 > 0])
    together = imputed(image.expand(3, -1, -1, -1), masks)
    for place in range(3):
        alone = imputed(image[None], masks[place : place + 1])
        torch.testing.assert_close(together[place : place + 1], alone, rtol=0, atol=1e-6)
