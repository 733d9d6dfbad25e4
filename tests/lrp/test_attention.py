"""Attention is refused by name, however it is written, and the sentence says what to use in its place."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lrpcli.errors import UnsupportedLayer
from lrpcli.lrp.tracing.translate import build_graph
from tests.lrp.helpers import Call, image

ADVICE = "Attention has no rule here, .* such as the package lxt"


def tokens(x):
    return x.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention over the places of an image, by hand."""

    def __init__(self, mix):
        super().__init__()
        self.qkv, self.mix = nn.Linear(4, 12), mix

    def forward(self, x):
        q, k, v = self.qkv(tokens(x)).chunk(3, -1)
        return self.mix(q, k, v)


class Mixer(Attention):
    """The same by a name that does not say so."""


HANDS = {
    "matmul": lambda q, k, v: ((q @ k.transpose(1, 2)) / 2).softmax(-1) @ v,
    "bmm": lambda q, k, v: torch.bmm(F.softmax(torch.bmm(q, k.transpose(1, 2)), dim=-1), v),
    "einsum": lambda q, k, v: torch.einsum("nij,njc->nic", torch.einsum("nic,njc->nij", q, k).softmax(-1), v),
    "dropout": lambda q, k, v: F.dropout(torch.softmax(q @ k.mT, -1), 0.1, training=False) @ v,
    "of channels": lambda q, k, v: v @ (q.mT @ k).softmax(-1),
    "scaled_dot_product_attention": F.scaled_dot_product_attention,
}


@pytest.mark.parametrize("kind", [Attention, Mixer])
@pytest.mark.parametrize("name", HANDS)
def test_attention_by_hand_is_refused(name, kind):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), kind(HANDS[name]))
    with pytest.raises(UnsupportedLayer, match=ADVICE) as caught:
        build_graph(net)
    assert re.match(r"Layer '\w+' of type \w+ has no relevance rule\.", str(caught.value))
    assert ("It is part of '1' (Attention)." in str(caught.value)) == (kind is Attention)


MODULES = {
    "MultiheadAttention": lambda self, x: self.layer(tokens(x), tokens(x), tokens(x))[0],
    "TransformerEncoderLayer": lambda self, x: self.layer(tokens(x)),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_of_torch_are_refused(name):
    layer = nn.MultiheadAttention(4, 2) if name == "MultiheadAttention" else nn.TransformerEncoderLayer(4, 2, 8)
    with pytest.raises(UnsupportedLayer, match=rf"Layer 'layer' of type {name} has no relevance rule\. {ADVICE}"):
        build_graph(Call(MODULES[name], layer=layer))


def test_a_softmax_that_is_a_module_counts():
    function = Call(lambda self, x: self.soft(tokens(x) @ x.flatten(2)) @ tokens(x), soft=nn.Softmax(-1))
    with pytest.raises(UnsupportedLayer, match=ADVICE):
        build_graph(function)


def test_what_torch_export_writes_is_refused():
    for mix in (HANDS["matmul"], F.scaled_dot_product_attention):
        program = torch.export.export(nn.Sequential(Mixer(mix)), (image(1, 4, 3, 3).float(),))
        with pytest.raises(UnsupportedLayer, match=ADVICE):
            build_graph(program.module())


def test_a_refusal_inside_of_what_is_called_attention_says_so():
    class WindowAttention(nn.Module):
        def forward(self, x):
            return torch.sort(x, 1)[0]

    with pytest.raises(UnsupportedLayer, match=r"It is part of '0' \(WindowAttention\), which by its name is attenti"):
        build_graph(nn.Sequential(WindowAttention()))


def test_a_product_of_two_signals_without_a_softmax_is_no_attention():
    with pytest.raises(UnsupportedLayer, match="has no relevance rule. Its other must be fixed"):
        build_graph(Call(lambda x: tokens(x) @ x.flatten(2)))


def test_gates_by_a_softmax_stay_gates():
    """Squeeze and softmax over channels, in a class with such a name, have a rule."""

    class ChannelAttention(nn.Module):
        def forward(self, x):
            return x * x.mean((2, 3), keepdim=True).softmax(1)

    kinds = [layer.kind for layer in build_graph(nn.Sequential(ChannelAttention())).layers]
    assert kinds[-1] == "product"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layer"), [
    ("vit_b_16", "'encoder.layers.encoder_layer_0.self_attention' of type MultiheadAttention"),
    ("swin_t", r"'shifted_window_attention' .* It is part of 'features.1.0.attn' \(ShiftedWindowAttention\)"),
    ("maxvit_t", r"'einsum' .* \(RelativePositionalMultiHeadAttention\)"),
])  # fmt: skip
def test_transformers_of_torchvision_are_refused(name, layer):
    from torchvision import models

    with pytest.raises(UnsupportedLayer, match=f"Layer {layer}.*{ADVICE}"):
        build_graph(models.get_model(name, weights=None))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "coatnet_nano_rw_224",
                                  "cait_xxs24_224", "botnet26t_256"])  # fmt: skip
def test_transformers_of_timm_are_refused(name):
    timm = pytest.importorskip("timm")
    with pytest.raises(UnsupportedLayer, match=rf"It is part of '[\w.]+' \(\w+\)\. {ADVICE}"):
        build_graph(timm.create_model(name, pretrained=False))
