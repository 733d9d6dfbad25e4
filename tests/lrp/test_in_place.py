"""ReLUs that write over their input change nothing but the time, and do not where a rule still needs it."""

import pytest
import torch
from torch import nn

from lrpcli import Explainer
from lrpcli.lrp import propagate
from lrpcli.lrp.composites.composite import builtin_names
from lrpcli.lrp.in_place import overwritten
from tests.lrp.helpers import Call
from tests.lrp.nets import NETS, photos

BOX = (torch.full((1, 3, 1, 1), -110.0), torch.full((1, 3, 1, 1), 145.0))


class Sums(nn.Module):
    """ReLUs behind a sum, a difference and a factor of its own, whose rules read their outputs."""

    def __init__(self):
        super().__init__()
        self.conv, self.side, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 4)
        self.norm = nn.BatchNorm2d(6, affine=False)

    def forward(self, x):
        x = torch.relu(self.conv(x) - 0.1)
        x = torch.relu(self.norm(torch.relu(x + self.side(x)).clone() * 2.0))
        return self.last(torch.relu(x - self.side(x)).mean((2, 3)))


def sums():
    torch.manual_seed(4)
    net = Sums()
    net.norm.running_mean.fill_(0.2)
    return net.eval()


ALL_NETS = {**NETS, "sums": (sums, (3, 9, 9))}


DISTRIBUTED = [
    {"bias": "distribute"},
    {"bias": "distribute", "kind": {"linear": {"rule": "epsilon", "relative": 0.1}}},
    {"bias": "distribute", "kind": {"linear": {"rule": "alpha-beta", "beta": 1.0}}},
    {"bias": "distribute", "kind": {"convolution": "gamma", "fully-connected": "z-plus"}},
]
"""Configs whose rules send relevance to inputs that are zero."""


@pytest.mark.parametrize("config", DISTRIBUTED)
@pytest.mark.parametrize("net", ALL_NETS)
def test_distributed_biases_reach_what_a_relu_made_zero(net, config, monkeypatch):
    make, shape = ALL_NETS[net]
    explainer = Explainer(make(), config, dtype=torch.float64)
    found = explainer(photos(2, shape))
    monkeypatch.setattr(propagate, "overwritten", lambda graph, rules: {})
    plain = explainer.with_config(config)(photos(2, shape))
    torch.testing.assert_close(
        found.relevance, plain.relevance, rtol=0, atol=1e-11 * float(plain.relevance.abs().max())
    )


@pytest.mark.parametrize("config", DISTRIBUTED[:2])
@pytest.mark.parametrize("net", ALL_NETS)
def test_a_net_with_biases_conserves_where_they_are_distributed(net, config):
    make, shape = ALL_NETS[net]
    result = Explainer(make(), config, dtype=torch.float64)(photos(2, shape))
    scale = result.relevance.abs().sum((1, 2, 3))
    assert bool(((result.relevance.sum((1, 2, 3)) - result.start).abs() < 1e-9 * scale).all())


@pytest.mark.parametrize("name", builtin_names())
@pytest.mark.parametrize("net", ALL_NETS)
def test_maps_are_those_of_a_run_that_writes_nothing_over(net, name, monkeypatch):
    make, shape = ALL_NETS[net]
    explainer = Explainer(make(), name, dtype=torch.float64, pixel_range=BOX)
    assert explainer.plan.overwritten or name.startswith("gradient")
    found = explainer(photos(2, shape), keep_layers=True)
    monkeypatch.setattr(propagate, "overwritten", lambda graph, rules: {})
    unplanned = explainer.with_config(name)
    assert unplanned.plan.overwritten == {}
    plain = unplanned(photos(2, shape), keep_layers=True)
    assert found.layers.keys() == plain.layers.keys()
    for one, other in zip(
        (*found.layers.values(), found.relevance), (*plain.layers.values(), plain.relevance), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11 * float(other.abs().max()))


def plan(model, config):
    explainer = Explainer(model, config)
    return {explainer.graph.layers[index].name: quiet for index, quiet in explainer.plan.overwritten.items()}


def chain():
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"kind": {"linear": "epsilon"}}, {"0": True, "2": True}),
        ({"kind": {"linear": "epsilon"}, "position": {"last": "flat"}}, {"0": True}),  # layer 2 needs z, and R comes
        ({"kind": {"linear": "z-plus"}, "position": {"last": "flat"}}, {"0": True}),
        ({"kind": {"linear": "flat"}}, {"0": False, "2": False}),  # flat needs no z
        ({"kind": {"any": "gradient"}}, {}),  # the gradient of a ReLU needs its input
    ],
)
def test_only_what_no_rule_needs_is_written_over(rules, expected):
    assert plan(chain(), rules) == expected


def test_without_rules_every_linear_output_may_be_written_over():
    assert list(overwritten(Explainer(chain()).graph, None)) == [1, 3]


class Twice(nn.Module):
    """z is read by a ReLU and by a sum."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        z = self.first(x)
        return self.last(torch.relu(z) + z)


def test_what_another_layer_reads_is_not_written_over():
    model, x = Twice().double(), torch.randn(3, 4, dtype=torch.float64)
    assert plan(model, "epsilon") == {}
    torch.testing.assert_close(Explainer(model, "epsilon", dtype=torch.float64).predict(x), model(x))


@pytest.mark.parametrize("function", [torch.sigmoid, nn.functional.softplus])
def test_relevance_may_come_from_a_zero_that_an_activation_made_large(function):
    """Behind sigmoid(relu(z)), z <= 0 gets relevance, so that z must stay."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(function(torch.relu(self.first(x))))

    assert plan(Net(), "epsilon") == {}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: torch.where(x > 0.1, x, 0.5), {}),  # an activation: the constant stands for x, and x gets R there
        (lambda x: x.masked_fill(x < 0.1, 0.5), {}),
        (lambda x: torch.where(torch.arange(4) < 2, x, 0.5), {"first": True}),  # the constant is no x, and R is lost
    ],
)
def test_relevance_may_come_from_a_zero_for_which_a_choice_put_a_constant(function, expected, monkeypatch):
    model = Call(
        lambda self, x: self.last(function(torch.relu(self.first(x)))), first=nn.Linear(4, 4), last=nn.Linear(4, 2)
    ).double()
    assert plan(model, "epsilon") == expected
    x = torch.randn(3, 4, dtype=torch.float64)
    found = Explainer(model, "epsilon", dtype=torch.float64)(x).relevance
    monkeypatch.setattr(propagate, "overwritten", lambda graph, rules: {})
    torch.testing.assert_close(Explainer(model, "epsilon", dtype=torch.float64)(x).relevance, found)


def test_a_view_of_the_input_is_not_written_over():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(4, 2)

        def forward(self, x):
            return self.last(torch.relu(x.flatten(1)))

    x = torch.randn(3, 2, 2)
    before = x.clone()
    Explainer(Net())(x)
    assert torch.equal(x, before)
