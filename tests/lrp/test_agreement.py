"""The engine answers for its trace: once, its logits are compared with those of the model itself."""

import copy
import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional

from lrpcli import Explainer
from lrpcli.errors import ModelError
from lrpcli.lrp import agreement
from tests.lrp.helpers import Call, agree, image

DIFFERS = "The trace of .* does not compute the logits of the model itself"


def plain():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()


def hidden(factor, net=None):
    """A net whose logits are multiplied, which its trace does not show: a Proxy is not a Tensor."""

    def function(self, x):
        logits = self.net(x)
        return logits * factor if isinstance(logits, torch.Tensor) else logits

    return Call(function, net=net or plain()).eval()


def counted(net):
    """The net, and a list that grows with each forward pass of its parts by the number of images."""
    calls = []
    inner = net.forward
    net.__class__ = type("Counted", (type(net),), {"forward": lambda self, x: calls.append(x) or inner(x)})
    return net, calls


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_difference_that_no_trace_shows_is_an_error(dtype):
    x = image(2, 3, 8, 8)
    for call in ("__call__", "predict"):
        explain = Explainer(hidden(1.001), "epsilon", dtype=dtype, device="cpu")
        for _ in range(2):  # it stays one
            with pytest.raises(ModelError, match=DIFFERS + ".*hooks, .*_conv_forward.*weight_norm.*check=False"):
                getattr(explain, call)(x)


@pytest.mark.parametrize(("dtype", "factor"), [(torch.float64, 1 + 1e-5), (torch.float32, 1 + 1e-4)])
def test_small_differences_are_found_in_a_deep_net_with_large_logits(dtype, factor):
    net = deep_net(100, 1e4)
    with pytest.raises(ModelError, match=DIFFERS):
        Explainer(hidden(factor, net), "epsilon", dtype=dtype, device="cpu").predict(image(1, 3, 8, 8))
    Explainer(hidden(1.0, net), "epsilon", dtype=dtype, device="cpu").predict(image(1, 3, 8, 8))


