"""Every linear rule equals the float64 loop of reference.py, over random shapes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lrpcli import Explainer
from lrpcli.lrp.layers.linear import PREPARED, FullyConnected
from lrpcli.lrp.propagate import backward, forward
from lrpcli.lrp.rules import LINEAR_KINDS, RULES
from tests.lrp import reference

PARAMETERS = {
    "epsilon": [{"epsilon": 0}, {"epsilon": 0.3}, {"epsilon": 0.1, "bias": "ignore"}, {"relative": 0.2},
                {"relative": 0}, {"relative": 1.5, "bias": "ignore"}, {"epsilon": 0.3, "bias": "distribute"},
                {"epsilon": 0, "bias": "distribute"}, {"relative": 0.5, "bias": "distribute"}],
    "alpha-beta": [{"beta": 0.5}, {"beta": 2.0, "bias": "ignore"}, {"beta": 0.5, "bias": "distribute"}],
    "z-plus": [{"bias": "ignore"}, {"bias": "distribute"}],
    "gamma": [{"gamma": 2.0, "bias": "ignore"}, {"gamma": 0.5, "bias": "distribute"}],
    "z-box": [{"low": -3.0, "high": 5.0}],
    "sign": [{"epsilon": 0.2}, {"epsilon": 0.2, "bias": "ignore"}, {"relative": 0.1},
             {"relative": 0.1, "bias": "ignore"}, {"epsilon": 0.2, "bias": "distribute"}],
}  # fmt: skip
"""What each rule is tested with beside its defaults; z-box has none."""
CASES = {
    f"{name} {parameters or ''}".rstrip(): (name, parameters)
    for name in RULES["convolution"]
    for parameters in ([] if name == "z-box" else [{}]) + PARAMETERS.get(name, [])
}


def entry_of(case):
    """The entry of a config."""
    name, parameters = CASES[case]
    return {"rule": name, **parameters}


def share_of(case, neurons, x):
    """The loop's share by the same parameters, for the flat inputs of one image."""
    name, parameters = CASES[case]
    if "relative" in parameters:
        parameters = dict(parameters)
        relative, bias = parameters.pop("relative"), parameters.get("bias", "absorb")
        parameters["epsilon"] = reference.relative_epsilon(neurons, x, relative, bias)
    return reference.LINEAR[name](**parameters)


@pytest.mark.parametrize("kind", LINEAR_KINDS)
def test_every_rule_has_a_loop(kind):
    assert list(RULES[kind]) == list(reference.LINEAR)
    assert {name for name, _ in CASES.values()} == set(reference.LINEAR)


class Two(nn.Module):
    """An activation and one linear layer, so that the layer knows whether its input can be negative."""

    def __init__(self, layer, nonnegative):
        super().__init__()
        self.before = nn.ReLU() if nonnegative else nn.Identity()
        self.layer = layer
        self.flatten = nn.Flatten()

    def forward(self, x):
        return self.flatten(self.layer(self.before(x)))


@st.composite
def geometries(draw):
    """Channels, groups, kernel, stride, padding, dilation and an input size that fits, non-square."""
    groups = draw(st.sampled_from([1, 1, 2]))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(min(p, r - 1) for p, r in zip(padding, reach, strict=True))
    size = tuple(r + draw(st.integers(0, 3)) for r in reach)
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    inputs, outputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    return {"groups": groups, "kernel": kernel, "dilation": dilation, "padding": padding, "stride": stride,
            "inputs": inputs, "outputs": outputs, "size": size}  # fmt: skip


def drawn(g):
    """A random convolution of that geometry, its neurons, and an input."""
    layer = nn.Conv2d(g["inputs"], g["outputs"], g["kernel"], g["stride"], g["padding"], g["dilation"], g["groups"])
    layer = layer.double()
    x = torch.randn(1, g["inputs"], *g["size"], dtype=torch.float64) + 0.3
    neurons, _ = reference.convolution(layer.weight.detach().numpy(), layer.bias.detach().numpy(), g["size"],
                                       g["stride"], g["padding"], g["dilation"], g["groups"])  # fmt: skip
    return layer, neurons, x


def explained(layer, x, entry, nonnegative):
    """Relevance of the input and the random relevance that arrived at the layer's output, each for one image."""
    explainer = Explainer(Two(layer, nonnegative), {"kind": {"linear": entry}}, dtype=torch.float64)
    with torch.no_grad():
        trace = forward(explainer.plan, x)
        start = torch.randn(trace.output.shape, dtype=torch.float64)
        found = backward(explainer.plan, trace, start)
    return found.relevance[0].numpy().ravel(), start[0].numpy().ravel()


