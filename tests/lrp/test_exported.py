"""torch.export as the second tracer: the graph that torch.fx gives, the same refusals, and one shape of images."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision import models

import lrpcli
from lrpcli import Explainer
from lrpcli.errors import ModelError, UnsupportedLayer, UsageError
from lrpcli.lrp.layers.elementwise import is_unchanged
from lrpcli.lrp.tracing import translate
from lrpcli.lrp.tracing.exported import export
from lrpcli.lrp.tracing.graph import Graph
from lrpcli.lrp.tracing.tracer import Untraceable
from lrpcli.models.layer_table import layer_table
from tests.lrp.helpers import Call, agree, image
from tests.lrp.linearised import linearised_gradient
from tests.lrp.plain_operations import OLD

OF_NEWER_TORCH = pytest.mark.skipif(OLD, reason="torch.export of older versions does not take such nets")

X = image(2, 3, 8, 8)
SHAPE = (3, 8, 8)
LRP_0 = {"kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}


class Block(nn.Module):
    """A part with a part of its own."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.inner(x) + x


class Net(nn.Module):
    """A net whose shapes decide what it computes, which torch.fx cannot trace."""

    def __init__(self, function=lambda self, x: x, **parts):
        super().__init__()
        self.function = function
        self.conv, self.relu, self.fc = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Linear(4 * 36, 3)
        self.register_buffer("calls", torch.zeros(()))
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        if x.shape[1] != 3:
            x = x * 2
        return self.fc(self.function(self, self.conv(x)).flatten(1))


def made(function=lambda self, x: x, **parts):
    torch.manual_seed(0)
    return Net(function, **parts).double().eval()


def explainer(net, config="epsilon-1", **settings):
    return Explainer(net, config, dtype=X.dtype, device="cpu", input_shape=SHAPE, **settings)


def unrolled(net, *parts):
    """The same net without its decision."""
    return nn.Sequential(net.conv, *parts, nn.Flatten(), net.fc).eval()


def names(graph: Graph):
    """Layers by name and kind; torch.export shows no layer that gives back its input, and no size."""
    layers = [layer for layer in graph.layers[1:] if layer.kind != "scalar" and not is_unchanged(layer.operation)]
    return [(layer.name, layer.kind) for layer in layers]


def test_what_shapes_decide_is_traced_for_the_shape_that_is_given():
    net = made(lambda self, x: self.relu(self.block(x)), block=Block())
    expected = Explainer(unrolled(net, net.block, net.relu), "epsilon-1", dtype=X.dtype, device="cpu")(X)
    found = explainer(net)
    torch.testing.assert_close(found(X).relevance, expected.relevance, rtol=0, atol=0)
    assert names(found.graph) == [
        ("conv", "convolution"), ("block.inner", "convolution"), ("add", "sum"), ("relu", "activation"),
        ("flatten", "view"), ("fc", "fully-connected"),
    ]  # fmt: skip


def test_without_a_shape_the_error_says_how_to_give_one():
    with pytest.raises(ModelError, match=r"say which shape the images have, Explainer\(model, input_shape="):
        Explainer(made(), device="cpu")


@pytest.mark.parametrize("shape", [224, (), "abc", (3, 0, 8), (3.5, 8, 8)])
def test_an_input_shape_that_is_none_is_refused(shape):
    with pytest.raises(UsageError, match=r"input_shape is the shape \(C, H, W\) of an image"):
        Explainer(made(), device="cpu", input_shape=shape)


def test_a_loaded_model_brings_its_shape(tmp_path):
    model = lrpcli.load_model(made(), input_shape=SHAPE)
    expected = explainer(made())(X).relevance
    torch.testing.assert_close(Explainer(model, "epsilon-1", dtype=X.dtype, device="cpu")(X).relevance, expected)
    assert [row.name for row in layer_table(model)] == ["conv", "flatten", "fc"]


def test_images_of_another_shape_are_refused():
    with pytest.raises(ModelError, match=r"was traced for images of shape \(3, 8, 8\), .* for \(3, 9, 8\)"):
        explainer(made(lambda self, x: functional.adaptive_avg_pool2d(x, 6)))(image(1, 3, 9, 8))


