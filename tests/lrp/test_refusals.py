"""What a trace does not show: right where that is possible, and refused by name elsewhere."""

import copy

import pytest
import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune

from lrpcli import Explainer
from lrpcli.errors import ModelError, UnsupportedLayer
from lrpcli.lrp.tracing.translate import build_graph
from tests.lrp.helpers import Call, agree, image

X = image(2, 3, 8, 8).float()
HOOK = "has a forward hook .*Remove the hook"


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()


def without(layer, place=0):
    """The plain net with another layer at a place."""
    net = plain()
    net[place] = layer
    return net.eval()


def explained_as_it_runs(net, check=True):
    """Asserts that the logits are those of the net, which is in eval mode afterwards."""
    found = Explainer(net, "epsilon", device="cpu", check=check)(X)
    agree(found.logits, net.eval()(X).detach(), 1e-5)
    return found


def hooked(register, place=0):
    net = nn.Sequential(plain())
    part = net.get_submodule(("0.0", "0", "")[place])
    getattr(part, register)(lambda *arguments: None)
    return net


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
@pytest.mark.parametrize(
    ("place", "name"),
    list(enumerate(["Layer '0.0' of type Conv2d", "Layer '0' of type Sequential", "The model Sequential"])),
)
def test_forward_hooks_are_refused_by_name(register, place, name):
    with pytest.raises(ModelError, match=f"^{name} {HOOK}"):
        Explainer(hooked(register, place), device="cpu")


def test_hooks_for_all_modules_are_refused():
    for register in (nn.modules.module.register_module_forward_hook,
                     nn.modules.module.register_module_forward_pre_hook):  # fmt: skip
        handle = register(lambda *arguments: None)
        try:
            with pytest.raises(ModelError, match="A forward hook is registered for all modules"):
                Explainer(plain(), device="cpu")
        finally:
            handle.remove()


def test_hooks_in_a_graph_module_are_refused():
    module = fx.symbolic_trace(plain())
    module.get_submodule("0").register_forward_hook(lambda *arguments: None)
    with pytest.raises(ModelError, match=f"Layer '0' of type Conv2d {HOOK}"):
        build_graph(module)


def test_backward_hooks_and_hooks_of_unused_modules_are_harmless():
    net = hooked("register_full_backward_hook")
    net.unused = nn.Linear(2, 2)
    net.forward_unused = net.unused.register_forward_hook(lambda *arguments: None)
    whole = Call(lambda self, x: self.net(x), net=net[0], unused=net.unused)
    explained_as_it_runs(whole)


def test_a_forward_function_replaced_in_a_part_is_traced():
    net = plain()
    net[2].forward = lambda x: 3 * torch.relu(x)
    expected = explained_as_it_runs(net, check=False).logits
    assert not torch.allclose(expected, plain()(X))
    outer = nn.Sequential(inner := plain())
    inner.forward = lambda x: inner[4](inner[3](inner[0](x)))
    explained_as_it_runs(outer, check=False)


def test_a_forward_function_of_the_model_that_was_replaced_is_refused():
    net = plain()
    net.forward = lambda x: 2 * net[4](net[3](net[0](x)))
    with pytest.raises(ModelError, match="The forward function of Sequential was replaced"):
        build_graph(net)


class Calls(nn.Sequential):
    def __call__(self, x):
        return super().__call__(x * 2)


def test_a_call_of_its_own_is_refused_in_the_model_and_traced_in_a_part():
    with pytest.raises(ModelError, match="Calls has a __call__ of its own"):
        build_graph(Calls(*plain()))
    explained_as_it_runs(nn.Sequential(Calls(*plain())), check=False)


class Standardised(nn.Conv2d):
    """As weight standardisation does it."""

    def _conv_forward(self, x, weight, bias):
        mean, deviation = weight.mean((1, 2, 3), keepdim=True), weight.std((1, 2, 3), keepdim=True)
        return super()._conv_forward(x, (weight - mean) / deviation, bias)


class Scaled(nn.Conv2d):
    """As nets without normalisation do it: a batch norm of the weight."""

    def forward(self, x):
        weight = functional.batch_norm(self.weight.reshape(1, 4, -1), None, None, training=True).reshape_as(self.weight)
        return functional.conv2d(x, weight, self.bias)


class Same(nn.Conv2d):
    """As ports of TensorFlow pad."""

    def forward(self, x):
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1)), self.weight, self.bias, self.stride)


class Activated(nn.BatchNorm2d):
    def forward(self, x):
        torch._assert(x.ndim == 4, f"expected 4D input (got {x.ndim}D input)")
        return functional.relu(super().forward(x))


class Output(nn.ConvTranspose2d):
    def _output_padding(self, *arguments, **keywords):
        return [0, 0]


SUBCLASSES = {
    "_conv_forward": lambda: Standardised(3, 4, 3),
    "weights": lambda: Scaled(3, 4, 3),
    "forward": lambda: nn.Sequential(Same(3, 4, 3, stride=1), nn.AvgPool2d(3, 1)),
    "super().forward": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Activated(4)),
    "_output_padding": lambda: nn.Sequential(Output(3, 4, 1), nn.AvgPool2d(3, 1)),
}


