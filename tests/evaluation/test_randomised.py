"""Models whose parameters are reset: which change, how, and that the model itself stays."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import lrpcli
from lrpcli.errors import ModelError
from lrpcli.evaluation.randomised import with_reset_last_layer, with_reset_parameters
from tests.photos import TINY


class Scaled(nn.Module):
    """Parameters of its own and no reset_parameters; a buffer."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(2.9, 3.1, 8).view(1, 8, 1, 1))
        self.same = nn.Parameter(torch.full((1,), 0.5))
        self.register_buffer("kept", torch.arange(8.0).view(1, 8, 1, 1))

    def forward(self, x):
        return x * self.scale * self.same + self.kept


def net(*last):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.weight.uniform_(0.5, 2)
    layers = last or (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), Scaled(), *layers).eval()


def loaded(module):
    return lrpcli.load_model(module, input_shape=(3, 12, 12))


def changed(before, after):
    pairs = zip(before.module.named_parameters(), after.module.parameters(), strict=True)
    return {name for (name, one), two in pairs if not torch.equal(one.cpu(), two)}


def test_every_parameter_is_reset_on_a_copy():
    model = loaded(net())
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    reset = with_reset_parameters(model, 0)
    assert changed(model, reset) == {name for name, _ in model.module.named_parameters()} - {"3.same", "1.bias"}
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    norm, scaled = reset.module[1], reset.module[3]
    assert torch.equal(norm.running_mean, torch.zeros(8)) and torch.equal(norm.weight, torch.ones(8))
    assert torch.equal(scaled.kept, before["3.kept"]) and float(scaled.same) == 0.5
    bound = 1 / 27**0.5
    assert reset.module[0].weight.abs().max() <= bound < 1.2 * reset.module[0].weight.abs().max()
    assert torch.equal(scaled.scale, with_reset_parameters(model, 0).module[3].scale)
    assert not torch.equal(scaled.scale, with_reset_parameters(model, 1).module[3].scale)


def test_what_has_no_reset_of_its_own_is_drawn_as_large_as_it_was():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(3 + 0.1 * torch.randn(50, 3 * 12 * 12))

        def forward(self, x):
            return x.flatten(1) @ self.weight.T

    weight = with_reset_parameters(loaded(Wide().eval()), 0).module.weight
    assert float(weight.mean()) == pytest.approx(3, abs=0.01) and float(weight.std()) == pytest.approx(0.1, abs=0.005)


def test_the_callers_random_numbers_stay():
    torch.manual_seed(5)
    expected = torch.rand(3)
    model = loaded(net())
    torch.manual_seed(5)
    with_reset_parameters(model, 0)
    with_reset_last_layer(model, 0)
    assert torch.equal(torch.rand(3), expected)


class Functional(nn.Module):
    """All weights lie on the net itself."""

    def __init__(self):
        super().__init__()
        self.first, self.first_bias = nn.Parameter(torch.randn(7, 432)), nn.Parameter(torch.randn(7))
        self.last, self.last_bias = nn.Parameter(torch.randn(4, 7)), nn.Parameter(torch.randn(4))

    def forward(self, x):
        hidden = nn.functional.linear(x.flatten(1), self.first, self.first_bias).relu()
        return nn.functional.linear(hidden, self.last, self.last_bias)


class Backwards(nn.Module):
    """The layer that is made last is used first."""

    def __init__(self):
        super().__init__()
        self.out, self.stem = nn.Linear(6, 4), nn.Conv2d(3, 6, 3)

    def forward(self, x):
        return self.out(self.stem(x).relu().mean((2, 3))).softmax(1)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (net(), {"8.weight", "8.bias"}),
        (net(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), {"4.weight", "4.bias"}),
        (net(nn.Flatten(), nn.Linear(800, 5), nn.Linear(5, 4)), {"6.weight", "6.bias"}),
        (Functional(), {"last", "last_bias"}),
        (Backwards(), {"out.weight", "out.bias"}),
    ],
)
def test_the_last_layer_is_the_one_that_makes_the_logits(module, names):
    model = loaded(module.eval())
    assert changed(model, with_reset_last_layer(model, 0)) == names


def test_weights_behind_a_parametrization_change():
    norm = parametrizations.weight_norm
    model = loaded(nn.Sequential(nn.Flatten(), nn.Linear(432, 8), nn.ReLU(), norm(nn.Linear(8, 4))).eval())
    x = torch.rand(2, 3, 12, 12)
    for reset in (with_reset_parameters(model, 0), with_reset_last_layer(model, 0)):
        assert not torch.allclose(reset.module[3].weight, model.module[3].weight)
        assert torch.allclose(lrpcli.Explainer(reset, "epsilon").predict(x), reset.module(x), atol=1e-5)


def test_a_caffe_net():
    model = lrpcli.load_model(TINY, input_shape=(3, 32, 32), preprocessing={"mean": (104, 117, 123)})
    last = {name.rpartition(".")[0] for name in changed(model, with_reset_last_layer(model, 0))}
    assert last == {"fc4"}
    assert changed(model, with_reset_parameters(model, 0)) == {name for name, _ in model.module.named_parameters()}


def test_an_exported_program():
    program = torch.export.export(net(), (torch.zeros(1, 3, 12, 12),))
    model = loaded(program.module())
    assert changed(model, with_reset_last_layer(model, 0)) == {"8.weight", "8.bias"}
    assert {"0.weight", "0.bias", "8.weight", "8.bias"} <= changed(model, with_reset_parameters(model, 0))


def test_models_that_cannot_be_reset():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.randn(4, 432))

        def forward(self, x):
            return x.flatten(1) @ self.weight.T

    for reset in (with_reset_parameters, with_reset_last_layer):
        with pytest.raises(ModelError, match=r"(no parameters that could be reset|autograd sees no weights)"):
            reset(loaded(Fixed().eval()), 0)

    class Unwilling(nn.Linear):
        def reset_parameters(self, gain=None):
            if hasattr(self, "made"):
                raise TypeError("gain")
            super().reset_parameters()

    layer = Unwilling(432, 4)
    layer.made = True
    with pytest.raises(ModelError, match=r"Unwilling.reset_parameters\(\) raised TypeError: gain"):
        with_reset_parameters(loaded(nn.Sequential(nn.Flatten(), layer).eval()), 0)
