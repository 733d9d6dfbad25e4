"""From a module to layers: tracing, folding, naming, and the refusal of what has no rule."""

import re

import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from lrpcli import Explainer, LocalResponseNorm
from lrpcli.errors import ModelError, UnsupportedLayer
from lrpcli.lrp.propagate import Plan, forward
from lrpcli.lrp.tracing.translate import build_graph
from tests.lrp.helpers import Call, agree

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def explainer(module, config="epsilon"):
    return Explainer(module, config, dtype=torch.float64)


def names(module):
    return [name for name, _ in build_graph(module).named()]


def head(channels=4):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


class Twice(nn.Module):
    """One convolution and one ReLU, used twice each."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = head(3)

    def forward(self, x):
        x = self.relu(self.conv(x))
        return self.head(self.relu(self.conv(x)))


@pytest.mark.parametrize("config", ["epsilon", "composite", "epsilon-gamma-box", "epsilon-plus-flat"])
def test_a_module_used_twice_is_two_layers(config):
    torch.manual_seed(1)
    module = Twice().double()
    unrolled = nn.Sequential(
        nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), head(3)
    ).double()
    for conv in (unrolled[0], unrolled[2]):
        conv.load_state_dict(module.conv.state_dict())
    unrolled[4].load_state_dict(module.head.state_dict())
    assert names(module) == ["conv", "relu", "conv@2", "relu@2", "head.0", "head.1", "head.2"]
    pixels = (torch.full((1, 3, 1, 1), -5.0), torch.full((1, 3, 1, 1), 5.0))
    one, other = (
        Explainer(net, config, dtype=torch.float64, pixel_range=pixels)(X, keep_layers=True)
        for net in (module, unrolled)
    )
    torch.testing.assert_close(one.relevance, other.relevance, rtol=0, atol=0)
    torch.testing.assert_close(one.layers["conv"], other.layers["0"], rtol=0, atol=0)
    torch.testing.assert_close(one.layers["conv@2"], other.layers["2"], rtol=0, atol=0)


class Functional(nn.Module):
    """Branches, a residual and activations without a module of their own."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(8, 4, 1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = torch.relu(self.a(x))
        y = x + functional.relu(self.b(x), inplace=True)
        y = torch.cat([y, x], 1)
        y = functional.local_response_norm(functional.relu(self.c(y)), 3, alpha=0.1)
        y = functional.max_pool2d(y, 2)
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(y, (1, 1)), 1))


def hand_unrolled(net, x, start):
    """Gradient times input of a net without biases whose LRN is left out: what epsilon 0 with LRN identity gives."""
    x = x.clone().requires_grad_()
    a = torch.relu(net.a(x))
    y = torch.cat([a + functional.relu(net.b(a)), a], 1)
    y = functional.relu(net.c(y))
    # LRN as a constant factor: R passes through unchanged, as identity has it.
    factor = functional.local_response_norm(y, 3, alpha=0.1).detach() / (y.detach() + 1e-300)
    logits = net.fc(functional.max_pool2d(y * factor, 2).mean((2, 3)))
    logits.backward(start)
    return x.detach() * x.grad


def test_functional_calls_equal_a_hand_unrolled_net():
    torch.manual_seed(2)
    net = Functional().double()
    for layer in (net.a, net.b, net.c, net.fc):
        layer.bias.data.zero_()
    config = {"kind": {"linear": {"rule": "epsilon", "epsilon": 0}, "lrn": "identity"}}
    result = explainer(net, config)(X, target=3)
    torch.testing.assert_close(result.logits, net(X).detach(), rtol=1e-12, atol=1e-12)
    start = functional.one_hot(torch.tensor([3, 3]), 5).double()
    agree(result.relevance, hand_unrolled(net, X, start), 1e-12)


class NormalisedNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, affine=False)
        self.fc, self.bn3 = nn.Linear(4, 5), nn.BatchNorm1d(5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.fc(x.mean((2, 3))))


