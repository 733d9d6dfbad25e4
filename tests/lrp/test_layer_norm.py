"""Layer, group, instance and root mean square normalisation: the z-rule with the deviation held constant."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lrpcli import Explainer
from lrpcli.errors import ModelError, UnsupportedLayer
from lrpcli.lrp.layers.layer_norm import LayerNorm
from lrpcli.lrp.operation import BIASES
from lrpcli.lrp.rules import RULES
from lrpcli.lrp.tracing.translate import build_graph
from tests.lrp import reference
from tests.lrp.helpers import Call, agree, image, redistributed

LRP0 = {"kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}
IGNORE = {**LRP0, "bias": "ignore"}
X = image(3, 6, 4, 5) * 2 + 1.5


def affine(module, seed=0):
    """The module in float64 with random weights and biases, or statistics that are not those of any input."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator)
            tensor.data = (values.abs() + 0.5 if name.endswith("var") else values).double()
    return module.double().eval()


def by_place(shape, groups):
    """For each flat place of one image: its row, the number of what it is normalised with."""
    return np.arange(np.prod(shape)).reshape(groups, -1)


NORMS = {
    "LayerNorm": (nn.LayerNorm(5), 24),
    "LayerNorm over two axes": (nn.LayerNorm((4, 5)), 6),
    "LayerNorm over all": (nn.LayerNorm((6, 4, 5), eps=0.1), 1),
    "LayerNorm without bias": (nn.LayerNorm(5, bias=False), 24),
    "LayerNorm without weight": (nn.LayerNorm(5, elementwise_affine=False), 24),
    "GroupNorm": (nn.GroupNorm(3, 6), 3),
    "GroupNorm of one group": (nn.GroupNorm(1, 6), 1),
    "GroupNorm without weight": (nn.GroupNorm(2, 6, affine=False), 2),
    "InstanceNorm2d": (nn.InstanceNorm2d(6), 6),
    "InstanceNorm2d, affine": (nn.InstanceNorm2d(6, affine=True), 6),
    "RMSNorm": (nn.RMSNorm(5), 24),
    "RMSNorm over all": (nn.RMSNorm((6, 4, 5), eps=0.3), 1),
}
"""Name -> module, and into how many rows an image of 6 x 4 x 5 falls, in row-major order."""


def spread_out(module, values, default):
    """Weight or bias of a norm at each place of one image (6, 4, 5)."""
    if values is None:
        return np.full((6, 4, 5), default)
    values = values.detach().numpy()
    return np.broadcast_to(values if hasattr(module, "normalized_shape") else values[:, None, None], (6, 4, 5))


def loop(module, rows, x, arrived, bias):
    """R_i = sum_j a_ji x_i / (sum_i a_ji x_i + b_j) R_j with a_ji = w_j / s (1 where i = j, less 1 / n)."""
    weight = spread_out(module, module.weight, 1.0).ravel()
    offset = spread_out(module, getattr(module, "bias", None), 0.0).ravel()
    centred = not isinstance(module, nn.RMSNorm)
    eps = torch.finfo(torch.float64).eps if module.eps is None else module.eps
    flat, result = x.ravel(), np.zeros(x.size)
    for row in by_place(x.shape, rows):
        mean = flat[row].mean() if centred else 0.0
        deviation = np.sqrt(((flat[row] - mean) ** 2).mean() + eps)
        for j in row:
            terms = weight[j] / deviation * ((row == j) - centred / len(row)) * flat[row]
            total = terms.sum() + (0 if bias == "ignore" else offset[j])
            shares = terms + reference.even(offset[j], bias, len(row))
            result[row] += reference.fraction(shares, total) * arrived.ravel()[j]
    return result.reshape(x.shape)


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("name", NORMS)
def test_z_rule_equals_the_loop(name, bias):
    module, rows = NORMS[name]
    module = affine(module)
    got, arrived = redistributed(nn.Sequential(module), {"bias": bias}, X)
    for one, relevance, x in zip(got, arrived, X, strict=True):
        agree(one, loop(module, rows, x.numpy(), relevance.numpy(), bias), 1e-10)


@pytest.mark.parametrize("name", NORMS)
def test_forward_equals_torch(name):
    module = affine(NORMS[name][0])
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        found = Explainer(nn.Sequential(module, nn.Flatten()), device="cpu", dtype=dtype).predict(X)
        agree(found, module(X).detach().flatten(1), tolerance)


