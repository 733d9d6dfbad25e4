"""Models that end in probabilities: the map starts at the logits, and the score is the model's own probability."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lrpcli import Explainer
from lrpcli.errors import UnsupportedLayer
from lrpcli.lrp.targets import probabilities, start_relevance
from lrpcli.lrp.tracing.translate import build_graph
from tests.lrp.helpers import Call, agree, image

X = image(4, 3, 5, 5)
LRP0 = {"kind": {"linear": {"rule": "epsilon", "epsilon": 0.0}}}
HEADS = {
    "nn.Sigmoid": (nn.Sigmoid(), "sigmoid"),
    "torch.sigmoid": (torch.sigmoid, "sigmoid"),
    "x.sigmoid()": (lambda x: x.sigmoid(), "sigmoid"),
    "x.sigmoid_()": (lambda x: x.sigmoid_(), "sigmoid"),
    "functional.sigmoid": (functional.sigmoid, "sigmoid"),
    "nn.LogSigmoid": (nn.LogSigmoid(), "sigmoid"),
    "functional.logsigmoid": (functional.logsigmoid, "sigmoid"),
    "nn.Hardsigmoid": (nn.Hardsigmoid(), "hardsigmoid"),
    "functional.hardsigmoid": (functional.hardsigmoid, "hardsigmoid"),
    "nn.Softmax": (nn.Softmax(1), "softmax"),
    "log_softmax": (lambda x: functional.log_softmax(x, dim=1), "softmax"),
    "then flatten": (nn.Sequential(nn.Sigmoid(), nn.Flatten()), "sigmoid"),
    "then reshape": (lambda x: torch.sigmoid(x).reshape(x.shape[0], -1), "sigmoid"),
    "then squeeze": (lambda x: x[:, :, None].sigmoid().squeeze(2), "sigmoid"),
    "then dropout": (nn.Sequential(nn.Sigmoid(), nn.Dropout(), nn.Identity()), "sigmoid"),
    "softmax, then dropout": (nn.Sequential(nn.Softmax(1), nn.Dropout(), nn.Flatten()), "softmax"),
    "then its own size": (lambda x: (p := torch.sigmoid(x)).view(p.size(0), p.size(1)), "sigmoid"),
    "none": (nn.Identity(), "softmax"),
}


def body(outputs=3):
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, outputs))
    return nn.Sequential(*layers).double().eval()


def ended(head, outputs=3):
    return nn.Sequential(body(outputs), head if isinstance(head, nn.Module) else Call(head)).eval()


def explain(net, target=None, **settings):
    return Explainer(net, LRP0, dtype=torch.float64, device="cpu", **settings)(X, target)


@pytest.mark.parametrize("name", HEADS)
def test_the_map_is_that_of_the_logits(name):
    head, kind = HEADS[name]
    plain, found = explain(body(), 0), explain(ended(head), 0)
    assert bool((plain.start < 0).any())  # where a sigmoid that is kept turns the sign of the map
    agree(found.relevance, plain.relevance, 1e-12)
    agree(found.logits, plain.logits, 1e-12)
    assert build_graph(ended(head)).head == kind


@pytest.mark.parametrize("name", HEADS)
def test_a_single_output_is_explained_and_scored_as_a_sigmoid(name):
    head, kind = HEADS[name]
    plain, found = explain(body(1)), explain(ended(head, 1))
    assert found.target.tolist() == [0] * 4
    agree(found.relevance, plain.relevance, 1e-12)
    expected = functional.hardsigmoid(plain.logits) if kind == "hardsigmoid" else torch.sigmoid(plain.logits)
    agree(probabilities(found.logits, kind), expected, 1e-12)


@pytest.mark.parametrize("name", ["nn.Sigmoid", "nn.Hardsigmoid", "nn.Softmax", "then flatten"])
def test_the_probability_is_what_the_model_puts_out(name):
    head, kind = HEADS[name]
    net = ended(head)
    result = explain(net, 1, start="probability")
    with torch.no_grad():
        expected = net(X)
    agree(result.start, expected[:, 1], 1e-12)
    agree(probabilities(result.logits, kind), expected, 1e-12)


def test_the_softmax_gradient_of_a_sigmoid_is_its_own():
    """dp_t/dz_n is 0 for the other classes n of a sigmoid; by autograd."""
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    classes = torch.tensor([0, 1, 2, 1])
    for head, function in (("sigmoid", torch.sigmoid), ("softmax", lambda z: z.softmax(1))):
        chosen = function(logits).gather(1, classes[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, logits)
        agree(start_relevance(logits.detach(), classes, "softmax-gradient", head), gradient, 1e-12)


REFUSED = {
    "two classes of one": lambda x: torch.cat([1 - torch.sigmoid(x), torch.sigmoid(x)], 1),
    "the other class": lambda x: 1 - torch.sigmoid(x),
    "clamped": lambda x: torch.sigmoid(x).clamp(1e-6, 1 - 1e-6),
    "scaled": lambda x: torch.sigmoid(x) * 100,
    "twice": lambda x: torch.sigmoid(torch.sigmoid(x)),
    "a softmax of it": lambda x: torch.softmax(torch.sigmoid(x), 1),
    "mean of heads": lambda x: (torch.sigmoid(x) + torch.sigmoid(2 * x)) / 2,
}


@pytest.mark.parametrize("name", REFUSED)
def test_probabilities_that_the_model_goes_on_with_are_refused(name):
    with pytest.raises(UnsupportedLayer, match="makes probabilities, and the model goes on .* return what 'sigmoid"):
        build_graph(ended(REFUSED[name]))


@pytest.mark.parametrize("head", [
    lambda z: 1 / (1 + torch.exp(-z)), lambda z: (torch.tanh(z) + 1) / 2, lambda z: functional.relu6(z + 3) / 6,
    lambda z: torch.clamp(0.2 * z + 0.5, 0, 1).flatten(1), lambda z: torch.exp(z) / (1 + torch.exp(z)),
])  # fmt: skip
def test_a_sigmoid_by_hand_at_the_end_is_refused(head):
    with pytest.raises(UnsupportedLayer, match="probability that is written by hand|divides by a signal|wrong sign"):
        build_graph(ended(head))


@pytest.mark.parametrize("head", [lambda z: (torch.tanh(z) + 1) / 2, lambda z: functional.relu6(z + 3) / 6])
def test_a_sigmoid_by_hand_may_stand_before_a_linear_layer(head):
    build_graph(nn.Sequential(body(3), Call(head), nn.Linear(3, 2).double()).eval())


def test_a_sigmoid_elsewhere_stays():
    """As the activation of a hidden layer, and as a gate of what is returned."""
    hidden = nn.Sequential(body(4), nn.Sigmoid(), nn.Linear(4, 2).double())
    gated = Call(lambda self, x: self.a(x) * torch.sigmoid(self.b(x)), a=body(), b=body())
    for net in (hidden, gated):
        graph = build_graph(net)
        assert graph.head == "softmax"
        assert {"sigmoid", "Sigmoid"} & {layer.type for layer in graph.layers}
        with torch.no_grad():
            agree(explain(net).logits, net(X), 1e-12)


@pytest.mark.parametrize("head", [
    nn.Softplus(), functional.softplus, torch.exp, lambda x: x.exp(), lambda x: functional.softplus(x) + 1,
    lambda x: torch.exp(x).clamp(max=10), lambda x: functional.softplus(x).flatten(1),
])  # fmt: skip
def test_what_is_positive_for_negative_logits_is_refused(head):
    """As with a sigmoid that is kept, R > 0 would be divided by z < 0."""
    with pytest.raises(UnsupportedLayer, match="of type (Softplus|softplus|exp) .* wrong sign. Let the model return"):
        build_graph(ended(head))


def test_what_is_positive_may_stand_before_a_linear_layer():
    build_graph(nn.Sequential(body(3), nn.Softplus(), nn.Linear(3, 2).double()).eval())