def trained_norms(module):
    """Statistics as after training, in eval mode."""
    generator = torch.Generator().manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.copy_(torch.randn(layer.num_features, generator=generator) / 2)
            layer.running_var.copy_(torch.rand(layer.num_features, generator=generator) + 0.3)
            if layer.affine:
                layer.weight.data.copy_(torch.randn(layer.num_features, generator=generator))
                layer.bias.data.copy_(torch.randn(layer.num_features, generator=generator) / 3)
    return module.double().eval()


def test_batch_norm_is_folded_into_the_layer_before_it():
    torch.manual_seed(3)
    net = trained_norms(NormalisedNet())
    graph = build_graph(net)
    assert [layer.kind for layer in graph.layers if layer.kind == "affine"] == []
    assert [layer.aliases for layer in graph.layers if layer.aliases] == [("bn1",), ("bn2",), ("bn3",)]
    result = explainer(net)(X, keep_layers=True)
    torch.testing.assert_close(result.logits, net(X).detach(), rtol=1e-10, atol=1e-10)
    assert result.layers["bn1"] is result.layers["conv1"]


def test_a_batch_norm_is_not_folded_where_another_layer_reads_what_it_reads():
    net = trained_norms(Call(lambda self, x: self.fc(torch.cat([self.bn(self.conv(x)), self.conv(x)], 1).mean((2, 3))),
                             conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4), fc=nn.Linear(8, 5)))  # fmt: skip
    assert [layer.name for layer in build_graph(net).layers if layer.aliases] == ["conv"]

    def shared(self, x):
        y = self.conv(x)
        return self.fc(torch.cat([self.bn(y), y], 1).mean((2, 3)))

    net = trained_norms(Call(shared, conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4), fc=nn.Linear(8, 5)))
    assert "affine" in [layer.kind for layer in build_graph(net).layers]
    torch.testing.assert_close(explainer(net)(X).logits, net(X).detach(), rtol=1e-10, atol=1e-10)


def test_batch_norm_over_another_axis_is_an_error_and_not_a_wrong_map():
    net = trained_norms(Call(lambda self, x: self.bn(self.fc(x)).mean((1,)), fc=nn.Linear(6, 6), bn=nn.BatchNorm1d(6)))
    with pytest.raises(ModelError, match="'fc' .* a BatchNorm was folded into it"):
        explainer(net)(torch.randn(2, 6, 6, dtype=torch.float64))


def test_a_final_softmax_is_stripped():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), head()).double()
    expected = explainer(plain)(X)
    for last in ([nn.Softmax(1)], [nn.LogSoftmax(1), nn.Identity()], [nn.Softmax(1), nn.Flatten()]):
        result = explainer(nn.Sequential(*plain, *last).double())(X)
        torch.testing.assert_close(result.logits, expected.logits, rtol=0, atol=0)
        torch.testing.assert_close(result.relevance, expected.relevance, rtol=0, atol=0)


def test_a_part_of_the_probabilities_becomes_that_part_of_the_logits():
    net = Call(lambda self, x: torch.softmax(self.net(x), 1)[:, 1:3], net=nn.Sequential(nn.Conv2d(3, 4, 3), head()))
    net = net.double()
    torch.testing.assert_close(explainer(net)(X).logits, net.net(X)[:, 1:3].detach())


def test_a_part_of_the_logits_stays_a_part():
    net = Call(lambda self, x: self.net(x)[:, 1:3], net=nn.Sequential(nn.Conv2d(3, 4, 3), head())).double()
    torch.testing.assert_close(explainer(net)(X).logits, net(X).detach())


def test_a_final_flatten_over_several_axes_stays():
    net = nn.Sequential(nn.Conv2d(3, 4, 7), nn.Flatten()).double()
    torch.testing.assert_close(explainer(net)(X).logits, net(X).detach())


def test_a_softmax_in_the_middle_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.Softmax(1), nn.Linear(6, 4))
    with pytest.raises(UnsupportedLayer, match="Layer '2' is a softmax in the middle of the model"):
        build_graph(net)