@pytest.mark.parametrize("name", NORMS)
def test_identity_passes_all(name):
    got, arrived = redistributed(nn.Sequential(affine(NORMS[name][0])), {"kind": {"layer-norm": "identity"}}, X)
    assert torch.equal(got, arrived)


@pytest.mark.parametrize("name", NORMS)
def test_gradient_is_the_derivative(name):
    """That of the deviation among it: the deviation is no constant."""
    module = affine(NORMS[name][0])
    got, arrived = redistributed(nn.Sequential(module), {"kind": {"any": "gradient"}}, X)
    x = X.clone().requires_grad_()
    agree(got, torch.autograd.grad(module(x), x, arrived)[0], 1e-10)


def test_every_rule_is_tested():
    assert list(RULES["layer-norm"]) == ["z-rule", "identity", "gradient"]


class Held(nn.Module):
    """A norm whose deviation is a constant for autograd, from its definition."""

    def __init__(self, axes, eps, *, groups=None):
        super().__init__()
        self.axes, self.eps, self.groups = axes, eps, groups

    def forward(self, x):
        rows = x if self.groups is None else x.unflatten(1, (self.groups, -1))
        centred = rows - rows.mean(self.axes, keepdim=True)
        return (centred / (centred.square().mean(self.axes, keepdim=True) + self.eps).sqrt().detach()).view_as(x)


HELD = {
    "LayerNorm": (lambda: nn.LayerNorm((8, 8), elementwise_affine=False), lambda: Held((2, 3), 1e-5)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4, affine=False), lambda: Held((2, 3, 4), 1e-5, groups=2)),
    "InstanceNorm": (lambda: nn.InstanceNorm2d(4), lambda: Held((2, 3), 1e-5)),
}


def through(norm, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(), norm, nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(),
                        nn.Linear(180, 4))  # fmt: skip
    return net.double()


@pytest.mark.parametrize("kind", HELD)
def test_lrp0_is_gradient_times_input_of_the_net_whose_deviation_is_constant(kind):
    make, make_held = HELD[kind]
    x = image(2, 3, 10, 10)
    result = Explainer(through(make()), LRP0, dtype=torch.float64)(x)
    held, leaf = through(make_held()), x.clone().requires_grad_()
    logits = held(leaf)
    torch.testing.assert_close(result.logits, logits.detach(), rtol=1e-10, atol=1e-12)
    start = logits.gather(1, result.target[:, None]).sum()
    agree(result.relevance, x * torch.autograd.grad(start, leaf)[0], 1e-9)


@pytest.mark.parametrize("kind", HELD)
def test_relevance_is_conserved_without_biases(kind):
    net = through(HELD[kind][0]())
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    result = Explainer(net, LRP0, dtype=torch.float64)(image(2, 3, 10, 10))
    torch.testing.assert_close(result.conservation["input"], result.start, rtol=1e-9, atol=0)


def test_an_image_does_not_depend_on_those_beside_it():
    for name in NORMS:
        net = nn.Sequential(affine(NORMS[name][0]), nn.Flatten(), nn.Linear(120, 3).double())
        explain = Explainer(net, "epsilon", dtype=torch.float64)
        together = explain(X * X.new_tensor([1.0, 1e-3, 1e3]).view(3, 1, 1, 1), target=1).relevance
        alone = explain(1e-3 * X[1:2], target=1).relevance
        agree(together[1:2], alone, 1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["LayerNorm over all", "GroupNorm", "InstanceNorm2d, affine", "RMSNorm over all"])
def test_half_precision_is_computed_in_single(name, dtype):
    """The square of 256 and of all above it is infinite in float16."""
    module = affine(NORMS[name][0])
    x, arrived = (300 * X).to(dtype), redistributed(nn.Sequential(module), {}, X)[1].to(dtype)
    got, _ = redistributed(nn.Sequential(module), {"bias": "ignore"}, x, arrived, device="cpu")
    expected, _ = redistributed(nn.Sequential(module), {"bias": "ignore"}, x.double(), arrived.double())
    assert got.dtype == dtype
    agree(got, expected, 2e-2)