@pytest.mark.parametrize("overridden", SUBCLASSES)
def test_layers_with_a_method_of_their_own_are_traced(overridden):
    torch.manual_seed(1)
    explained_as_it_runs(without(SUBCLASSES[overridden]()), check=False)


def test_a_functional_layer_has_the_map_of_its_module():
    """A BatchNorm that is a function call is folded too."""

    def function(self, x):
        x = functional.conv2d(x, self.a.weight, self.a.bias, 2, (1, 1), 1, 1)
        norm = self.norm
        x = functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        x = functional.conv_transpose2d(torch.relu(x), self.b.weight, None, stride=2, output_padding=1, groups=2)
        return functional.linear(torch.relu(x).flatten(1), self.c.weight)

    parts = {
        "a": nn.Conv2d(3, 4, 3, 2, 1), "norm": nn.BatchNorm2d(4, eps=0.1),
        "b": nn.ConvTranspose2d(4, 6, 3, 2, output_padding=1, groups=2, bias=False), "c": nn.Linear(6 * 100, 3, False),
    }  # fmt: skip
    parts["norm"].running_mean.normal_()
    parts["norm"].running_var.uniform_(0.5, 2)
    calls = Call(function, **parts).eval()
    layers = [parts["a"], parts["norm"], nn.ReLU(), parts["b"], nn.ReLU(), nn.Flatten(), parts["c"]]
    expected = Explainer(nn.Sequential(*layers).eval(), "epsilon-alpha2-beta1", device="cpu")(X)
    assert [layer.kind for layer in build_graph(calls).layers].count("affine") == 0
    found = Explainer(calls, "epsilon-alpha2-beta1", device="cpu")(X)
    assert torch.equal(found.relevance, expected.relevance)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda self, x: functional.batch_norm(x, None, None, training=True), "takes the statistics of the batch"),
        (lambda self, x: functional.linear(x.flatten(1), x.flatten(1)), "Its weight must be fixed"),
        (lambda self, x: functional.conv2d(x, weight=x), "Its weight must be fixed"),
    ],
)
def test_functional_layers_whose_numbers_depend_on_the_input_are_refused(function, reason):
    with pytest.raises(UnsupportedLayer, match=reason):
        build_graph(Call(function, unused=nn.Identity()))


def weight_norm(layer):
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(layer)


COMPUTED = {
    "weight_norm": weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "prune": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "two prunings": lambda layer: prune.random_unstructured(
        prune.random_unstructured(layer, "weight", 0.3), "bias", 0.5
    ),
    "parametrizations.weight_norm": parametrizations.weight_norm,
    "parametrizations.spectral_norm": parametrizations.spectral_norm,
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", COMPUTED)
def test_weights_are_those_of_the_next_forward_pass(kind, training):
    """Also where a checkpoint was loaded and no forward pass has computed them yet; the model stays as it is."""
    net = nn.Sequential(COMPUTED[kind](nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Flatten(), COMPUTED[kind](nn.Linear(144, 3)))
    net = net.eval()
    net.load_state_dict({name: torch.rand_like(value) + 0.5 for name, value in net.state_dict().items()})
    expected = copy.deepcopy(net.state_dict())
    net.train(training)
    explain = Explainer(net, "epsilon", device="cpu")
    found = explain(X)
    assert all(torch.equal(value, expected[name]) for name, value in net.state_dict().items())
    agree(found.logits, net.eval()(X).detach(), 1e-5)


def test_weights_computed_before_the_pass_are_not_written_into_the_model():
    net = nn.Sequential(prune.l1_unstructured(nn.Conv2d(3, 4, 3), "weight", 0.5), nn.Flatten())
    net[0].weight_orig.data *= 2
    stale = net[0].weight
    build_graph(net)
    assert net[0].weight is stale


def test_a_parametrization_of_ones_own_is_seen():
    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    net = plain()
    parametrize.register_parametrization(net[0], "weight", Doubled())
    explained_as_it_runs(net)


@pytest.mark.parametrize("layer", [nn.LazyLinear(3), nn.LazyConv2d(3, 3), nn.LazyBatchNorm2d()])
def test_lazy_layers_without_weights_are_refused(layer):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), layer)
    with pytest.raises(ModelError, match=f"Layer '1' of type {type(layer).__name__} is lazy .*Run one batch through"):
        Explainer(net, device="cpu")


def test_lazy_layers_that_have_been_run_are_explained():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3)).eval()
    net(X)
    explained_as_it_runs(net)


def test_weights_without_values_are_refused():
    with pytest.raises(ModelError, match="has weights without values: it is on the meta device"):
        Explainer(plain().to("meta"), device="cpu")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*quantiz")
def test_torchscript_and_quantised_parts_are_refused_by_name():
    for script in (torch.jit.script(plain()), torch.jit.trace(plain(), X)):
        with pytest.raises(ModelError, match="is TorchScript.* Pass the nn.Module it was made from"):
            Explainer(script, device="cpu")
    with pytest.raises(ModelError, match="Layer '0' of type RecursiveScriptModule is TorchScript"):
        Explainer(without(torch.jit.script(nn.Conv2d(3, 4, 3))), device="cpu")
    quantised = torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear})
    with pytest.raises(ModelError, match="Layer '4' of type Linear is quantised"):
        Explainer(quantised, device="cpu")