REFUSED = {
    "LPPool2d": (lambda self, x: self.layer(x), {"layer": nn.LPPool2d(2, 2)}, "'layer' of type LPPool2d"),
    "BatchNorm2d": (lambda self, x: self.layer(x), {"layer": nn.BatchNorm2d(3, track_running_stats=False)},
                    "keeps no running statistics"),
    "ConvTranspose2d": (lambda self, x: self.layer(x, output_size=(17, 17)), {"layer": nn.ConvTranspose2d(3, 3, 2, 2)},
                        "called with one tensor"),
    "sort": (lambda x: torch.sort(x)[0], {}, "'sort' of type sort"),
    "mean": (lambda x: x.mean(), {}, "Name the axes of the mean."),
    "div": (lambda x: torch.div(x, 2, rounding_mode="floor"), {}, "Only a plain division"),
    "getattr": (lambda x: x.grad, {}, "It reads 'grad' of a tensor."),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_rule_is_refused_by_name(kind):
    function, modules, text = REFUSED[kind]
    with pytest.raises(UnsupportedLayer) as caught:
        build_graph(Call(function, **modules))
    message = str(caught.value)
    assert text in message
    assert re.match(rf"Layer '\w+' of type {kind} has no relevance rule\.", message)
    assert message.endswith("Replace it by layers that have one (docs/rules.md lists them) or cut the model before it.")


def test_control_flow_on_values_is_refused():
    with pytest.raises(ModelError, match="The forward function of Call cannot be traced .* Write it without control"):
        build_graph(Call(lambda x: x if x.sum() > 0 else -x))


def test_a_second_input_is_refused():
    class Pair(nn.Module):
        def forward(self, x, y):
            return x + y

    with pytest.raises(ModelError, match="The model has a second input, 'y'"):
        build_graph(Pair())


def test_a_second_input_with_a_default_keeps_it():
    class Scaled(nn.Module):
        def forward(self, x, factor=3.0):
            return x.flatten(1) * factor

    torch.testing.assert_close(explainer(Scaled())(X).logits, 3 * X.flatten(1))


def test_several_outputs_are_refused():
    with pytest.raises(ModelError, match="must return one tensor of logits"):
        build_graph(Call(lambda x: (x.flatten(1), x)))


def test_logits_of_a_wrong_shape_are_refused():
    with pytest.raises(ModelError, match=re.escape("must return logits (N, classes); it returns shape (2, 3, 8, 8)")):
        explainer(nn.Sequential(nn.ReLU()))(X)


def test_an_input_of_a_wrong_shape_names_the_layer():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(99, 5)).double()
    with pytest.raises(ModelError, match=re.escape("Layer '2' (Linear) cannot take an input of shape (2, 144)")):
        explainer(net)(X)


def test_auxiliary_heads_are_dropped():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head, self.extra = nn.Conv2d(3, 4, 3), head(), nn.Sequential(head(), nn.Softmax(1))

        def forward(self, x):
            x = self.body(x)
            if self.training:
                return self.head(x), self.extra(x)
            self.extra(x)
            return self.head(x)

    net = Auxiliary()  # in training mode: the graph is that of eval mode all the same
    assert names(net) == ["body", "head.0", "head.1", "head.2"]


def test_the_model_is_not_changed():
    """Same objects, same bytes, same training flags, no gradients, after every built-in kind of rule."""
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), LocalResponseNorm(3, 0.1, 0.75),
        nn.MaxPool2d(2), nn.Dropout(), nn.Conv2d(4, 4, 1), nn.PReLU(4), head(),
    )  # fmt: skip
    net[1].eval()
    before = {name: (value, value.clone()) for name, value in net.state_dict(keep_vars=True).items()}
    flags = [module.training for module in net.modules()]
    for config in ("epsilon", "composite", "epsilon-plus-flat", "gradient"):
        for dtype in (torch.float32, torch.float64):
            Explainer(net, config, dtype=dtype)(X, "top2", keep_layers=True)
    after = net.state_dict(keep_vars=True)
    assert list(after) == list(before)
    for name, (same, copy) in before.items():
        assert after[name] is same
        assert torch.equal(same, copy)
        assert same.grad is None
    assert [module.training for module in net.modules()] == flags
    assert net[2].inplace


