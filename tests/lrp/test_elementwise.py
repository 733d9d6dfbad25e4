"""Sums, gates, activations and the rest: each formula written out by hand."""

import pytest
import torch
from torch import nn

from lrpcli.lrp.layers.elementwise import Sum, SumRule
from lrpcli.lrp.operation import Step
from tests.lrp.helpers import Call, agree, check, image, redistributed


def sums(x, r):
    """Relevance of the addends tanh(x) and 3 x of their sum."""
    return (torch.tanh(x) + 3 * x) * r / (torch.tanh(x) + 3 * x)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.tanh(x) + 3 * x,
        lambda x: torch.add(torch.tanh(x), other=x * 3),
        lambda x: torch.tanh(x).add_(3 * x),
        lambda x: 3 * x - -1 * torch.tanh(x),
    ],
)
def test_sum_shares_in_proportion(function):
    x = image(2, 3, 4)
    check(function, x, lambda r: sums(x, r))


def test_sum_in_proportion_where_the_addends_end_in_different_places():
    """One addend comes from the left half of the input, the other from the right."""
    x = image(2, 6)
    left, right = x[:, :3], x[:, 3:]
    expected = lambda r: torch.cat([left * r / (left - right), -right * r / (left - right)], 1)  # noqa: E731
    check(lambda x: x[:, :3] - x[:, 3:], x, expected)


def test_sum_with_a_broadcast_addend():
    x = image(2, 4, 3)
    total = x[:, 1:] + x[:, :1]
    expected = lambda r: torch.cat([(x[:, :1] * r / total).sum(1, keepdim=True), x[:, 1:] * r / total], 1)  # noqa: E731
    check(lambda x: x[:, 1:] + x[:, :1], x, expected)


def test_sum_with_itself_and_with_a_constant():
    x = image(2, 4)
    check(lambda x: x + x, x, lambda r: r)
    y = torch.tanh(x)  # what is computed from pixels alone is preprocessing
    check(lambda x: torch.tanh(x) + 5.0, x, lambda r: y / (y + 5) * r)
    check(lambda x: 5.0 - torch.tanh(x), x, lambda r: -y / (5 - y) * r)
    for bias in ("ignore", "distribute"):
        check(lambda x: torch.tanh(x) + 5.0, x, lambda r: r, {"bias": bias})


def test_sum_with_a_constant_that_is_distributed():
    """Both addends get half of what the constant takes."""
    a, b, arrived = image(2, 4), image(2, 4, seed=1), image(2, 4, seed=2)
    layer = Sum((1.0, -1.0), constant=5.0)
    step = Step(layer, (a.shape, b.shape), (a, b), layer.run(a, b)[0])
    first, second = SumRule(bias="distribute").relevance(step, arrived)
    agree(first, (a + 2.5) / (a - b + 5) * arrived, 1e-12)
    agree(second, (-b + 2.5) / (a - b + 5) * arrived, 1e-12)


def test_sums_of_zero_are_shared_evenly_where_biases_are_distributed():
    """Where both addends are 0, as behind two ReLU, and where they cancel."""
    a, b, arrived = image(2, 4), image(2, 4, seed=1), image(2, 4, seed=2)
    a[0], b[0], b[1, 0] = 0.0, 0.0, -a[1, 0]
    layer = Sum((1.0, 1.0))
    step = Step(layer, (a.shape, b.shape), (a, b), layer.run(a, b)[0])
    for got, addend in zip(SumRule(bias="distribute").relevance(step, arrived), (a, b), strict=True):
        expected = torch.where(a + b == 0, arrived / 2, addend / (a + b) * arrived)
        agree(got, expected, 1e-12)
    assert not SumRule().relevance(step, arrived)[0][0].any()


def test_sum_of_nothing_shares_nothing():
    x = torch.zeros(1, 4, dtype=torch.float64)
    got, _ = redistributed(Call(lambda x: torch.tanh(x) + x), {}, x)
    torch.testing.assert_close(got, x)


def test_affine_shares_with_its_shift():
    """A BatchNorm that no linear layer took in: R scale x / y, or R where biases are ignored."""
    norm = nn.BatchNorm2d(3).double().eval()
    norm.running_mean.copy_(image(3))
    norm.running_var.copy_(image(3, seed=1).abs() + 0.1)
    norm.weight.data.copy_(image(3, seed=2))
    norm.bias.data.copy_(image(3, seed=3))
    x = image(2, 3, 4, 4)
    with torch.no_grad():
        y, shift = norm(torch.tanh(x)), norm(torch.zeros_like(x))
    check(lambda self, x: self.norm(torch.tanh(x)), x, lambda r: (y - shift) / y * r, norm=norm)
    for bias in ("ignore", "distribute"):
        check(lambda self, x: self.norm(torch.tanh(x)), x, lambda r: r, {"bias": bias}, norm=norm)