def deep_net(depth, scale):
    """Convolutions with BatchNorms, as many as `depth`, whose logits are of the size of `scale`."""
    torch.manual_seed(5)
    layers = [nn.Conv2d(3, 8, 3, padding=1)]
    for _ in range(depth):
        norm = nn.BatchNorm2d(8)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.05, 0.3)
        layers += [nn.Conv2d(8, 8, 3, padding=1), norm, nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    net = nn.Sequential(*layers).eval()
    net[-1].weight.data *= scale
    return net


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("depth", [1, 30, 100])
def test_rounding_is_no_difference(depth, dtype):
    Explainer(deep_net(depth, 1e3), "epsilon", dtype=dtype, device="cpu").predict(image(2, 3, 8, 8))


def cancelling():
    """A net whose logits are what is left of numbers a million times larger: float32 has no digit of them."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.BatchNorm1d(64), nn.Linear(64, 3)).eval()
    net[1].bias.data += 1e7
    net[2].running_mean += 1e7
    return net


def test_rounding_of_an_ill_conditioned_net_is_no_difference_and_a_real_one_is():
    """float32 cannot tell; float64 decides."""
    x, net = image(2, 3, 8, 8), cancelling()
    single, double = (copy.deepcopy(net).to(dtype)(x.to(dtype)).detach() for dtype in (torch.float32, torch.float64))
    assert float((single - double).abs().max() / double.abs().max()) > 0.01
    Explainer(net, "epsilon", device="cpu").predict(x)
    with pytest.raises(ModelError, match=DIFFERS):
        Explainer(hidden(1.001, net), "epsilon", device="cpu").predict(x)


def test_the_model_is_run_once_for_all_explainers_of_a_graph_and_for_one_image():
    net, calls = counted(plain())
    first = Explainer(net, "epsilon", device="cpu")
    second = first.with_config("composite")
    calls.clear()  # what was traced
    for explain in (second, first, second):
        explain(image(4, 3, 8, 8), "top2")
        explain.predict(image(4, 3, 8, 8))
    assert [tuple(x.shape) for x in calls] == [(1, 3, 8, 8)]


def test_the_module_is_let_go_of_once_it_was_compared():
    explain = Explainer(plain(), "epsilon", device="cpu")
    explain.predict(image(1, 3, 8, 8))
    assert not [value for value in vars(explain._agreement).values() if isinstance(value, nn.Module)]


def test_without_a_check_nothing_is_compared():
    net, calls = counted(hidden(2.0))
    explain = Explainer(net, "epsilon", device="cpu", check=False)
    calls.clear()
    explain(image(2, 3, 8, 8))
    explain.with_config("composite")(image(2, 3, 8, 8))
    assert calls == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_model_stays_as_it_is(dtype):
    """In training mode before and after, with the same tensors, also where they are of another type."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9), nn.Flatten(), nn.Linear(144, 3)).train()
    net[2].eval()
    before = {name: (value, value.clone()) for name, value in net.state_dict(keep_vars=True).items()}
    attributes = [sorted(vars(part)) for part in net.modules()]
    Explainer(net, "epsilon", dtype=dtype, device="cpu")(image(2, 3, 8, 8))
    for name, value in net.state_dict(keep_vars=True).items():
        assert value is before[name][0]
        assert torch.equal(value, before[name][1])
    assert [part.training for part in net.modules()] == [True, True, True, False, True, True]
    assert [sorted(vars(part)) for part in net.modules()] == attributes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_another_type_is_compared_in_that_of_the_engine(dtype):
    net = plain().to(dtype)
    expected = copy.deepcopy(net).float()(image(2, 3, 8, 8).float())
    agree(Explainer(net, "epsilon", device="cpu").predict(image(2, 3, 8, 8)), expected.detach(), 1e-5)
    with pytest.raises(ModelError, match=DIFFERS):
        Explainer(hidden(1.01, net), "epsilon", device="cpu").predict(image(2, 3, 8, 8))


def test_tensors_of_inference_mode_can_be_explained():
    with torch.inference_mode():
        net = plain()
    Explainer(net, "epsilon", device="cpu")(image(2, 3, 8, 8))


ENDS = {
    "Softmax": nn.Softmax(1), "LogSoftmax": nn.LogSoftmax(1), "softmax": lambda x: functional.softmax(x, 1),
    "part": lambda x: torch.softmax(x, 1)[:, 1:], "flat": nn.Sequential(nn.Softmax(1), nn.Flatten()),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
def test_probabilities_are_compared_with_what_the_logits_make(end, scale):
    """Also where float32 holds no more than zeros and ones of them."""
    net = plain()
    net[3].weight.data *= scale

    def ended(factor):
        last = ENDS[end] if isinstance(ENDS[end], nn.Module) else Call(ENDS[end])
        return nn.Sequential(hidden(factor, net), last)

    Explainer(ended(1.0), "epsilon", device="cpu")(image(2, 3, 8, 8))
    with pytest.raises(ModelError, match=DIFFERS):
        Explainer(ended(1.5), "epsilon", device="cpu")(image(2, 3, 8, 8))


def test_images_that_depend_on_each_other_are_an_error():
    net = Call(lambda self, x: self.net(x - x.flip(0) / 2), net=plain())
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(ModelError, match=DIFFERS + ".*depend on each other"):
            Explainer(net, "epsilon", dtype=dtype, device="cpu")(image(3, 3, 8, 8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("mix", [
    lambda x: x - x.flip(0) / 2,
    lambda x: x[:1].expand_as(x),
    lambda x: x / x.size(0),
    lambda x: x.transpose(0, 1).reshape(x.shape),
], ids=["flip", "first", "count", "wrong view"])  # fmt: skip
def test_images_that_depend_on_each_other_are_an_error_behind_a_single_one_too(mix, dtype):
    x = image(3, 3, 8, 8)
    explain = Explainer(Call(lambda self, x: self.net(mix(x)), net=plain()), "epsilon", dtype=dtype, device="cpu")
    explain(x[2:])
    for call in (explain, explain.predict, explain):  # it stays one
        with pytest.raises(ModelError, match="the images of a batch depend on each other"):
            call(x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("place", [0, 1, -1])
@pytest.mark.parametrize("alone", [False, True])
def test_what_reads_one_image_for_all_is_an_error(place, number, dtype, alone):
    net = Call(lambda self, x: self.net(x + x[place][None] if place != 1 else x + x[-2:-1]), net=plain())
    explain = Explainer(net, "epsilon", dtype=dtype, device="cpu")
    if alone and place != 1:
        explain(image(1, 3, 8, 8))
    for call in (explain, explain.predict):
        with pytest.raises(ModelError, match=f"{DIFFERS}|depend on each other"):
            call(image(number, 3, 8, 8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_batch_behind_a_single_image_is_compared_once(dtype, monkeypatch):
    explain, x = Explainer(deep_net(50, 1e4), "epsilon", dtype=dtype, device="cpu"), image(3, 3, 8, 8)
    for batch in (x[:1], x, x[:1], x):
        explain.predict(batch)
    monkeypatch.setattr(agreement, "forward", None)
    explain.predict(x)


def test_a_model_for_one_batch_size_is_compared_on_the_whole_batch():
    net = Call(lambda self, x: self.fc(x.view(2, 192)), fc=nn.Linear(192, 3))
    Explainer(net, "epsilon", device="cpu")(image(2, 3, 8, 8))
    mixing = Call(lambda self, x: self.fc(x.view(2, 192) + x.flip(0).flatten(1)), fc=nn.Linear(192, 3))
    with pytest.raises(ModelError, match="depend on each other"):
        Explainer(mixing, "epsilon", device="cpu")(image(2, 3, 8, 8))


def test_what_the_model_itself_refuses_is_an_error():
    """A view of a transposed tensor is wrong in torch; so is a check that fails."""
    view = Call(lambda self, x: self.fc(x.transpose(1, 2).view(-1, 192)), fc=nn.Linear(192, 3))
    with pytest.raises(ModelError, match=r"itself cannot take an input of shape \(2, 3, 8, 8\): RuntimeError: view"):
        Explainer(view, "epsilon", device="cpu")(image(2, 3, 8, 8))

    def checked(self, x):
        assert x.shape[1] == 4, "four channels"
        return self.fc(x.flatten(1))

    with pytest.raises(ModelError, match="itself cannot take .* AssertionError: four channels"):
        Explainer(Call(checked, fc=nn.Linear(192, 3)), "epsilon", device="cpu")(image(2, 3, 8, 8))


def test_the_first_image_with_finite_logits_is_compared():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False), nn.ReLU()).eval()
    net[1].weight.data.fill_(1e38)
    x = torch.tensor([[100.0, 1.0, 1.0], [0.1, 0.1, 0.1]])
    explain = Explainer(net, "epsilon", device="cpu")
    explain(x[:1], strict=False)
    assert explain._agreement._module is net  # nothing was compared yet
    explain(x, strict=False)
    assert explain._agreement._module is None


def test_a_model_that_has_changed_in_between_is_said():
    net, x = plain(), image(2, 3, 8, 8).float()
    before = net(x).detach()
    explain = Explainer(net, "epsilon", device="cpu")
    net[0].weight = nn.Parameter(torch.randn(4, 3, 3, 3))
    with pytest.warns(
        UserWarning, match="The weights of Sequential have changed since this Explainer was made"
    ) as told:
        found = explain.predict(x)
    assert told[0].filename == __file__
    agree(found, before, 1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once
        explain.predict(x)


def test_a_module_that_cannot_be_copied_is_compared_in_its_own_type():
    net = plain()
    net.lock = (value for value in ())
    other = hidden(1.001)
    other.lock = net.lock
    for dtype in (torch.float32, torch.float64):
        Explainer(net, "epsilon", dtype=dtype, device="cpu").predict(image(1, 3, 8, 8))
        with pytest.raises(ModelError, match=f"{DIFFERS}|cannot be compared with those of its trace"):
            Explainer(other, "epsilon", dtype=dtype, device="cpu").predict(image(1, 3, 8, 8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_module_that_names_its_number_type_is_compared_in_that(dtype):
    for factor in (1, 1.001):
        net = nn.Sequential(Call(lambda x: x.float()), hidden(factor))
        explain = Explainer(net, "epsilon", dtype=dtype, device="cpu")
        with nullcontext() if factor == 1 else pytest.raises(ModelError, match=DIFFERS):
            explain.predict(image(1, 3, 8, 8))


def test_full_memory_is_the_memory_and_no_difference(monkeypatch):
    """The batch is then taken in parts, as after any other layer that finds no room."""
    explain = Explainer(plain(), "epsilon", device="cpu")
    monkeypatch.setattr(agreement, "_logits", lambda output: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    with pytest.raises(torch.OutOfMemoryError):
        explain.predict(image(2, 3, 8, 8))