def test_equal_values_get_nothing_and_no_number_is_lost():
    """Behind the mean of equal values nothing is left: 0 / 0 = 0."""
    for name, dtype in itertools.product(NORMS, (torch.float64, torch.float32, torch.float16)):
        for value in (0.0, 3.0):
            module = affine(NORMS[name][0])
            got, _ = redistributed(nn.Sequential(module), {"bias": "ignore"}, torch.full_like(X, value).to(dtype))
            assert bool(got.isfinite().all()), (name, dtype, value)


def test_a_place_whose_weight_is_zero_gets_nothing_when_biases_are_ignored():
    module = affine(nn.LayerNorm(5))
    module.weight.data[2] = 0.0
    arrived = torch.zeros_like(X)
    arrived[..., 2] = 1.0
    got, _ = redistributed(nn.Sequential(module), {"bias": "ignore"}, X, arrived)
    assert not got.any()


WEIGHT, BIAS, STATISTICS = image(6, seed=3), image(6, seed=4), (image(6, seed=5), image(6, seed=6).abs() + 0.5)
SPELLINGS = {
    "layer_norm": (lambda x: F.layer_norm(x, (4, 5)), lambda: nn.LayerNorm((4, 5), elementwise_affine=False)),
    "layer_norm of sizes": (lambda x: F.layer_norm(x, x.shape[1:]),
                            lambda: nn.LayerNorm((6, 4, 5), elementwise_affine=False)),
    "layer_norm of one size": (lambda x: F.layer_norm(x, (x.size(-1),), eps=0.2),
                               lambda: nn.LayerNorm(5, 0.2, elementwise_affine=False)),
    "torch.layer_norm": (lambda x: torch.layer_norm(x, [5]), lambda: nn.LayerNorm(5, elementwise_affine=False)),
    "channels": (lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (6,), WEIGHT, BIAS, 1e-6).permute(0, 3, 1, 2), None),
    "group_norm": (lambda x: F.group_norm(x, 3), lambda: nn.GroupNorm(3, 6, affine=False)),
    "group_norm by name": (lambda x: F.group_norm(x, num_groups=2, weight=WEIGHT, bias=BIAS, eps=0.1), None),
    "torch.group_norm": (lambda x: torch.group_norm(x, 3, WEIGHT, BIAS), None),
    "instance_norm": (F.instance_norm, lambda: nn.InstanceNorm2d(6)),
    "instance_norm with weights": (lambda x: F.instance_norm(x, weight=WEIGHT, bias=BIAS), None),
    "torch.instance_norm": (
        lambda x: torch.instance_norm(x, WEIGHT, BIAS, None, None, True, 0.1, 1e-5, False), None),
    "rms_norm": (lambda x: F.rms_norm(x, (5,)), lambda: nn.RMSNorm(5, elementwise_affine=False)),
    "rms_norm by name": (lambda x: F.rms_norm(x, normalized_shape=[4, 5], eps=0.3), None),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_functions_are_their_modules(name):
    function, module = SPELLINGS[name]
    explainer = Explainer(nn.Sequential(Call(function), nn.Flatten()), dtype=torch.float64)
    torch.testing.assert_close(explainer.predict(X), function(X).flatten(1), rtol=1e-10, atol=1e-12)
    assert "layer-norm" in [layer.kind for layer in explainer.graph.layers]
    if module is not None:
        got, arrived = redistributed(Call(function), {}, X)
        agree(got, redistributed(nn.Sequential(module().double()), {}, X, arrived)[0], 1e-10)


FIXED = {
    "InstanceNorm2d": lambda x: F.instance_norm(x, *STATISTICS, WEIGHT, BIAS, False),
    "torch.instance_norm": lambda x: torch.instance_norm(x, WEIGHT, BIAS, *STATISTICS, False, 0.1, 1e-5, False),
    "torch.batch_norm": lambda x: torch.batch_norm(x, WEIGHT, BIAS, *STATISTICS, False, 0.1, 1e-5, False),
}


@pytest.mark.parametrize("name", FIXED)
def test_fixed_statistics_make_an_affine_map(name):
    graph = build_graph(Call(lambda x: FIXED[name](x + x.flip(2))))
    assert [layer.kind for layer in graph.layers][-1] == "affine"
    flat = nn.Sequential(Call(FIXED[name]), nn.Flatten())
    agree(Explainer(flat, dtype=torch.float64).predict(X), FIXED[name](X).flatten(1), 1e-12)


