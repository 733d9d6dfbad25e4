"""Reports about nets: each builds the smallest net that shows what was reported."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrpcli import Explainer
from lrpcli.errors import LrpError

LRP_0 = {"bias": "ignore", "kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Net(nn.Module):
    """A convolution without bias, what a test puts behind it, and a linear layer without bias."""

    def __init__(self, middle, features: int, channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.middle = middle
        self.fc = nn.Linear(features, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.middle(self.conv(x)), 1))


def x(count: int = 2, size: int = 8) -> Tensor:
    return torch.randn(count, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def explained(net: nn.Module, inputs: Tensor | None = None, config=LRP_0):
    return Explainer(net, config, dtype=torch.float64, device="cpu")(x() if inputs is None else inputs)


def conserves(net: nn.Module) -> None:
    """LRP-0 of a net without biases loses nothing: the map holds the logit."""
    result = explained(net)
    torch.testing.assert_close(result.relevance.flatten(1).sum(1), result.start, rtol=1e-8, atol=1e-8)


def is_gradient_times_input(net: nn.Module) -> None:
    """LRP-0 of a net whose activations are ReLUs and winners is gradient times input, by autograd."""
    inputs = x().requires_grad_()
    module = net.double()
    logits = module(inputs)
    (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), inputs)
    torch.testing.assert_close(explained(net).relevance, gradient * inputs.detach(), rtol=1e-8, atol=1e-10)


def refused(net: nn.Module, *words: str) -> None:
    with pytest.raises(LrpError) as error:
        explained(net)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_forward_hook_is_refused_by_name():
    net = Net(nn.ReLU(), 256)
    net.middle.register_forward_hook(lambda module, inputs, output: output * 2)
    refused(net, "hook", "middle")


@pytest.mark.parametrize("normalise", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_a_spectral_norm_has_the_weights_of_the_forward_pass(normalise):
    net = Net(nn.ReLU(), 256)
    normalise(net.conv)
    net.eval().double()
    before = explained(net)
    torch.testing.assert_close(before.logits, net(x()).detach())


@pytest.mark.parametrize("normalise", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_weight_norm_has_the_weights_of_the_forward_pass(normalise):
    net = Net(nn.ReLU(), 256)
    normalise(net.conv)
    net.double()
    with torch.no_grad():
        (net.conv.weight_g if hasattr(net.conv, "weight_g") else net.conv.parametrizations.weight.original0).mul_(3)
    before = explained(net)
    torch.testing.assert_close(before.logits, net(x()).detach())


def test_dropout_that_asks_for_training_is_off_in_a_net_left_in_training_mode():
    class Dropped(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return F.dropout(z, 0.5, training=self.training)

    net = Net(Dropped(), 256).train()
    result = explained(net)
    assert net.training
    torch.testing.assert_close(result.logits, net.eval().double()(x()).detach())


def test_dropout_that_is_always_on_is_refused():
    refused(Net(lambda z: F.dropout(z, 0.5), 256), "dropout")


def test_a_view_behind_a_convolution_is_as_legal_as_in_the_net():
    net = Net(lambda z: z.view(z.size(0), -1), 256)
    torch.testing.assert_close(explained(net).relevance, explained(same_weights(net, nn.Flatten())).relevance)


def same_weights(net: Net, middle) -> Net:
    other = Net(middle, net.fc.in_features, net.conv.out_channels)
    other.conv, other.fc = net.conv, net.fc
    return other


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling_conserves(mode):
    conserves(Net(nn.Sequential(nn.ReLU(), nn.Upsample(scale_factor=2, mode=mode)), 1024))


def test_a_transposed_convolution_conserves():
    conserves(Net(nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(4, 4, 2, 2, bias=False)), 1024))


@pytest.mark.parametrize("activation", [nn.ELU(), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.LeakyReLU(), nn.Hardswish()])
def test_relevance_passes_activations_unchanged(activation):
    conserves(Net(activation, 256))


def test_a_second_call_gives_the_same_map():
    explain = Explainer(Net(nn.ReLU(inplace=True), 256), LRP_0, dtype=torch.float64, device="cpu")
    assert torch.equal(explain(x()).relevance, explain(x()).relevance)


class Residual(nn.Module):
    def __init__(self, in_place: bool) -> None:
        super().__init__()
        one, two = (nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(2))
        self.in_place, self.body = in_place, nn.Sequential(one, nn.ReLU(in_place), two)

    def forward(self, z: Tensor) -> Tensor:
        y = self.body(z)
        if self.in_place:
            y += z
        else:
            y = y + z
        return F.relu(y, self.in_place)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_residual_sum_is_gradient_times_input_whatever_is_in_place(in_place):
    is_gradient_times_input(Net(Residual(in_place), 256))


@pytest.mark.parametrize("module", [False, True])
def test_a_final_sigmoid_leaves_the_map_of_the_logit(module):
    class Sigmoid(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body, self.last = body, nn.Sigmoid()

        def forward(self, z: Tensor) -> Tensor:
            return self.last(self.body(z)) if module else torch.sigmoid(self.body(z))

    body = Net(nn.ReLU(), 256)
    body.fc.weight.data.neg_().abs_().neg_()  # every probability is below one half
    torch.testing.assert_close(explained(Sigmoid(body)).relevance, explained(body).relevance)


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_a_final_softmax_leaves_the_map_of_the_logit(last):
    body = Net(nn.ReLU(), 256)
    torch.testing.assert_close(explained(nn.Sequential(body, last)).relevance, explained(body).relevance)


def test_data_parallel_and_compiled_nets_are_unwrapped():
    net = Net(nn.ReLU(), 256)
    wanted = explained(net).relevance
    for wrapped in (nn.DataParallel(net), torch.compile(net)):
        assert torch.equal(explained(wrapped).relevance, wanted)


@pytest.mark.parametrize("pad", [nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d])
def test_padding_gives_every_pixel_what_its_copies_get(pad):
    is_gradient_times_input(Net(nn.Sequential(nn.ReLU(), pad(1)), 400))


def test_a_batch_norm_in_front_of_a_convolution_has_a_rule():
    norm = nn.BatchNorm2d(4)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    net = Net(nn.Sequential(norm, nn.ReLU(), nn.Conv2d(4, 4, 1, bias=False)), 256)
    torch.testing.assert_close(explained(net).logits, net.eval().double()(x()).detach())


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(4), nn.AdaptiveMaxPool2d(4)])
def test_pooling_is_gradient_times_input(pool):
    is_gradient_times_input(Net(nn.Sequential(nn.ReLU(), pool), 64))


def test_rules_can_be_given_by_the_place_of_a_layer():
    net = Net(nn.ReLU(), 256)
    config = {**LRP_0, "position": {"first": {"rule": "flat"}}}
    rules = {a.layer.name: a.rule_name for a in Explainer(net, config, device="cpu").assignments}
    assert (rules["conv"], rules["fc"]) == ("flat", "epsilon")


def test_the_relevance_of_every_layer_can_be_kept():
    result = Explainer(Net(nn.ReLU(), 256), LRP_0, dtype=torch.float64, device="cpu")(x(), keep_layers=True)
    assert result.layers["conv"].shape == (2, 4, 8, 8)
    torch.testing.assert_close(result.layers["conv"].flatten(1).sum(1), result.start)


def test_cropping_before_concatenation_conserves():
    conserves(Net(lambda z: torch.cat([F.relu(z)[:, :, 1:7, 1:7], F.relu(z)[..., 2:, 2:]], 1), 288))


def test_the_sum_of_a_map_does_not_depend_on_the_size_of_the_batch():
    net, inputs = Net(nn.ReLU(), 256), x(7)
    together = explained(net, inputs).relevance.flatten(1).sum(1)
    alone = torch.cat([explained(net, inputs[i : i + 1]).relevance.flatten(1).sum(1) for i in range(7)])
    torch.testing.assert_close(together, alone)


def test_a_bias_is_treated_alike_in_convolutions_and_linear_layers():
    """A 1 x 1 convolution on one pixel is a linear layer."""
    conv = nn.Conv2d(3, 5, 1).double()
    linear = nn.Linear(3, 5).double()
    linear.weight.data, linear.bias.data = conv.weight.data.flatten(1), conv.bias.data
    pixel = x(2, 1)
    rules = ({"rule": "epsilon", "epsilon": 0.1}, {"rule": "alpha-beta", "beta": 1}, {"rule": "gamma", "gamma": 0.25})
    for bias in ("absorb", "ignore"):
        for rule in rules:
            config = {"bias": bias, "kind": {"linear": rule, "convolution": rule}}
            one = explained(nn.Sequential(conv, nn.Flatten()), pixel, config).relevance
            other = explained(nn.Sequential(nn.Flatten(), linear), pixel, config).relevance
            torch.testing.assert_close(one, other)


def test_a_fire_module_conserves():
    class Fire(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small, self.large = nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 4, 3, padding=1, bias=False)

        def forward(self, z: Tensor) -> Tensor:
            return torch.cat([F.relu(self.small(z)), F.relu(self.large(z))], 1)

    is_gradient_times_input(Net(Fire(), 512))


def test_lrn_with_a_window_wider_than_its_channels_conserves():
    conserves(Net(nn.LocalResponseNorm(61, alpha=0.5), 256))


def test_lrn_of_huge_inputs_is_an_error_and_no_map_of_nan():
    net = Net(nn.LocalResponseNorm(5, alpha=1.0, beta=1.0), 256)
    with pytest.raises(LrpError, match="finite"):
        Explainer(net, LRP_0, device="cpu")(torch.full((1, 3, 8, 8), 2e38))


def test_lrn_in_half_precision_does_not_overflow():
    net = Net(nn.LocalResponseNorm(5, alpha=1e-4), 256)
    inputs = 1000 * x(1)
    half = Explainer(net, LRP_0, dtype=torch.bfloat16, device="cpu")(inputs)
    full = explained(net, inputs)
    assert torch.isfinite(half.relevance).all()
    torch.testing.assert_close(half.logits.double(), full.logits, rtol=0.1, atol=0.1 * float(full.logits.abs().max()))


def test_normalisation_inside_the_model_passes_relevance_unchanged():
    class Transformed(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body = body

        def forward(self, z: Tensor) -> Tensor:
            one = torch.unsqueeze(z[:, 0], 1) * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
            two = torch.unsqueeze(z[:, 1], 1) * (0.224 / 0.5) + (0.456 - 0.5) / 0.5
            three = torch.unsqueeze(z[:, 2], 1) * (0.225 / 0.5) + (0.406 - 0.5) / 0.5
            return self.body(torch.cat((one, two, three), 1))

    body, inputs = Net(nn.ReLU(), 256), x()
    scale = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(1, 3, 1, 1) / 0.5
    shift = (torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(1, 3, 1, 1) - 0.5) / 0.5
    inside = explained(Transformed(body), inputs).relevance
    torch.testing.assert_close(inside, explained(body, inputs * scale + shift).relevance)


def test_writing_into_channels_is_refused_with_what_to_write():
    class Writes(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            z = z.clone()
            z[:, 0] = z[:, 0] * 2
            return z

    refused(nn.Sequential(Writes(), Net(nn.ReLU(), 256)), "test_nets.py")


def test_an_embedding_is_refused_by_name():
    refused(nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(768, 5)), "Embedding", "'0'")
