"""Whether maps depend on the class: the cosine of two maps, and which images are checked."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from lrpcli import Explainer
from lrpcli.images.find import Source
from lrpcli.pipeline.class_check import class_cosines
from lrpcli.pipeline.row import Whole

LRP0 = {"kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}


def net(*rows):
    """Logits by these weights of the four pixels of one channel; with LRP-0 the map of a class is weight * pixel."""
    linear = nn.Linear(4, len(rows), bias=False)
    linear.weight.data = torch.tensor(rows)
    return nn.Sequential(nn.Flatten(), linear)


@pytest.mark.parametrize("start", ["logit", "one", "probability"])
def test_the_cosine_is_that_of_the_maps_whatever_the_size_and_sign_of_the_scores(start):
    first, second = torch.tensor([-1.0, -2.0, 0.5, 0.0]), torch.tensor([-3.0, 1.0, -2.0, -1.0])
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 1.0, 3.0]])
    explainer = Explainer(net(first.tolist(), second.tolist(), [-9.0] * 4), LRP0, start=start, device="cpu")
    cosines = class_cosines(explainer, x.view(2, 1, 2, 2))
    for cosine, pixels in zip(cosines, x, strict=True):
        # The map of a class for the start one: what it reads, divided by what that makes.
        a, b = (weight * pixels / (weight * pixels).sum() for weight in (first, second))
        assert cosine == pytest.approx(float(torch.cosine_similarity(a, b, dim=0)), abs=1e-5)


def test_maps_that_do_not_depend_on_the_class_have_a_cosine_of_one():
    explainer = Explainer(net([1.0, 2.0, 3.0, 4.0], [0.5, 1.0, 1.5, 2.0]), LRP0, device="cpu")
    assert class_cosines(explainer, torch.rand(3, 1, 2, 2)) == pytest.approx([1.0] * 3)


def test_a_map_of_zeros_has_no_cosine():
    explainer = Explainer(net([1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]), LRP0, device="cpu")
    assert class_cosines(explainer, torch.ones(1, 1, 2, 2)) == [None]


def test_channels_are_summed_before_maps_are_compared():
    linear = nn.Linear(4, 2, bias=False)
    linear.weight.data = torch.tensor([[1.0, 0.0, 0.0, 2.0], [0.0, 1.0, 2.0, 0.0]])
    explainer = Explainer(nn.Sequential(nn.Flatten(), linear), LRP0, device="cpu")
    (cosine,) = class_cosines(explainer, torch.ones(1, 2, 1, 2))  # (1, 2) and (2, 1) with the channels summed
    assert cosine == pytest.approx(4 / 5)


@pytest.mark.parametrize("count, expected", [(3, 3), (20, 20), (21, 20), (1000, 20)])
def test_a_sample_is_spread_over_the_run(count, expected):
    names = [f"{number:04}" for number in range(count)]
    sample = Whole(len(names), [Source(name, name) for name in names]).sample
    assert len(sample) == expected
    places = sorted(int(name) for name in sample)
    steps = {b - a for a, b in pairwise(places)}
    assert max(steps, default=0) - min(steps, default=0) <= 1
