"""Pooling rules equal a loop over windows that are listed from Caffe's definition."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lrpcli import Explainer
from lrpcli.errors import ConfigError
from lrpcli.lrp.layers.pooling import Proportional
from lrpcli.lrp.layers.products import GatedSum
from lrpcli.lrp.operation import Step
from lrpcli.lrp.rules import RULES
from tests.lrp import reference
from tests.lrp.helpers import Call, agree, redistributed

AVERAGE = {"kind": {"max-pool": "average"}}
SIGNS = torch.tensor([1.0, -1.0], dtype=torch.float64).view(1, 2, 1, 1)  # one channel positive, one negative


@st.composite
def geometries(draw):
    kernel = draw(st.integers(1, 4))
    padding = draw(st.integers(0, kernel // 2))
    size = tuple(kernel + draw(st.integers(0, 5)) for _ in range(2))
    return {"kernel": kernel, "stride": draw(st.integers(1, 4)), "padding": padding, "ceil": draw(st.booleans()),
            "size": size, "seed": draw(st.integers(0, 10**6))}  # fmt: skip


def image(geometry, signed=True):
    """Whole numbers, so that windows hold ties; positive ones where sums must stay away from zero."""
    low = -3 if signed else 1
    generator = torch.Generator().manual_seed(geometry["seed"])
    return torch.randint(low, 4, (1, 2, *geometry["size"]), generator=generator).double()


def check(module, config, x, windows, share, divisors=None):
    got, arrived = redistributed(module, config, x)
    windows = list(windows)
    assert arrived[0].numel() == len(windows)
    agree(got[0], reference.pool(x[0].numpy(), arrived[0].numpy(), windows, share, divisors), 1e-10)


def windows_of(g):
    return reference.pool_windows((2, *g["size"]), g["kernel"], g["stride"], g["padding"], g["ceil"])


@pytest.mark.parametrize("kind", reference.POOLING)
def test_every_rule_has_a_loop(kind):
    assert list(RULES[kind]) == list(reference.POOLING[kind])


@pytest.mark.parametrize("rule", RULES["max-pool"])
@given(geometry=geometries())
@settings(max_examples=60, deadline=None)
def test_max_pooling(rule, geometry):
    g = geometry
    layer = nn.MaxPool2d(g["kernel"], g["stride"], g["padding"], ceil_mode=g["ceil"])
    x = image(g, signed=False) * SIGNS if rule == "average" else image(g)
    check(layer, {"kind": {"max-pool": rule}}, x, windows_of(g), reference.POOLING["max-pool"][rule])


@pytest.mark.parametrize("rule", RULES["average-pool"])
@given(geometry=geometries(), count_padding=st.booleans(), divisor=st.sampled_from([None, 7]))
@settings(max_examples=60, deadline=None)
def test_average_pooling(rule, geometry, count_padding, divisor):
    """Of the divisor only the gradient knows: in proportions it cancels."""
    g = geometry
    layer = nn.AvgPool2d(g["kernel"], g["stride"], g["padding"], g["ceil"], count_padding, divisor)
    windows = list(windows_of(g))
    sizes = reference.pool_sizes((2, *g["size"]), g["kernel"], g["stride"], g["padding"], g["ceil"])
    divisors = [
        divisor or (size if count_padding else len(window)) for window, size in zip(windows, sizes, strict=True)
    ]
    share = reference.POOLING["average-pool"][rule]
    check(layer, {"kind": {"average-pool": rule}}, image(g, signed=False) * SIGNS, windows, share, divisors)


@given(geometry=geometries(), count_padding=st.booleans(), divisor=st.sampled_from([None, 7]))
@settings(max_examples=60, deadline=None)
def test_averages_of_zero_are_shared_evenly_where_biases_are_distributed(geometry, count_padding, divisor):
    g = geometry
    x = image(g, signed=False) * SIGNS
    x[:, :, : g["size"][0] // 2 + 1] = 0.0
    layer = nn.AvgPool2d(g["kernel"], g["stride"], g["padding"], g["ceil"], count_padding, divisor)
    check(layer, {"bias": "distribute"}, x, windows_of(g), reference.proportional_or_even)


@given(geometry=geometries())
@settings(max_examples=60, deadline=None)
def test_windows_of_zeros_are_shared_evenly_where_maxima_are_averaged(geometry):
    g = geometry
    x = image(g, signed=False) * SIGNS
    x[:, :, : g["size"][0] // 2 + 1] = 0.0
    layer = nn.MaxPool2d(g["kernel"], g["stride"], g["padding"], ceil_mode=g["ceil"])
    check(layer, AVERAGE | {"bias": "distribute"}, x, windows_of(g), reference.proportional_or_even)


def test_adaptive_windows_of_zeros_are_shared_evenly_where_maxima_are_averaged():
    x = torch.rand(1, 2, 7, 5, dtype=torch.float64)
    x[0, :, :4] = 0.0
    windows = adaptive_windows((2, 7, 5), (3, 2))
    check(nn.AdaptiveMaxPool2d((3, 2)), AVERAGE | {"bias": "distribute"}, x, windows, reference.proportional_or_even)


@pytest.mark.parametrize("signal", [0, 1])
def test_gated_sums_of_zero_are_shared_by_the_gates(signal):
    """Attention pooling: where the signal is zero, its places get what their gates weigh."""
    x, gate = torch.rand(3, 4, dtype=torch.float64), torch.rand(4, 5, dtype=torch.float64)
    x[1] = 0.0
    arrived, layer = torch.rand(3, 5, dtype=torch.float64), GatedSum(signal)
    expected = torch.zeros_like(x)
    for i, j in itertools.product(range(3), range(5)):
        parts = gate[:, j] * (x[i] if bool(x[i].any()) else 1.0)
        expected[i] += parts / parts.sum() * arrived[i, j]
    inputs = (x, gate) if signal == 0 else (gate.mT, x.mT)
    arrived = arrived if signal == 0 else arrived.mT
    step = Step(layer, tuple(one.shape for one in inputs), inputs, layer.run(*inputs)[0])
    found = Proportional(bias="distribute").relevance(step, arrived)
    agree(found[signal] if signal == 0 else found[signal].mT, expected, 1e-12)
    assert found[1 - signal] is None


@pytest.mark.parametrize("function", [lambda x: x.mean((2, 3)), lambda x: x.sum(3)])
def test_means_and_sums_of_zeros_are_shared_evenly_too(function):
    x = torch.rand(1, 3, 4, 5, dtype=torch.float64)
    x[0, 1], x[0, 2, 3] = 0.0, 0.0
    got, arrived = redistributed(Call(function), {"bias": "distribute"}, x)
    place = torch.arange(60).view(3, 4, 5)
    windows = place.flatten(1) if arrived.dim() == 2 else place.flatten(0, 1)
    shares = reference.pool(x[0].numpy(), arrived[0].numpy(), windows.tolist(), reference.proportional_or_even)
    agree(got[0], shares, 1e-12)


def test_caffe_clips_the_last_window():
    """Kernel 3, stride 2, rounded up: 5 pixels give 2 windows, 6 pixels 3, the last of them clipped."""
    counts = [len(list(reference.pool_windows((1, n, 3), 3, 2, 0, True))) for n in (5, 6)]
    assert counts == [2, 3]
    x = torch.arange(18.0).view(1, 1, 6, 3)
    got, arrived = redistributed(nn.MaxPool2d(3, 2, ceil_mode=True), {}, x)
    expected = torch.zeros(6, 3)
    expected[[2, 4, 5], 2] = arrived.flatten()
    torch.testing.assert_close(got[0, 0], expected)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_first_of_equal_maxima_wins(channels_last):
    x = torch.zeros(1, 3, 6, 6)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    got, arrived = redistributed(nn.MaxPool2d(3, 3), {}, x)
    expected = torch.zeros_like(x)
    expected[:, :, ::3, ::3] = arrived
    torch.testing.assert_close(got, expected)


def test_overlapping_windows_add():
    x = torch.zeros(1, 1, 3, 5)
    x[0, 0, 1, 2] = 1.0
    got, arrived = redistributed(nn.MaxPool2d(3, 1), {}, x)
    assert float(got[0, 0, 1, 2]) == pytest.approx(float(arrived.sum()))


def test_dilated_windows():
    x = torch.rand(1, 1, 7, 7, dtype=torch.float64)
    got, arrived = redistributed(nn.MaxPool2d(2, 2, dilation=3), {}, x)
    places = range(0, 4, 2)
    windows = [[y * 7 + x for y in (a, a + 3) for x in (b, b + 3)] for a, b in itertools.product(places, places)]
    agree(got[0], reference.pool(x[0].numpy(), arrived[0].numpy(), windows, reference.winner), 1e-12)


def test_dilated_windows_cannot_be_averaged():
    with pytest.raises(ConfigError, match="Layer '0' cannot have the rule 'average'. Its windows are dilated"):
        Explainer(nn.Sequential(nn.MaxPool2d(2, dilation=2), nn.Flatten()), AVERAGE)


def adaptive_windows(shape, size):
    """From floor(i n / m) to ceil((i + 1) n / m): torch's definition."""
    channels, *lengths = shape
    bounds = [[((i * n) // m, -((-(i + 1) * n) // m)) for i in range(m)] for n, m in zip(lengths, size, strict=True)]
    for c, rows, columns in itertools.product(range(channels), *bounds):
        yield [(c * lengths[0] + y) * lengths[1] + x for y in range(*rows) for x in range(*columns)]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 2), (7, 5)])