def test_the_input_is_not_changed():
    x = X.clone()
    explainer(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3), head()).double())(x)
    assert torch.equal(x, X)


def test_an_importers_graph_keeps_its_layer_names():
    """An fx.GraphModule whose nodes say what their layers are called in the source file."""
    graph = fx.Graph()
    node = graph.placeholder("data")
    modules = {"m0": nn.Conv2d(3, 4, 3), "m1": nn.ReLU(), "m2": nn.Flatten(), "m3": nn.Linear(144, 5)}
    for (target, _), name in zip(
        modules.items(), ("conv1/7x7_s2", "conv1/relu", "flat", "loss3/classifier"), strict=True
    ):
        node = graph.call_module(target, (node,))
        node.meta["layer"] = name
    graph.output(node)
    module = fx.GraphModule(nn.ModuleDict(modules), graph).double()
    assert names(module) == ["conv1/7x7_s2", "conv1/relu", "flat", "loss3/classifier"]
    result = explainer(module)(X, keep_layers=True)
    assert result.layers["conv1/7x7_s2"].shape == (2, 4, 6, 6)


def test_frozen_constants_are_computed_once():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("variance", torch.tensor([4.0, 9.0, 16.0]))

        def forward(self, x):
            return (x * self.variance.rsqrt().reshape(1, -1, 1, 1)).mean((2, 3))

    net = Frozen().double()
    torch.testing.assert_close(explainer(net)(X).logits, net(X))
    assert names(net) == ["mul", "mean"]


def test_nonnegative_inputs_are_known_as_such():
    """After a ReLU, through LRN, pooling and concat; not after a convolution, a factor or a subtraction."""

    def function(self, x):
        a = torch.relu(self.a(x))
        b = self.b(functional.max_pool2d(self.norm(torch.cat([a, functional.relu6(a)], 1)), 2))
        c = self.d(torch.relu(self.c(b)) * -0.5)
        return self.fc((torch.relu(c) - 1.0).mean((2, 3)))

    net = Call(function, a=nn.Conv2d(3, 4, 3), norm=LocalResponseNorm(3, 0.1, 0.75), b=nn.Conv2d(8, 4, 1),
               c=nn.Conv2d(4, 4, 1), d=nn.Conv2d(4, 4, 1), fc=nn.Linear(4, 5))  # fmt: skip
    known = {layer.name: layer.nonnegative for layer in build_graph(net).layers if layer.position}
    assert known == {"a": False, "b": True, "c": False, "d": False, "fc": False}


@pytest.mark.parametrize("inner", [
    Call(lambda x: functional.softplus(x, beta=-1.0)),
    nn.Softplus(beta=-1.0),
    Call(lambda x: functional.avg_pool2d(torch.relu(x), 2, divisor_override=-4)),
    nn.Sequential(nn.ReLU(), nn.AvgPool2d(2, divisor_override=-4)),
])  # fmt: skip
def test_what_a_parameter_makes_negative_is_not_taken_for_nonnegative(inner):
    """The rules for inputs >= 0 would give a wrong map without a word."""
    net = Call(lambda self, x: self.fc(self.inner(x).mean((2, 3))), inner=inner, fc=nn.Linear(3, 5)).double()
    assert float(inner(X).max()) <= 0
    assert not build_graph(net).layers[-1].nonnegative


def test_positions_count_linear_layers_and_branches_share_the_first_place():
    def function(self, x):
        return self.fc(torch.cat([self.a(x), torch.relu(self.b(x))], 1).mean((2, 3)))

    net = Call(function, a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(3, 4, 3), fc=nn.Linear(8, 5))
    found = {
        layer.name: (layer.position, layer.first, layer.last) for layer in build_graph(net).layers if layer.position
    }
    assert found == {"a": (1, True, False), "b": (2, True, False), "fc": (3, False, True)}


def test_forward_frees_what_no_rule_keeps():
    graph = build_graph(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), head()).double())
    assert forward(Plan(graph), X).steps == [None] * len(graph.layers)


