"""Nets of torchvision and timm: their logits, their gradient, the relevance of the linearised net, and its total."""

import pytest
import torch
from torchvision import models

from lrpcli import Explainer
from lrpcli.errors import UnsupportedLayer
from lrpcli.lrp.tracing.translate import build_graph
from tests.lrp.helpers import agree
from tests.lrp.linearised import gradient, linearised_gradient
from tests.lrp.zoo_nets import ATTENTION, EXPORTED, QUICK, SIDES, SLOW, TIMM, TORCHVISION, make, without_biases

LRP_0 = {"kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}
NAMES = [f"timm:{name}" for name in TIMM] + [f"torchvision:{name}" for name in TORCHVISION]
OLD_TIMM = "the nets are those of timm 1.0.31, and an older one has fewer or other ones"


def old_timm():
    timm = pytest.importorskip("timm", reason="timm is an extra")
    return tuple(map(int, timm.__version__.split(".")[:3])) < (1, 0, 31)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_a_net_of_a_zoo(name):
    if name.startswith("timm:") and old_timm():
        pytest.skip(OLD_TIMM)
    side = SIDES.get(name, 64)
    net = make(name, side)
    x = torch.randn(1, 3, side, side, dtype=torch.float64)
    explainer = Explainer(net, LRP_0, dtype=x.dtype, device="cpu", input_shape=x.shape[1:])
    result = explainer(x, strict=False)  # gradients and relevances of random nets may be large
    assert float(result.start.abs()) > 0
    with torch.no_grad():
        agree(result.logits, net(x), 1e-10)
    plain = explainer.with_config({"kind": {"any": "gradient"}}, start="one")(x, target=result.target, strict=False)
    agree(plain.relevance, gradient(net, x, result.target), 1e-8)
    agree(result.relevance, x * linearised_gradient(net, x, result.target), 1e-8)
    assert bool(explainer.graph.shape) == (name in EXPORTED)
    if name in SLOW:
        return
    again = Explainer(
        without_biases(net), LRP_0 | {"bias": "ignore"}, dtype=x.dtype, device="cpu", input_shape=x.shape[1:]
    )(x, strict=False)
    lost = again.relevance.sum() - again.start.sum()
    assert float(lost.abs() / again.relevance.abs().sum()) < 1e-9


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_is_refused_by_name(name):
    with torch.device("meta"):
        net = models.get_model(name, weights=None)
    with pytest.raises(UnsupportedLayer, match=r"^Layer '.*(att(entio)?n|einsum)"):
        build_graph(net, (3, 224, 224))


def test_every_net_of_torchvision_for_classification_is_listed():
    found = models.list_models(module=models)
    assert set(TORCHVISION + ATTENTION) == set(found)
    assert (len(TIMM), len(TORCHVISION), len(found)) == (104, 68, 80)
