"""LRN in the spellings that nets have: recognised as the layer it is, or refused with a sentence that says LRN."""

import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from lrpcli import Explainer, LocalResponseNorm
from lrpcli.errors import ModelError, UnsupportedLayer
from lrpcli.lrp.rules import RULES
from lrpcli.lrp.tracing.translate import build_graph
from tests.lrp.helpers import Call, agree
from tests.lrp.plain_operations import OLD

X = 50 * torch.randn(2, 3, 11, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CHANNELS = 9
PLANE = "within-channel"


class Averaged(nn.Module):
    """The class that AlexNets for torch carried before torch had a layer, and that converters still write."""

    def __init__(self, size, alpha, beta, k=1.0, across=True):
        super().__init__()
        self.across, self.alpha, self.beta, self.k = across, alpha, beta, k
        reach = (size - 1) // 2
        if across:
            self.average = nn.AvgPool3d((size, 1, 1), stride=1, padding=(reach, 0, 0))
        else:
            self.average = nn.AvgPool2d(size, stride=1, padding=reach)

    def forward(self, x):
        square = x.pow(2)
        divisor = self.average(square.unsqueeze(1)).squeeze(1) if self.across else self.average(square)
        return x.div(divisor.mul(self.alpha).add(self.k).pow(self.beta))


class Functional(nn.LocalResponseNorm):
    """What functional.local_response_norm does, call by call."""

    def forward(self, x):
        sizes = x.size()
        square = x.mul(x).view(sizes[0], 1, sizes[1], sizes[2], -1)
        square = functional.pad(square, (0, 0, 0, 0, self.size // 2, (self.size - 1) // 2))
        divisor = functional.avg_pool3d(square, (self.size, 1, 1), stride=1).squeeze(1).view(sizes)
        return x / divisor.mul(self.alpha).add(self.k).pow(self.beta)


class Exported(Functional):
    """The same with the batch size read off an earlier tensor, as torch.export writes it."""

    def forward(self, x):
        earlier = x * 1.0
        square = x.mul(x).view(earlier.size(0), 1, CHANNELS, earlier.shape[2], -1)
        square = functional.pad(square, (0, 0, 0, 0, self.size // 2, (self.size - 1) // 2))
        divisor = functional.avg_pool3d(square, (self.size, 1, 1), stride=1).squeeze(1).view(x.shape)
        return x / divisor.mul(self.alpha).add(self.k).pow(self.beta)


class Loop(nn.Module):
    """Channel by channel, as ports of TensorFlow do it."""

    def forward(self, x):
        square = x * x
        sums = [square[:, max(0, c - 2) : c + 3].sum(1, keepdim=True) for c in range(CHANNELS)]
        return x * (2.0 + 1e-4 * torch.cat(sums, 1)) ** -0.75


class Shifted(nn.Module):
    def forward(self, x):
        square = functional.pad(x**2, (0, 0, 0, 0, 2, 2))
        count = x.shape[1]
        total = square[:, 0:count]
        for shift in range(1, 5):
            total = total + square[:, shift : shift + count]
        return x * torch.rsqrt(1.0 + 2e-4 * total)


class Convolved(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("ones", torch.ones(1, 1, 5, 1, 1))

    def forward(self, x):
        total = functional.conv3d(x.square().unsqueeze(1), self.ones, padding=(2, 0, 0))[:, 0]
        return torch.div(x, torch.sqrt(1.5 + total * 1e-4))


def plane(x, size=3):
    return functional.avg_pool2d(x * x, size, 1, size // 2)


SPELLINGS = {
    "averaged": (Averaged(5, 1e-3, 0.75), LocalResponseNorm(5, 1e-3, 0.75)),
    "averaged, k 2": (Averaged(3, 1e-3, 0.5, 2.0), LocalResponseNorm(3, 1e-3, 0.5, 2.0)),
    "averaged in the plane": (Averaged(3, 1e-2, 0.75, across=False), LocalResponseNorm(3, 1e-2, 0.75, region=PLANE)),
    "the functional by hand": (Functional(5, 1e-2, 0.75, 2.0), LocalResponseNorm(5, 1e-2, 0.75, 2.0)),
    "sizes of others": (Exported(5, 1e-2, 0.75, 2.0), LocalResponseNorm(5, 1e-2, 0.75, 2.0)),
    "even": (Functional(4, 1e-2, 0.75, 1.0), LocalResponseNorm(4, 1e-2, 0.75)),
    "k 0": (Functional(4, 1e-2, 0.75, 0.0), LocalResponseNorm(4, 1e-2, 0.75, 0.0)),
    "the functional": (Call(lambda x: functional.local_response_norm(x, 4, 1e-3, 0.75, 2.0)),
                       LocalResponseNorm(4, 1e-3, 0.75, 2.0)),
    "loop": (Loop(), LocalResponseNorm(5, 5e-4, 0.75, 2.0)),
    "shifted": (Shifted(), LocalResponseNorm(5, 1e-3, 0.5)),
    "convolved": (Convolved(), LocalResponseNorm(5, 5e-4, 0.5, 1.5)),
    "ones made in forward": (Call(lambda x: x / (2 + 1e-3 * functional.conv3d(
        x.square()[:, None], torch.ones(1, 1, 5, 1, 1, dtype=x.dtype), padding=(2, 0, 0))[:, 0]) ** 0.75),
        LocalResponseNorm(5, 5e-3, 0.75, 2.0)),
    "band made in forward": (Call(lambda x: x / (2 + 1e-3 * functional.conv2d(x.square(), torch.ones(
        CHANNELS, CHANNELS, dtype=x.dtype, device=x.device).tril(2).triu(-2)[:, :, None, None])) ** 0.75),
        LocalResponseNorm(5, 5e-3, 0.75, 2.0)),
    "in place": (Call(lambda x: plane(x).mul_(1e-3).add_(1.0).pow_(-0.75).mul_(x)),
                 LocalResponseNorm(3, 1e-3, 0.75, region=PLANE)),
    "power 1": (Call(lambda x: x / (1 + 1e-3 * plane(x))), LocalResponseNorm(3, 1e-3, 1.0, region=PLANE)),
    "factor first": (Call(lambda x: torch.pow(plane(x) * 1e-3 + 1, -0.75) * x),
                     LocalResponseNorm(3, 1e-3, 0.75, region=PLANE)),
    "one over": (Call(lambda x: x * (1 / (plane(x) * 1e-3 + 1) ** 0.75)),
                 LocalResponseNorm(3, 1e-3, 0.75, region=PLANE)),
    "reciprocal": (Call(lambda x: x * (plane(x) * 1e-3 + 1).sqrt().reciprocal()),
                   LocalResponseNorm(3, 1e-3, 0.5, region=PLANE)),
    "a window as wide as the channels": (nn.CrossMapLRN2d(19, 1e-3, 0.75, 1.0), LocalResponseNorm(19, 1e-3, 0.75)),
}  # fmt: skip
if OLD:
    for made in ("ones made in forward", "band made in forward"):
        del SPELLINGS[made]


def net(norm):
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, CHANNELS, 3), nn.Tanh(), Call(lambda x: x * 50), norm, nn.AdaptiveAvgPool2d(3), nn.Flatten(),
              nn.Linear(81, 3))  # fmt: skip
    return nn.Sequential(*layers).double().eval()


def explained(norm, rule="taylor"):
    config = {"kind": {"linear": "epsilon", "lrn": rule}}
    return Explainer(net(norm), config, dtype=torch.float64, device="cpu")(X, target=0)


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_is_the_layer_that_it_computes(name):
    written, layer = SPELLINGS[name]
    with torch.no_grad():
        torch.testing.assert_close(net(written)(X), net(layer)(X), rtol=1e-9, atol=1e-9)  # or the test is wrong
    graph = build_graph(net(written))
    (found,) = [item.operation for item in graph.layers if item.kind == "lrn"]
    assert (found.layer.size, found.layer.region, found.layer.reach) == (layer.size, layer.region, layer.reach)
    for number in ("alpha", "beta", "offset"):
        assert getattr(found.layer, number) == pytest.approx(getattr(layer, number), rel=1e-10, abs=1e-15)
    assert not {"pow", "sqrt", "AvgPool3d"} & {item.type for item in graph.layers}
    for rule in RULES["lrn"]:
        agree(explained(written, rule).relevance, explained(layer, rule).relevance, 1e-8)


def test_a_plane_has_the_k_that_is_written():
    """Caffe's is 1; the rule must use what the forward pass uses."""
    x = X[:, :, :4, :4] + 100
    written = Averaged(3, 1e-2, 0.75, 7.0, across=False)
    config = {"kind": {"lrn": "taylor-unnormalized"}}
    explainer = Explainer(nn.Sequential(written, nn.Flatten()), config, dtype=torch.float64, device="cpu")
    found = next(item.operation.layer for item in explainer.graph.layers if item.kind == "lrn")
    assert found.offset == pytest.approx(7.0)
    agree(explainer.predict(x), written(x).flatten(1), 1e-12)


def test_the_numbers_of_an_onnx_graph_are_tensors():
    """Pow, Mul and Add of an ONNX file have their constants as tensors; Pad and AveragePool come as functions."""
    holder = nn.Module()
    for name, value in {"two": 2.0, "alpha": 1e-2, "k": 1.0, "beta": 0.75}.items():
        holder.register_buffer(name, torch.tensor(value))
    holder.fc = nn.Linear(6 * 16, 2)
    graph = fx.Graph()
    x = graph.placeholder("x")
    two, alpha, k, beta = (graph.get_attr(name) for name in ("two", "alpha", "k", "beta"))
    square = graph.call_function(torch.reshape, (graph.call_function(torch.pow, (x, two)), (1, 1, 6, 4, 4)))
    padded = graph.call_function(functional.pad, (square, [0, 0, 0, 0, 2, 1]))
    mean = graph.call_function(functional.avg_pool3d, (padded, [4, 1, 1], [1, 1, 1]))
    sums = graph.call_function(torch.reshape, (mean, (1, 6, 4, 4)))
    scale = graph.call_function(torch.add, (graph.call_function(torch.mul, (sums, alpha)), k))
    normal = graph.call_function(torch.div, (x, graph.call_function(torch.pow, (scale, beta))))
    graph.output(graph.call_module("fc", (graph.call_function(torch.flatten, (normal, 1)),)))
    module = fx.GraphModule(holder, graph).double()
    x = 50 * torch.randn(1, 6, 4, 4, dtype=torch.float64)
    same = nn.Sequential(nn.LocalResponseNorm(4, 1e-2, 0.75, 1.0), nn.Flatten(), holder.fc).double()
    got, expected = (Explainer(item, dtype=torch.float64, device="cpu")(x, target=0) for item in (module, same))
    agree(got.relevance, expected.relevance, 1e-7)


REFUSED = {
    "border averages": (lambda x: x / (1 + 1e-3 * functional.avg_pool2d(x * x, 3, 1, 1, False, False)) ** 0.75,
                        "no LRN layer gives the same output"),
    "weighted": (lambda x: x / (1 + 1e-3 * functional.conv2d(x * x, torch.ones(9, 1, 3, 3).double().tril(), None, 1, 1,
                                                            groups=9)) ** 0.75, "no LRN layer gives the same output"),
    "exponential": (lambda x: x * torch.exp(-0.75 * torch.log(1 + plane(x))), "no LRN layer gives the same output"),
    "clamped": (lambda x: x / plane(x).clamp(min=1e-3).sqrt(), "no LRN layer gives the same output"),
    "another tensor": (lambda x: torch.relu(x) / (1 + plane(torch.relu(x))).sqrt(), "what it squares is not what it"),
    "channels last": (lambda x: (y := x.permute(0, 2, 3, 1)) / (1 + functional.avg_pool2d(y * y, (1, 5), 1, (0, 2))),
                      "no LRN layer gives the same output"),
    "CrossMapLRN2d": (nn.CrossMapLRN2d(5, 1e-3, 0.75, 1.0), "keeps the first channel in the windows"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_looks_like_it_is_refused_by_name(name):
    function, why = REFUSED[name]
    module = function if isinstance(function, nn.Module) else Call(function)
    with pytest.raises(UnsupportedLayer, match=rf"\(LRN\).*{why}.*torch.nn.LocalResponseNorm\(size, alpha, beta, k\)"):
        build_graph(net(module))


def test_a_class_that_cannot_be_traced_is_named():
    """Lua torch's layer, as nets converted from it carry it."""

    class SpatialCrossMapLRN(nn.Module):
        def forward(self, x):
            return x if x.size(1) > 3 else x * 2

    with pytest.raises(ModelError, match=r"'3' \(SpatialCrossMapLRN\) may be .* \(LRN\). Write it as torch.nn.Local"):
        build_graph(net(SpatialCrossMapLRN()))


@pytest.mark.parametrize("function", [
    lambda x: x * torch.sigmoid(functional.avg_pool2d(x * 2, 3, 1, 1)),
    lambda x: x * functional.adaptive_avg_pool2d(torch.sigmoid(x), 1),
    lambda x: (x + functional.avg_pool2d(x, 3, 1, 1)) / 2,
    lambda x: x / x.pow(2).sum(1)[:, None].add(1e-6).sqrt(),  # all channels: no window
    lambda x: (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True) + 1e-5).sqrt(),
])  # fmt: skip
def test_gates_and_averages_are_left_alone(function):
    graph = None
    try:
        graph = build_graph(net(Call(function)))
    except UnsupportedLayer as error:
        assert "LRN" not in str(error)
    assert graph is None or "lrn" not in {layer.kind for layer in graph.layers}


def test_a_sum_that_is_written_over_and_read_later_is_not_forgotten():
    """Nothing may be left out then: the later reader sees what was written."""

    def function(x):
        sums = torch.nn.functional.avg_pool2d(x * x, 3, 1, 1)
        y = x / sums.mul_(1e-3).add_(1.0).sqrt()
        return torch.cat([y, sums], 1)

    module = nn.Sequential(Call(function), nn.Flatten(), nn.Linear(6 * 16, 2)).double()
    x = X[:, :, :4, :4]
    try:
        found = Explainer(module, dtype=torch.float64, device="cpu").predict(x)
    except UnsupportedLayer as error:
        assert "LRN" not in str(error)
    else:
        agree(found, module(x).detach(), 1e-12)


def test_the_model_is_not_changed():
    module = net(Averaged(5, 1e-3, 0.75))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    traced = fx.symbolic_trace(module)
    nodes = [(node.op, node.target) for node in traced.graph.nodes]
    build_graph(module)
    build_graph(traced)
    assert [(node.op, node.target) for node in traced.graph.nodes] == nodes
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