def check(neurons, x, case, layer):
    for nonnegative in (True, False):
        got, arrived = explained(layer, x, entry_of(case), nonnegative)
        read = (np.maximum(x[0].numpy(), 0) if nonnegative else x[0].numpy()).ravel()
        expected = reference.redistribute(neurons, read, arrived, share_of(case, neurons, read))
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("case", CASES)
@given(geometry=geometries(), seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_convolution_equals_the_loop(case, geometry, seed):
    torch.manual_seed(seed)
    layer, neurons, x = drawn(geometry)
    check(neurons, x, case, layer)


@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("case", CASES)
@given(geometry=geometries(), seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_a_layer_that_a_relu_writes_over_equals_the_loop(case, nonnegative, geometry, seed):
    """Relevance is zero where the ReLU is, which the rules know and use."""
    torch.manual_seed(seed)
    layer, neurons, x = drawn(geometry)
    first = nn.ReLU() if nonnegative else nn.Identity()
    outputs = layer(x).numel()
    net = nn.Sequential(first, layer, nn.ReLU(), nn.Flatten(), nn.Linear(outputs, 3).double())
    config = {"kind": {"linear": "epsilon"}, "name": {"1": entry_of(case)}}
    explainer = Explainer(net, config, dtype=torch.float64)
    layers = {layer.name: index for index, layer in enumerate(explainer.graph.layers)}
    assert explainer.plan.overwritten[layers["1"]]
    found = explainer(x, keep_layers=True)
    read, arrived = first(x).numpy().ravel(), found.layers["1"].numpy().ravel()
    expected = reference.redistribute(neurons, read, arrived, share_of(case, neurons, read))
    np.testing.assert_allclose(
        found.relevance.numpy().ravel(), expected, rtol=0, atol=1e-10 * max(np.abs(expected).max(), 1e-6)
    )


@pytest.mark.parametrize("case", CASES)
def test_fully_connected_equals_the_loop(case):
    torch.manual_seed(3)
    layer = nn.Linear(11, 6).double()
    neurons = reference.fully_connected(layer.weight.detach().numpy(), layer.bias.detach().numpy())
    check(neurons, torch.randn(1, 11, dtype=torch.float64), case, layer)


@pytest.mark.parametrize("rule", ["epsilon", "alpha-beta", "gamma"])
def test_zero_over_zero_is_zero(rule):
    layer = nn.Linear(3, 2, bias=False).double()
    entry = {"rule": rule, "epsilon": 0.0} if rule == "epsilon" else {"rule": rule}
    got, _ = explained(layer, torch.zeros(1, 3, dtype=torch.float64), entry, False)
    np.testing.assert_array_equal(got, np.zeros(3))


def test_a_missing_negative_half_is_dropped():
    """With no negative term at all, alpha-beta keeps the positive half alone: alpha times R arrives."""
    layer = nn.Linear(4, 1, bias=False).double()
    layer.weight.data.abs_()
    x = torch.ones(1, 4, dtype=torch.float64)
    got, arrived = explained(layer, x, {"rule": "alpha-beta", "beta": 1.0}, True)
    assert got.sum() == pytest.approx(2 * arrived.sum(), rel=1e-12)


def test_a_negative_half_that_is_rounding_is_dropped():
    """Negative terms of 1e-7 of the positive ones leave no digit of their sum in float32: its shares would be noise."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 16, 11, stride=4, bias=False)
    layer.weight.data.abs_().neg_()[:, 0] *= -1e-7
    net = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(16 * 25, 3, bias=False))
    net[3].weight.data.abs_()
    result = Explainer(net, {"kind": {"linear": {"rule": "alpha-beta", "beta": 1.0}}}, device="cpu")(
        -1 - torch.rand(2, 3, 27, 27), keep_layers=True
    )
    torch.testing.assert_close(result.conservation["input"], 2 * result.conservation["0"])
    assert result.relevance.min() >= -1e-6 * result.relevance.max()


def test_transposed_and_one_dimensional_convolutions_conserve():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1, bias=False), nn.ReLU(),
        nn.ConvTranspose1d(4, 2, 4, stride=2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 22, 5, bias=False),
    ).double()  # fmt: skip
    explainer = Explainer(model, {"kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}, dtype=torch.float64)
    result = explainer(torch.rand(2, 2, 10, dtype=torch.float64))
    torch.testing.assert_close(result.conservation["input"], result.start, rtol=1e-9, atol=0)


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 1.0])
def test_spreading_few_rows_equals_the_product(images, share):
    torch.manual_seed(images)
    layer = FullyConnected(nn.Linear(7, 40).double())
    gradient = torch.randn(images, 40, dtype=torch.float64) * (torch.rand(images, 40) < share)
    found = layer.spread(gradient, layer.kernel("signed"), torch.Size((images, 7)))
    torch.testing.assert_close(found, gradient @ layer.weight, rtol=1e-12, atol=1e-12)


def test_what_is_kept_for_inputs_of_many_sizes_is_bounded():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    explainer = Explainer(net, {"kind": {"convolution": "flat"}})
    for side in range(3, 3 + 2 * PREPARED):
        explainer(torch.randn(1, 1, side, side))
    assert len(explainer.graph.layers[1].operation._prepared) <= PREPARED