def test_an_instance_norm_with_running_statistics_is_folded_as_a_batch_norm():
    norm = affine(nn.InstanceNorm2d(4, affine=True, track_running_stats=True))
    net = nn.Sequential(nn.Conv2d(6, 4, 3), norm, nn.Flatten()).double().eval()
    explainer = Explainer(net, "epsilon", dtype=torch.float64)
    assert [layer.kind for layer in explainer.graph.layers[1:]] == ["convolution", "view"]
    agree(explainer.predict(X), net(X).detach(), 1e-10)


@pytest.mark.parametrize("decomposed", [False, True])
def test_what_torch_export_writes_is_the_same(decomposed):
    net = nn.Sequential(affine(nn.GroupNorm(2, 6)), nn.Flatten(), affine(nn.LayerNorm(120))).eval()
    program = torch.export.export(net, (X[:1],))
    if decomposed:
        program = program.run_decompositions()
    exported, plain = (Explainer(each, LRP0, dtype=torch.float64) for each in (program, net))
    assert [layer.kind for layer in exported.graph.layers].count("layer-norm") == 2
    agree(exported(X[:1]).relevance, plain(X[:1]).relevance, 1e-10)


def test_torchvisions_layer_norm_of_channels_is_traced_into():
    from torchvision.models.convnext import LayerNorm2d

    norm = affine(LayerNorm2d(6))
    got, arrived = redistributed(nn.Sequential(norm), {}, X)
    plain = nn.LayerNorm(6).double()
    plain.load_state_dict(norm.state_dict())
    moved = X.movedim(1, 3)
    expected, _ = redistributed(nn.Sequential(plain), {}, moved, arrived.movedim(1, 3).contiguous())
    agree(got.movedim(1, 3), expected, 1e-12)


def test_a_subclass_that_computes_something_else_is_not_taken_for_a_norm():
    class Twice(nn.LayerNorm):
        def forward(self, x):
            return 2 * super().forward(x)

    net = nn.Sequential(affine(Twice(5)), nn.Flatten())
    agree(Explainer(net, dtype=torch.float64).predict(X), net(X).detach(), 1e-12)