class Anything(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs, **keywords):
        return self.module(*inputs, **keywords)


WRAPPED = {
    "DataParallel": nn.DataParallel,
    "compile": torch.compile,
    "both": lambda net: torch.compile(nn.DataParallel(net)),
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "a part": lambda net: nn.Sequential(nn.DataParallel(net[0]), torch.compile(net[1]), *net[2:]).eval(),
    "in place": lambda net: net.compile() or net[0].compile() or net,
    "any arguments": Anything,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_are_looked_through(kind):
    expected = Explainer(plain(), "epsilon", device="cpu")(X).relevance
    wrapped = WRAPPED[kind](plain())
    assert torch.equal(Explainer(wrapped, "epsilon", device="cpu")(X).relevance, expected)


def test_a_compiled_function_is_traced_as_it_was_written():
    plain_one = lambda x: torch.relu(x) * 2  # noqa: E731
    found, expected = (
        Explainer(without(Call(function), 2), "epsilon", device="cpu")(X)
        for function in (torch.compile(plain_one), plain_one)
    )
    assert torch.equal(found.relevance, expected.relevance)


class Small(nn.Module):
    """Slices, sums, views and things in place, as torch.export writes them."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        y = functional.relu(self.norm(self.a(x)), inplace=True)
        y += self.b(y)
        y = functional.max_pool2d(torch.cat([y[:, :1], y.narrow(1, 1, 3)], 1), 3)
        return self.fc(functional.dropout(y.view(y.shape[0], -1), training=self.training)).softmax(1)


@pytest.mark.parametrize("build", [plain, Small])
def test_what_torch_export_gives_has_the_map_of_what_it_was_made_from(build):
    net = build().eval()
    program = torch.export.export(net, (X,))
    expected = Explainer(net, "epsilon-alpha2-beta1", device="cpu")(X).relevance
    for exported in (program, program.module()):
        assert torch.equal(Explainer(exported, "epsilon-alpha2-beta1", device="cpu")(X).relevance, expected)


def test_what_torch_export_gives_of_a_net_in_training_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(192, 3)).train()
    with pytest.raises(UnsupportedLayer, match="type dropout .* random also in eval mode"):
        Explainer(torch.export.export(net, (X,)).module(), device="cpu")


class Stubborn(nn.Dropout):
    """As Monte Carlo dropout is written."""

    def train(self, mode=True):
        return super().train(True)


class Normalised(nn.BatchNorm2d):
    def train(self, mode=True):
        return super().train(True)


RANDOM = {
    "functional": (lambda: Call(functional.dropout), "random also in eval mode; pass training=self.training"),
    "torch": (lambda: Call(lambda x: torch.dropout(x, 0.5, True)), "random also in eval mode"),
    "alpha": (lambda: Call(lambda x: functional.alpha_dropout(x, training=True)), "random also in eval mode"),
    "module": (Stubborn, "'2' of type Stubborn .* stays in training mode"),
    "batch norm": (lambda: Normalised(4), "'2' of type Normalised .* stays in training mode"),
    "constant": (lambda: Call(lambda x: x + torch.rand(1)), "The forward function of Sequential draws random numbers"),
    "like": (lambda: Call(lambda x: x + torch.rand_like(x)), "'rand_like' of type rand_like"),
}


@pytest.mark.parametrize("kind", RANDOM)
def test_random_nets_are_refused_by_name(kind):
    build, reason = RANDOM[kind]
    before = torch.get_rng_state()
    net = without(build(), 2)
    state = torch.get_rng_state()
    with pytest.raises(ModelError, match=reason):
        build_graph(net)
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(before)


def test_dropout_that_is_off_is_explained():
    explained_as_it_runs(without(Call(lambda x: functional.dropout(functional.dropout(x, 0.0), training=False)), 2))


def test_a_graph_that_was_not_recompiled_is_refused():
    module = fx.symbolic_trace(plain())
    for node in list(module.graph.nodes):
        if node.target == "2":
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    with pytest.raises(ModelError, match="was changed after its code was made.*recompile"):
        build_graph(module)
    module.recompile()
    explained_as_it_runs(module)


def test_a_synchronised_batch_norm_is_one():
    explained_as_it_runs(without(nn.SyncBatchNorm(4), 1))


def test_shared_weights_and_a_layer_used_twice_are_right():
    layer, tied = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
    tied.weight = layer.weight
    net = nn.Sequential(layer, nn.ReLU(), tied, nn.ReLU(), layer, nn.Flatten(), nn.Linear(192, 3))
    separate = copy.deepcopy(net)
    separate[2], separate[4] = copy.deepcopy(net[2]), copy.deepcopy(net[0])
    found = Explainer(net, "epsilon", device="cpu")(X).relevance
    assert torch.equal(found, Explainer(separate, "epsilon", device="cpu")(X).relevance)