def trained(norm):
    """A BatchNorm with numbers as after some training."""
    generator = torch.Generator().manual_seed(5)
    norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator))
    norm.running_var.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)
    norm.weight.data.copy_(torch.randn(norm.num_features, generator=generator))
    norm.bias.data.copy_(torch.randn(norm.num_features, generator=generator))
    return norm


def folded_by_hand(conv, norm):
    """The transposed convolution with each output's weights times its scale; group by group, (C, D / groups, ...)."""
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        same = type(conv)(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, groups=conv.groups,
            output_padding=conv.output_padding,
        ).double()  # fmt: skip
        per_group = conv.out_channels // conv.groups
        for channel in range(conv.in_channels):
            group = channel // (conv.in_channels // conv.groups)
            for output in range(per_group):
                same.weight[channel, output] = conv.weight[channel, output] * scale[group * per_group + output]
        same.bias.copy_(shift if conv.bias is None else conv.bias * scale + shift)
    return same


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("conv", "norm", "groups", "shape"), [
    (nn.ConvTranspose2d, nn.BatchNorm2d, 1, (2, 4, 3, 3)),
    (nn.ConvTranspose2d, nn.BatchNorm2d, 2, (2, 4, 3, 3)),
    (nn.ConvTranspose1d, nn.BatchNorm1d, 4, (2, 4, 5)),
    (nn.ConvTranspose3d, nn.BatchNorm3d, 2, (2, 4, 2, 2, 3)),
])  # fmt: skip
def test_a_batch_norm_behind_a_transposed_convolution_is_folded(conv, norm, groups, shape, bias):
    torch.manual_seed(1)
    layer = conv(4, 12, 3, 2, bias=bias, groups=groups, output_padding=1).double()
    behind = trained(norm(12)).double().eval()
    x = torch.randn(shape, dtype=torch.float64)
    head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.LazyLinear(3).double())
    net = nn.Sequential(layer, behind, head).eval()
    with torch.no_grad():
        net(x)
    same = nn.Sequential(folded_by_hand(layer, behind), head).eval()
    with torch.no_grad():
        torch.testing.assert_close(net(x), same(x))
    assert names(net)[:2] == ["0", "1"]
    assert len({id(item) for _, item in build_graph(net).named()}) == 4
    for config in ("epsilon", "composite", "epsilon-plus"):
        agree(explainer(net, config)(x, 0).relevance, explainer(same, config)(x, 0).relevance, 1e-12)


def test_two_batch_norms_in_a_row_are_folded_one_after_the_other():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), trained(nn.BatchNorm2d(4)), trained(nn.BatchNorm2d(4)), head()).double()
    graph = build_graph(net.eval())
    assert graph.layers[1].names == ("0", "1", "2")
    with torch.no_grad():
        torch.testing.assert_close(explainer(net).predict(X), net(X))


@pytest.mark.parametrize("transposed", [False, True])
def test_a_batch_norm_is_not_folded_where_others_read_the_convolution(transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d

    def function(self, x):
        y = self.conv(x)
        return self.head(self.norm(y) + y)

    net = Call(function, conv=kind(3, 4, 3), norm=trained(nn.BatchNorm2d(4)), head=head()).double().eval()
    assert [layer.kind for layer in build_graph(net).layers[1:4]] == ["convolution", "affine", "sum"]
    with torch.no_grad():
        torch.testing.assert_close(explainer(net).predict(X), net(X))


def test_a_batch_norm_behind_two_convolutions_is_folded_into_each():
    def function(self, x):
        return self.head(self.norm(self.one(x)) + self.norm(self.two(x)))

    net = Call(function, one=nn.Conv2d(3, 4, 3), two=nn.Conv2d(3, 4, 3), norm=trained(nn.BatchNorm2d(4)), head=head())
    net = net.double().eval()
    assert [layer.names for layer in build_graph(net).layers[1:3]] == [("one", "norm"), ("two", "norm@2")]
    with torch.no_grad():
        torch.testing.assert_close(explainer(net).predict(X), net(X))