MIXING = {
    "LayerNorm": (nn.LayerNorm((3, 6, 4, 5)), "mix the images of a batch"),
    "RMSNorm": (nn.RMSNorm((3, 6, 4, 5)), "mix the images of a batch"),
    "InstanceNorm1d": (nn.Sequential(nn.Flatten(), nn.InstanceNorm1d(120)), "needs an input of 3 axes"),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_images_is_refused(name):
    module, text = MIXING[name]
    with pytest.raises(ModelError, match=rf"\({name}\) cannot take an input of shape .*: .*{text}"):
        Explainer(nn.Sequential(module.double()), dtype=torch.float64)(X)


REFUSED = {
    "layer_norm": (lambda x: F.layer_norm(x, (5,), x.mean((0, 1, 2))), "Its weight must be fixed|mixes the images"),
    "group_norm": (lambda x: F.group_norm(x, 2, weight=x.mean((2, 3))[0]), "Its weight must be fixed"),
    "instance_norm": (lambda x: F.instance_norm(x, use_input_stats=False), "neither statistics of its input nor fixed"),
    "getitem": (lambda x: torch.native_layer_norm(x, (5,), None, None, 1e-5)[1], "What a normalisation divides by"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_by_name(name):
    function, text = REFUSED[name]
    with pytest.raises(UnsupportedLayer, match=rf"Layer '\w+' of type \w+ has no relevance rule\. .*({text})"):
        build_graph(Call(function))


def test_a_norm_that_stays_in_training_mode_is_refused():
    class Stuck(nn.InstanceNorm2d):
        def train(self, mode=True):
            return super().train(True)

    with pytest.raises(UnsupportedLayer, match="It stays in training mode"):
        build_graph(nn.Sequential(nn.Conv2d(6, 6, 1), Stuck(6, track_running_stats=True)))


def test_the_layer_table_says_what_is_normalised():
    assert LayerNorm((4, 5), None, None, 1e-5).describe() == "over 4x5 by standard deviation eps=1e-05"
    for module, text in ((nn.GroupNorm(2, 6), "over 2 groups of channels by standard deviation eps=1e-05"),
                         (nn.InstanceNorm2d(6), "over each channel by standard deviation eps=1e-05"),
                         (nn.RMSNorm(5), "over 5 by root mean square")):  # fmt: skip
        assert build_graph(nn.Sequential(module)).layers[1].operation.describe() == text


def channels(x):
    return x.mean(1, keepdim=True)


def convnext(x):
    """As the authors of ConvNeXt write it, for channels first."""
    u = x.mean(1, keepdim=True)
    s = (x - u).pow(2).mean(1, keepdim=True)
    return WEIGHT[:, None, None] * ((x - u) / torch.sqrt(s + 1e-6)) + BIAS[:, None, None]


def grouped(x):
    """Group normalisation by views."""
    rows = x.view(x.size(0), 3, -1)
    mean, variance = rows.mean(-1, keepdim=True), rows.var(-1, unbiased=False, keepdim=True)
    return ((rows - mean) / (variance + 1e-5).sqrt()).view(x.shape)


def of_channels(*parameters):
    return lambda x: F.layer_norm(x.movedim(1, 3), (6,), *parameters, eps=1e-6).movedim(3, 1)


HAND = {
    "ConvNeXt": (convnext, of_channels(WEIGHT, BIAS)),
    "a product with rsqrt": (lambda x: (x - channels(x)) * torch.rsqrt(x.var(1, unbiased=False, keepdim=True) + 1e-6),
                             of_channels()),
    "rsqrt first": (lambda x: ((x * x).mean(1, keepdim=True) - channels(x) ** 2 + 1e-6).rsqrt() * (x - channels(x)),
                    of_channels()),
    "a power": (lambda x: (x - channels(x)) * (x.var(1, correction=0, keepdim=True) + 1e-6) ** -0.5, of_channels()),
    "groups": (grouped, lambda x: F.group_norm(x, 3)),
    "instances": (lambda x: (x - x.mean((2, 3), keepdim=True)) / torch.sqrt(
        torch.var(x, dim=(2, 3), unbiased=False, keepdim=True) + 1e-5), F.instance_norm),
    "root mean square": (lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6),
                         lambda x: F.rms_norm(x.movedim(1, 3), (6,), eps=1e-6).movedim(3, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", HAND)
def test_a_norm_by_hand_is_the_function(name):
    function, same = HAND[name]
    got, arrived = redistributed(Call(function), {}, X)
    agree(got, redistributed(Call(same), {}, X, arrived)[0], 1e-8)


UNBIASED = {
    "std": lambda held: lambda x: (x - channels(x)) / held(x.std(1, keepdim=True) + 1e-3),
    "simple": lambda held: lambda x: x * held(torch.rsqrt(x.var(1, keepdim=True) + 1e-6)),
}


@pytest.mark.parametrize("name", UNBIASED)
def test_the_other_forms_hold_what_they_divide_by(name):
    x = X.clone().requires_grad_()
    got, arrived = redistributed(Call(UNBIASED[name](lambda value: value)), {}, X)
    output = UNBIASED[name](torch.Tensor.detach)(x)
    agree(got, X * torch.autograd.grad(output, x, arrived / output.detach())[0], 1e-9)


NOT_A_NORM = {
    "another signal's": lambda x: x[:, :3] / (x[:, 3:].var(1, keepdim=True) + 1e-5).sqrt(),
    "squared": lambda x: (x - channels(x)) / (x.var(1, keepdim=True) + 1e-5),
    "of the images": lambda x: (x + 0) / (x.var(0, keepdim=True) + 1e-5).sqrt(),
    "of all": lambda x: x / x.std(),
    "the norm": lambda x: x / (x.square().sum(1, keepdim=True) + 1e-6).sqrt(),
    "by var_mean": lambda x: x * torch.rsqrt(torch.var_mean(x, 1)[0]),
    "passed on": lambda x: x.var((2, 3)),
}


@pytest.mark.parametrize("name", NOT_A_NORM)
def test_what_only_looks_like_a_norm_is_refused(name):
    with pytest.raises(UnsupportedLayer, match=r"as torch\.nn\.LayerNorm, GroupNorm|Name the axes|leave out axis 0"):
        build_graph(Call(lambda self, x: NOT_A_NORM[name](self.conv(x)), conv=nn.Conv2d(6, 6, 1)))


@pytest.mark.parametrize("name", HAND)
def test_the_gradient_of_a_norm_by_hand_is_the_derivative(name):
    x = X.clone().requires_grad_()
    got, arrived = redistributed(Call(HAND[name][0]), {"kind": {"any": "gradient"}}, X)
    agree(got, torch.autograd.grad(HAND[name][0](x), x, arrived)[0], 1e-8)