def test_adaptive_pooling(size):
    x = torch.rand(1, 2, 7, 5, dtype=torch.float64) + 0.1
    windows = list(adaptive_windows((2, 7, 5), size))
    check(nn.AdaptiveAvgPool2d(size), {}, x, windows, reference.proportional)
    check(nn.AdaptiveMaxPool2d(size), {}, x, windows, reference.winner)
    check(nn.AdaptiveMaxPool2d(size), AVERAGE, x, windows, reference.proportional)
    gradient = {"kind": {"any": "gradient"}}
    check(nn.AdaptiveAvgPool2d(size), gradient, x, windows, reference.mean_gradient)
    check(nn.AdaptiveMaxPool2d(size), gradient, x, windows, reference.winner)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.mean((2, 3)),
        lambda x: x.mean([-1, -2], keepdim=True),
        lambda x: torch.mean(x, dim=(2, 3)),
        lambda x: x.mean(3).mean(2),
        lambda x: nn.functional.adaptive_avg_pool2d(x, 1),
        lambda x: nn.functional.avg_pool2d(x, (4, 5)),
    ],
)
def test_global_average_in_every_spelling(function):
    x = torch.rand(1, 3, 4, 5, dtype=torch.float64)
    got, arrived = redistributed(Call(function), {}, x)
    arrived = arrived.reshape(1, 3, 1, 1)
    torch.testing.assert_close(got, x / x.sum((2, 3), keepdim=True) * arrived, rtol=1e-12, atol=0)


@pytest.mark.parametrize("bias", ["absorb", "ignore"])
@pytest.mark.parametrize(
    "layer", [nn.AvgPool2d(2), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), Call(lambda x: x.mean(1))]
)
def test_zero_over_zero_is_zero_unless_biases_are_distributed(layer, bias):
    got, _ = redistributed(layer, AVERAGE | {"bias": bias}, torch.zeros(1, 2, 4, 4))
    assert not got.any()