def test_what_is_multiplied_by_zero_gets_nothing():
    """0 / 0 = 0, also where the biases are ignored, and for a factor without a shift."""
    x = image(2, 3, 4)
    factors = torch.tensor([[1.0], [0.0], [-2.0]], dtype=x.dtype)
    expected = lambda r: r * (factors != 0)  # noqa: E731
    check(lambda x: torch.tanh(x) * factors, x, expected)
    assert not redistributed(Call(lambda x: torch.tanh(x) * 0.0), {}, x)[0].any()
    check(lambda x: torch.tanh(x) * factors + 1.0, x, expected, {"bias": "ignore"})


def test_constant_factors_pass_relevance():
    x = image(2, 3, 4)
    for function in (lambda x: x * 0.5, lambda x: 2 * x, lambda x: x / 4, lambda x: torch.div(x, -3.0)):
        check(function, x, lambda r: r)


def test_a_broadcast_constant_factor():
    x = image(2, 1, 4)
    factors = torch.tensor([[1.0], [2.0], [3.0]], dtype=x.dtype)
    check(lambda x: x * factors, x, lambda r: r.sum(1, keepdim=True))


def gate(self, x):
    """Squeeze and excitation in its usual spelling."""
    n, c = x.shape[0], x.shape[1]
    weights = torch.sigmoid(self.fc(x.mean((2, 3)))).view(n, c, 1, 1)
    return x * weights.expand_as(x)


def test_a_gate_gets_nothing():
    x = image(2, 3, 4, 4)
    check(gate, x, lambda r: r, fc=nn.Linear(3, 3).double())
    check(lambda x: torch.sigmoid(x) * x, x, lambda r: r)
    check(lambda x: x * nn.functional.hardsigmoid(x), x, lambda r: r)


def test_a_signal_that_its_gate_broadcasts():
    x = image(2, 3, 4, 4)
    check(lambda x: x[:, :, :1] * torch.sigmoid(x), x,
          lambda r: torch.cat([r.sum(2, keepdim=True), torch.zeros(2, 3, 3, 4, dtype=r.dtype)], 2))  # fmt: skip


def test_the_larger_of_two_gets_all_and_the_first_of_equals():
    x = torch.tensor([[1.0, 4.0, 3.0, 3.0, 2.0, 3.0]], dtype=torch.float64)
    expected = lambda r: torch.tensor([[0, r[0, 1], r[0, 2], r[0, 0], 0, 0]])  # noqa: E731
    check(lambda x: torch.maximum(x[:, :3], x[:, 3:]), x, lambda r: expected(r.double()).double())


ACTIVATIONS = [
    torch.relu, nn.functional.relu6, nn.functional.gelu, nn.functional.silu, torch.tanh, nn.functional.elu,
    nn.functional.mish, nn.functional.hardswish, lambda x: nn.functional.leaky_relu(x, 0.2),
    lambda x: nn.functional.leaky_relu(x, 0.2, True), lambda x: nn.functional.softplus(x, 2.0),
    lambda x: nn.functional.softplus(input=x, beta=3.0), lambda x: x.clamp(min=-0.5), lambda x: torch.clamp(x, -1, 1),
    lambda x: x.relu(), lambda x: nn.functional.hardtanh(x, -0.5, 0.7), lambda x: nn.functional.dropout(x, 0.5, False),
    lambda x: nn.functional.threshold(x, 0.1, 0.2, True),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(ACTIVATIONS)))
def test_activations_pass_relevance(number):
    check(ACTIVATIONS[number], image(2, 3, 4), lambda r: r)


def test_an_activation_that_broadcasts_its_input_takes_back_the_sum():
    x, bounds = image(2, 1, 4), image(3, 1, seed=1).abs()
    for function in (lambda x: torch.maximum(x, bounds), lambda x: x.clamp(-bounds, bounds)):
        check(function, x, lambda r: r.sum(1, keepdim=True))


@pytest.mark.parametrize("layer", [nn.ReLU(inplace=True), nn.PReLU(3), nn.Hardswish(), nn.Dropout(), nn.Softplus(3)])
def test_activation_modules_pass_relevance(layer):
    check(lambda self, x: self.layer(x), image(2, 3, 4), lambda r: r, layer=layer.double().eval())
