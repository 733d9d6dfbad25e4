"""An epsilon that is relative to a layer's own sums: what it is, for each image, in every number type."""

import pytest
import torch
from torch import nn

from lrpcli import Explainer
from lrpcli.errors import ConfigError, ImageError
from lrpcli.lrp.epsilon import root_mean_square, signed, stabilise
from tests.lrp.helpers import agree, image, redistributed

RELATIVE = {"kind": {"linear": {"rule": "epsilon", "relative": 0.1}}}


def net(seed=0):
    """Layers behind which a ReLU writes over the sums, and one behind which none does."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.LeakyReLU(), nn.Flatten(), nn.Linear(144, 5)
    ).double()


@pytest.mark.parametrize("shape", [(3, 7), (2, 5, 6), (2, 3, 4, 5), (2, 1, 1, 6), (1, 1), (2, 3, 2, 4, 5)])
def test_the_root_mean_square_is_one_number_for_each_image(shape):
    for values in (image(*shape), image(*shape).transpose(1, -1)):
        expected = values.flatten(1).square().mean(1).sqrt().view(-1, *[1] * (values.dim() - 1))
        torch.testing.assert_close(root_mean_square(values), expected, rtol=1e-12, atol=0)
    if len(shape) == 4:
        last = image(*shape).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(root_mean_square(last), root_mean_square(image(*shape)), rtol=1e-12, atol=0)


def test_the_root_mean_square_of_many_values_is_exact_to_rounding():
    values = image(2, 64, 60, 60)
    for x in (values, values.contiguous(memory_format=torch.channels_last)):
        agree(root_mean_square(x.float()), root_mean_square(values), 1e-6)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float16, 6e4), (torch.bfloat16, 1e6), (torch.float32, 1e15)])
def test_the_root_mean_square_does_not_overflow(dtype, size):
    """The square of 256 and of all above it is infinite in float16."""
    assert root_mean_square(torch.full((1, 8), size, dtype=dtype)).item() == pytest.approx(size, rel=1e-2)


def test_what_overflows_all_the_same_is_no_epsilon_that_swallows_everything():
    with pytest.raises(ImageError, match="compute in float64"):
        Explainer(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), RELATIVE, device="cpu")(torch.full((1, 3, 1, 1), 1e25))


@pytest.mark.parametrize("rule", ["epsilon", "sign"])
def test_it_equals_the_absolute_epsilon_of_that_size(rule):
    """Layer by layer, with what each layer puts out before its activation."""
    x, plain = image(1, 3, 10, 10), net()
    sums, names = x, {}
    for name, layer in plain.named_children():
        sums = layer(sums)
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            names[name] = {"rule": rule, "epsilon": 0.1 * float(sums.detach().square().mean().sqrt())}
    expected = Explainer(plain, {"name": names}, dtype=torch.float64)(x)
    config = {"kind": {"linear": {"rule": rule, "relative": 0.1}}}
    agree(Explainer(plain, config, dtype=torch.float64)(x).relevance, expected.relevance, 1e-10)


def test_an_image_does_not_depend_on_those_beside_it():
    x = image(3, 3, 10, 10) * torch.tensor([1.0, 1e-4, 1e4], dtype=torch.float64).view(3, 1, 1, 1)
    explain = Explainer(net(), RELATIVE, dtype=torch.float64)
    together = explain(x, target=1).relevance
    for place in range(3):
        agree(together[place : place + 1], explain(x[place : place + 1], target=1).relevance, 1e-10)


def test_it_is_the_same_share_at_every_size_of_the_input():
    """Without biases the map grows with the input as the logit does, which an absolute epsilon does not do."""
    plain = net()
    for name, parameter in plain.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    x = image(1, 3, 10, 10)
    for config, same in ((RELATIVE, True), ("epsilon-1", False)):
        explain = Explainer(plain, config, dtype=torch.float64)
        kept = [float((r := explain(size * x, target=2)).conservation["input"] / r.start) for size in (1e-3, 1, 1e3)]
        assert (max(kept) - min(kept) < 1e-9) is same


def test_sums_that_are_all_zero_get_nothing():
    """0 / 0 = 0, also where another image of the batch has sums."""
    layer = nn.Linear(6, 4, bias=False).double()
    for before in (nn.Identity(), nn.ReLU()):
        config = {"kind": {"linear": {"rule": "epsilon", "relative": 0.5}}}
        x = torch.stack([torch.zeros(6), torch.arange(6.0) - 2]).double()
        got, _ = redistributed(nn.Sequential(before, layer, nn.ReLU()), config, x)
        assert not got[0].any()
        assert got[1].any()
        assert bool(got.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near_to_double(dtype):
    x = (300 * image(2, 3, 10, 10)).to(dtype)
    half = Explainer(net(), RELATIVE, dtype=dtype, device="cpu", check=False)(x, target=0)
    exact = Explainer(net(), RELATIVE, dtype=torch.float64)(x.double(), target=0)
    agree(half.relevance, exact.relevance, 0.1)


def test_the_parameters_show_one_of_the_two():
    explainer = Explainer(net(), {"name": {"0": {"rule": "sign", "relative": 0.2}}}, dtype=torch.float64)
    shown = {item.layer.name: item.parameters for item in explainer.assignments}
    assert (shown["0"], shown["2"]) == ("relative=0.2 bias=absorb", "epsilon=0.01 bias=absorb")


@pytest.mark.parametrize("kind", ["linear", "convolution", "lrn"])
def test_both_at_once_are_an_error(kind):
    entry = {"rule": "epsilon", "epsilon": 0.1, "relative": 0.1}
    text = "In config 'custom', epsilon and relative of rule 'epsilon' cannot both be given: each stands in place"
    with pytest.raises(ConfigError, match=text):
        Explainer(net(), {"kind": {kind: entry}})


def test_what_is_no_share_is_an_error():
    for value, text in ((-0.1, "must be a finite number, zero or larger"), ("much", "must be a finite number")):
        with pytest.raises(ConfigError, match=f"relative = {value!r} of rule 'epsilon' {text}"):
            Explainer(net(), {"kind": {"linear": {"rule": "epsilon", "relative": value}}})


def test_zero_counts_as_positive():
    total = torch.tensor([0.0, -0.0, -2.0, 3.0])
    for epsilon in (0.5, torch.tensor([0.5])):
        assert signed(total, epsilon).tolist() == [0.5, 0.5, -0.5, 0.5]
        assert stabilise(total, epsilon).tolist() == [0.5, 0.5, -2.5, 3.5]


def test_what_a_sum_of_zero_leaves_to_epsilon_is_distributed():
    """2 - 2 = 0: shares of 2 R / epsilon and -2 R / epsilon, and the epsilon's part R in halves."""
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, -1.0]])
    config = {"bias": "distribute", "kind": {"linear": {"rule": "epsilon", "epsilon": 0.5}}}
    found, _ = redistributed(layer, config, torch.full((1, 2), 2.0), torch.tensor([[3.0]]))
    assert found.tolist() == [[2 * 3 / 0.5 + 1.5, -2 * 3 / 0.5 + 1.5]]
