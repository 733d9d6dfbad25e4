"""Relevance that is not finite is an error of its image, and relevance that exploded is said."""

import re
import warnings

import pytest
import torch
from torch import nn

from lrpcli import Explainer
from lrpcli.errors import ImageError, UsageError
from tests.lrp.helpers import image

LRP0 = {"kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}
BLIND = LRP0 | {"bias": "ignore"}


def overflowing():
    """Logits beyond float32 for inputs beyond 1."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)).eval()
    net[1].weight.data.fill_(1e30)
    net[3].weight.data.fill_(1e8)
    return net


def cancelling(size):
    """One output z = w (x_0 - x_1) for w = `size`: each input gets w times its value."""
    net = nn.Sequential(nn.Linear(2, 1, bias=False)).eval()
    net[0].weight.data = torch.tensor([[size, -size]])
    return net


def with_norms(depth):
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 6, 3, padding=1)]
    for _ in range(depth):
        norm = nn.BatchNorm2d(6)
        norm.running_mean.normal_()
        layers += [nn.Conv2d(6, 6, 3, padding=1), norm, nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 64, 5)).eval()


def test_an_image_whose_logits_are_not_finite_is_an_error_that_names_it():
    x = torch.rand(4, 1, 2, 2) / 10
    x[1] *= 100
    x[3] *= 100
    explain = Explainer(overflowing(), LRP0, device="cpu")
    text = (
        "Each of the images 1, 3 of the batch (counted from 0) cannot be explained. Image 1: Its logits are not finite."
    )
    with pytest.raises(ImageError, match=re.escape(text)) as caught:
        explain(x)
    assert caught.value.kind == "compute"
    found = explain(x, strict=False)
    assert found.failures == {1: "Its logits are not finite.", 3: "Its logits are not finite."}
    expected = explain(x[::2])
    assert torch.equal(found.relevance[::2], expected.relevance)
    assert expected.failures == {}


@pytest.mark.parametrize("keep_layers", [False, True])
@pytest.mark.parametrize("target", [None, "top2"])
def test_relevance_that_is_not_finite_names_the_layer_where_that_begins(target, keep_layers):
    """float16 ends at 65504."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False), nn.Linear(2, 2, bias=False)).eval()
    net[1].weight.data = torch.tensor([[6e4, -6e4, 0, 0], [0.0, 0, 1, 1]])
    net[2].weight.data = torch.tensor([[1.0, 1], [1, 0.9]])
    x = torch.tensor([[2.0, 2 - 2**-10, 1, 1], [0, 0, 1, 1]]).view(2, 1, 2, 2)
    explain = Explainer(net, LRP0, dtype=torch.float16, device="cpu")
    found = explain(x, target, keep_layers=keep_layers, strict=False)
    assert list(found.failures) == [0]
    assert found.failures[0].startswith("Its relevance is not finite from '")
    with pytest.raises(ImageError, match="^Image 0 of the batch"):
        explain(x, target, keep_layers=keep_layers)
    explain(x[1:], target, keep_layers=keep_layers)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_pixels_that_are_not_finite_are_refused_by_image(value):
    x = image(5, 3, 8, 8).float()
    x[1, 2, 3, 4] = value
    x[4, 0, 0, 0] = value
    explain = Explainer(with_norms(1), "epsilon", device="cpu")
    with pytest.raises(UsageError, match="Each of the images 1, 4 of the batch .* not finite in float32"):
        explain(x)
    with pytest.raises(UsageError, match=r"Image 0 of the batch \(counted from 0\) has pixels"):
        explain(x[4:])
    explain(x[2:4])


def test_pixels_beyond_the_type_of_the_engine_are_not_finite():
    explain = Explainer(with_norms(1), "epsilon", dtype=torch.float16, device="cpu")
    with pytest.raises(UsageError, match="Image 1 of the batch .* not finite in float16"):
        explain(torch.tensor([1.0, 1e5]).view(2, 1, 1, 1).expand(2, 3, 8, 8))


@pytest.mark.parametrize(("share", "said"), [(0.9e6, False), (1.1e6, True)])
@pytest.mark.parametrize("start", ["logit", "one"])
def test_relevance_over_a_million_times_the_start_is_warned_of(share, said, start):
    """R_0 = w x_0 / z of the start, with z = w (x_0 - x_1): x_0 / (x_0 - x_1)."""
    x = torch.tensor([[1.0, 1.0 - 1 / share], [1.0, 0.0]], dtype=torch.float64)
    explain = Explainer(cancelling(3.0), LRP0, start=start, dtype=x.dtype, device="cpu")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = explain(x)
    assert found.exploded.tolist() == [said, False]
    assert len(caught) == said
    if said:
        assert "With the config 'custom' single relevances are over a million times the start" in str(caught[0].message)
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert explain(x, strict=False).exploded.tolist() == [said, False]


def test_nets_with_many_batch_norms_explode_where_biases_are_ignored():
    """And with an epsilon they do not."""
    x = image(2, 3, 8, 8)
    net = with_norms(24)
    with pytest.warns(UserWarning, match="a million times the start"):
        found = Explainer(net, BLIND, dtype=torch.float64, device="cpu")(x)
    assert bool(found.exploded.any())
    size = found.relevance.abs().flatten(1).amax(1) / found.start.abs()
    assert float(size.max()) > 1e6
    Explainer(net, "epsilon-plus", dtype=torch.float64, device="cpu")(x)


@pytest.mark.parametrize("start", ["softmax-gradient", "contrastive", "contrastive-positive", "probability"])
def test_starts_that_sum_to_nothing_do_not_count_as_exploded(start):
    Explainer(with_norms(1), "epsilon-plus", start=start, dtype=torch.float64, device="cpu")(image(2, 3, 8, 8))


def test_several_classes_have_an_answer_each():
    found = Explainer(with_norms(1), "epsilon-plus", device="cpu")(image(2, 3, 8, 8), "top3")
    assert found.exploded.shape == (2, 3)
    assert found.failures == {}