@pytest.mark.parametrize("function", [
    lambda self, x: x.view(x.shape[0], -1), lambda self, x: x.reshape(len(x), 4, -1).mean(-1).repeat(1, 36),
    lambda self, x: self.shuffle(x), lambda self, x: torch.cat([x.new_zeros(x.shape[0], 2, 6, 6), x[:, :2]], 1),
])  # fmt: skip
def test_any_number_of_images_will_do(function):
    net = made(function, shuffle=nn.ChannelShuffle(2))
    found = explainer(net)
    images = image(5, 3, 8, 8)
    together = found(images)
    with torch.no_grad():
        agree(together.logits, net(images), 1e-10)
    for number in range(5):
        alone = found(images[number : number + 1], target=together.target[number : number + 1])
        agree(alone.relevance[0], together.relevance[number], 1e-10)


class CaffeNet(nn.Module):
    """The first layers of AlexNet, with LRN as torch has it."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 5, 2), nn.ReLU(inplace=True), nn.LocalResponseNorm(5, 1e-2, 0.75), nn.MaxPool2d(3, 2),
            nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU(inplace=True), nn.LocalResponseNorm(3, 1.0, 0.5, 2.0),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(8 * 14 * 14, 10))

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


BOTH = {
    "caffenet": CaffeNet,
    "resnet18": models.resnet18,
    "densenet121": models.densenet121,
    "mobilenet_v3_small": models.mobilenet_v3_small,
    "efficientnet_b0": models.efficientnet_b0,
    "googlenet": lambda: models.googlenet(init_weights=False, aux_logits=False),
}


@pytest.mark.parametrize("name", [
    "caffenet", "resnet18", *(pytest.param(name, marks=pytest.mark.slow) for name in list(BOTH)[2:])
])  # fmt: skip
def test_both_tracers_give_the_same_graph_and_the_same_map(name, monkeypatch):
    torch.manual_seed(0)
    net, x = BOTH[name]().eval(), 30 * torch.randn(1, 3, 64, 64)
    by_fx = Explainer(net, "epsilon-alpha2-beta1", device="cpu")
    refuse = lambda module: (_ for _ in ()).throw(Untraceable("here torch.export is tried"))  # noqa: E731
    monkeypatch.setattr(translate, "trace", refuse)
    by_export = Explainer(net, "epsilon-alpha2-beta1", device="cpu", input_shape=(3, 64, 64))
    assert by_export.graph.shape == (3, 64, 64)
    assert not by_fx.graph.shape
    computing = [layer for layer in names(by_fx.graph) if not layer[0].startswith("stochastic_depth")]
    assert names(by_export.graph) == computing  # what does nothing in eval mode is not exported
    assert torch.equal(by_export(x).relevance, by_fx(x).relevance)


def test_a_module_used_twice_is_two_layers():
    net = made(lambda self, x: self.relu(self.block(self.relu(self.block(x)))), block=nn.Conv2d(4, 4, 1))
    assert [name for name, _ in names(explainer(net).graph)] == [
        "conv", "block", "relu", "block@2", "relu@2", "flatten", "fc"
    ]  # fmt: skip


def test_local_response_normalisation_stays_one_layer():
    for part in (nn.LocalResponseNorm(3, 10.0), lrpcli.LocalResponseNorm(3, 10.0, 0.75, region="within-channel")):
        net = made(lambda self, x: self.norm(x), norm=part)
        assert ("norm", "lrn") in names(explainer(net).graph)
        expected = Explainer(unrolled(net, part), "epsilon-1", dtype=X.dtype, device="cpu")(X).relevance
        torch.testing.assert_close(explainer(net)(X).relevance, expected, rtol=0, atol=0)


def value_decides(self, x):
    return x if x.sum() > 0 else -x


def reads_a_number(self, x):
    return x * float(x.max())


def assigns(self, x):
    x = x.clone()
    x[:, 0] = x[:, 1] * 2
    return x


def assigns_a_number(self, x):
    x = x.clone()
    x[:, 0] = 0
    return x


def writes_over_a_view(self, x):
    part = x[:, :2]
    part += 1
    return x * 2


class Stubborn(nn.Dropout):
    """Monte Carlo dropout."""

    def train(self, mode=True):
        return super().train(True)


@pytest.mark.parametrize(("function", "error", "text"), [
    (value_decides, ModelError, "test_exported.py, line .*: 'return x if x.sum.. > 0 else -x' .*data-dependent"),
    (reads_a_number, ModelError, "without control flow that depends on the values of tensors"),
    (assigns, UnsupportedLayer, "of type copy .* It writes over a part of a tensor"),
    (assigns_a_number, UnsupportedLayer, "of type fill .* It writes over a part of a tensor"),
    (writes_over_a_view, UnsupportedLayer, "writes over its input, and .*, another view of the same memory"),
    (lambda self, x: x + torch.rand_like(x), UnsupportedLayer, "of type rand_like .* It is random"),
    (lambda self, x: x * torch.rand(4, 1, 1), ModelError, "draws random numbers"),
    (lambda self, x: functional.dropout(x), UnsupportedLayer, "random also in eval mode"),
    (lambda self, x: self.stubborn(x), UnsupportedLayer, "stays in training mode"),
    (lambda self, x: x - torch.relu(x).mean(0, keepdim=True), UnsupportedLayer, "mixes the images of a batch"),
    (lambda self, x: x.cumsum(1), UnsupportedLayer, "'cumsum' of type cumsum"),
])  # fmt: skip
def test_what_no_trace_shows_is_refused(function, error, text, capfd):
    with pytest.raises(error, match=text):
        explainer(made(function, stubborn=Stubborn()))
    assert capfd.readouterr() == ("", "")


def test_what_the_number_of_images_decides_is_explained_as_for_one():
    net = made(lambda self, x: x * 2 if int(x.shape[0]) == 1 else x)
    found = explainer(net)(X)
    with torch.no_grad():
        agree(found.logits, torch.cat([net(X[:1]), net(X[1:])]), 1e-10)


def test_images_that_depend_on_each_other_are_found():
    with pytest.raises(ModelError, match="does not compute the logits of the model itself"):
        explainer(made(lambda self, x: x.flip(0)))(X)


@pytest.mark.parametrize("place", ["block", "block.inner"])
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_forward_hooks_are_refused_by_name(place, register):
    net = made(lambda self, x: self.block(x), block=Block())
    getattr(net.get_submodule(place), register)(lambda module, *tensors: None)
    with pytest.raises(ModelError, match=f"Layer '{place}' of type .* has a forward hook"):
        explainer(net)


@pytest.mark.parametrize("place", ["block", "block.inner"])
def test_forward_functions_that_were_replaced_in_a_part_are_what_is_explained(place):
    net = made(lambda self, x: self.block(x), block=Block())
    net.get_submodule(place).forward = lambda x: torch.tanh(x) * 3
    found = explainer(net)(X)
    with torch.no_grad():
        agree(found.logits, net(X), 1e-10)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.nn.utils.parametrizations.weight_norm,
                                  torch.nn.utils.spectral_norm])  # fmt: skip
def test_wrappers_and_computed_weights_are_looked_through(wrap):
    net = made(lambda self, x: self.part(x), part=wrap(nn.Conv2d(4, 4, 1)))
    found = explainer(net)(X)
    with torch.no_grad():
        agree(found.logits, net(X), 1e-10)


def on_its_own_type(self, x):
    with torch.autocast(x.device.type, enabled=False):
        return self.block(x) * 2 + x


def on_two_types(self, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inner = self.block(x)
        with torch.autocast("cpu", enabled=False):
            return self.relu(self.block(inner)) + inner


def with_gradients(self, x):
    with torch.enable_grad():
        return self.block(x) * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1)


@OF_NEWER_TORCH
@pytest.mark.parametrize("function", [on_its_own_type, on_two_types, with_gradients])
@pytest.mark.parametrize("exported", [False, True])
def test_blocks_of_autocast_and_of_gradients_are_calls_among_the_others(function, exported):
    net = made(function, block=Block())
    with torch.enable_grad() if function is not with_gradients else torch.no_grad():
        given = torch.export.export(net, (X,), strict=False) if exported else net
    found = explainer(given)
    assert "block.inner" in [layer.name for layer in found.graph.layers]
    result = explainer(given, LRP_0)(X)
    with torch.no_grad():
        agree(result.logits, net(X), 1e-10)
    agree(result.relevance, X * linearised_gradient(net, X, result.target), 1e-8)


@pytest.mark.parametrize("function", [
    *(lambda self, x, mode=mode: functional.interpolate(x, size=(6, 6), mode=mode)
      for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")),
    lambda self, x: functional.interpolate(x, x.shape[-2:], mode="bilinear", align_corners=True),
    lambda self, x: functional.interpolate(x, scale_factor=2)[..., :6, :6],
    lambda self, x: functional.interpolate(x, size=(6, 6), mode="bilinear", antialias=True),
    lambda self, x: functional.interpolate(x.flatten(2), size=36, mode="linear"),
    lambda self, x: functional.interpolate(x[:, :, None], size=(1, 6, 6), mode="trilinear"),
    lambda self, x: functional.adaptive_max_pool2d(x, 3).repeat(1, 1, 2, 2),
    lambda self, x: functional.adaptive_max_pool1d(x.flatten(2), 36),
    lambda self, x: functional.fold(functional.unfold(x, 3, padding=1), (6, 6), 3, padding=1),
    lambda self, x: x[:, [3, 1, 0, 0]], lambda self, x: x.max(2)[0].max(2).values[:, [0, 3], None].expand(-1, -1, 72),
])  # fmt: skip
def test_operators_of_torch_export_are_the_functions_of_torch(function, monkeypatch):
    x = image(3, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Call(lambda x: function(None, x)), nn.Flatten(), nn.Linear(144, 3)).double()
    by_fx = Explainer(net, LRP_0, dtype=x.dtype, device="cpu")
    refuse = lambda module: (_ for _ in ()).throw(Untraceable("here torch.export is tried"))  # noqa: E731
    monkeypatch.setattr(translate, "trace", refuse)
    by_export = explainer(net, LRP_0)
    result = by_export(x)
    with torch.no_grad():
        agree(result.logits, net(x), 1e-10)
    agree(result.relevance, by_fx(x).relevance, 1e-10)
    agree(result.relevance, x * linearised_gradient(net, x, result.target), 1e-8)


def test_a_net_that_goes_through_its_images_is_explained_for_one_and_refused_for_more():
    net = made(lambda self, x: torch.stack([each * 2 for each in x]))
    found = explainer(net)
    agree(found(X[:1]).logits, net(X[:1]).detach(), 1e-10)
    for call in (found, found.predict):
        with pytest.raises(ModelError, match=r"gives 1 rows of logits for 2 images.* give the images one by one"):
            call(X)


@pytest.mark.parametrize("decides", [False, True])
@pytest.mark.parametrize("check", [False, True])
def test_counters_stay_where_they_are(decides, check):
    def counts(self, x):
        self.calls += 1
        return x * self.calls

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Call(counts, part=nn.Identity()), nn.Flatten(), nn.Linear(144, 3))
    net = made(counts).float() if decides else net.eval()
    counter = net if decides else net[1]
    counter.register_buffer("calls", torch.zeros(()))
    version = counter.calls._version
    found = Explainer(net, "epsilon", device="cpu", input_shape=SHAPE, check=check)(X.float())
    assert (float(counter.calls), counter.calls._version) == (0, version)
    with torch.no_grad():
        agree(found.logits, net(X.float()), 1e-5)


@OF_NEWER_TORCH
def test_the_model_is_not_changed():
    def remembers(self, x):
        self.calls += 1
        self.last = x
        return torch.nn.functional.relu_(self.norm(x))

    net = made(remembers, norm=nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    attributes = set(vars(net))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = explainer(net, check=False)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert set(vars(net)) == attributes
    assert net.training
    assert net.norm.training
    assert ("relu", "activation") in names(found.graph)


def test_constants_that_the_forward_function_makes_are_kept():
    scale = torch.arange(1.0, 5.0)
    net = made(lambda self, x: x * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1) + torch.ones(4, 1, 1))
    assert float(scale.sum()) == 10
    found = explainer(net)(X)
    with torch.no_grad():
        agree(found.logits, net(X), 1e-10)


@pytest.mark.parametrize("images", [1, 2])
def test_a_program_of_torch_export_has_the_names_of_its_modules_and_takes_any_number_of_images(images):
    net = made(lambda self, x: self.norm(self.relu(self.block(x))).view(x.shape[0], -1),
               block=Block(), norm=nn.LocalResponseNorm(3, 10.0))  # fmt: skip
    program = torch.export.export(net, (X[:images],))
    expected = explainer(net)
    for exported in (program, program.module()):
        found = Explainer(exported, "epsilon-1", dtype=X.dtype, device="cpu")
        assert [name for name, kind in names(found.graph) if kind != "view"] == [
            "conv", "block.inner", "add", "relu", "norm", "fc"
        ]  # fmt: skip
        for some in (X[:images], X[:1], image(5, 3, 8, 8)):
            agree(found(some).relevance, expected(some).relevance, 1e-10)
        with pytest.raises(ModelError, match=r"was traced for images of shape \(3, 8, 8\)"):
            found(image(1, 3, 9, 9))


def test_a_graph_holds_calls_of_layers_under_their_own_names():
    module, graph = export(made(lambda self, x: self.block(x), block=Block()), SHAPE)
    assert [node.target for node in graph.nodes if node.op == "call_module"] == ["conv", "block.inner", "fc"]
    assert isinstance(module.get_submodule("block.inner"), nn.Conv2d)


def test_several_outputs_of_a_program_are_listed_by_the_names_that_choose_them():
    class Two(nn.Module):
        def forward(self, x):
            return {"scores": x.flatten(1), "pixels": x}

    program = torch.export.export(Two(), (X,), dynamic_shapes=({0: torch.export.Dim("images")},))
    with pytest.raises(ModelError, match=r"it returns scores \(\?, \d+\), pixels .* output='scores'"):
        Explainer(program, device="cpu")
    assert Explainer(program, output="scores", dtype=X.dtype, device="cpu").predict(X).equal(X.flatten(1))


class Classes(nn.Module):
    """Logits, and what is found out about them."""

    def __init__(self, found, decides):
        super().__init__()
        self.found, self.decides, self.fc, self.relu = found, decides, nn.Linear(192, 5), nn.ReLU(inplace=True)

    def forward(self, x):
        if self.decides and x.shape[1] != 3:
            x = x * 2
        logits = self.fc(x.flatten(1))
        return logits, self.found(self, logits)


@pytest.mark.parametrize("decides", [False, True])
@pytest.mark.parametrize("found", [
    lambda self, x: x.argmax(1), lambda self, x: x.topk(2).indices, lambda self, x: torch.sort(x, 1)[1],
    lambda self, x: x / x.norm(dim=1, keepdim=True),
    lambda self, x: functional.normalize(x, dim=1), lambda self, x: {"best": x.max(1)[1], "order": x.argsort(1)},
])  # fmt: skip
def test_what_an_output_that_is_not_chosen_computes_needs_no_rule(found, decides):
    torch.manual_seed(0)
    net = Classes(found, decides).double().eval()
    with torch.no_grad():
        agree(explainer(net, output=0)(X).logits, net(X)[0], 1e-10)
    with pytest.raises(ModelError, match=r"must return one tensor of logits \(N, classes\); it returns 0.*, 1.*Choose"):
        explainer(net)


@pytest.mark.parametrize("decides", [False, True])
def test_what_an_output_that_is_not_chosen_writes_over_is_written_over(decides):
    torch.manual_seed(0)
    net = Classes(lambda self, x: self.relu(x).argmax(1), decides).double().eval()
    with torch.no_grad():
        agree(explainer(net, output=0)(X).logits, net(X)[0], 1e-10)
