"""Concat, views and padding: relevance goes back to where each element came from."""

import pytest
import torch
from torch import nn

from lrpcli import Explainer
from lrpcli.errors import UnsupportedLayer
from tests.lrp.helpers import Call, check, image


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_concat_slices(axis):
    """Two scaled copies and the input itself: each gets back its own slice."""
    x = image(2, 3, 4, 5)
    check(lambda x: torch.cat([x * 2, x, x * 3], axis), x, lambda r: sum(r.chunk(3, axis)))


def test_concat_of_a_layer_with_itself():
    x = image(2, 3, 4)
    check(lambda x: torch.cat((x, x), dim=1), x, lambda r: r[:, :3] + r[:, 3:])


def test_concat_of_different_widths():
    x = image(2, 6, 4)
    parts = lambda x: torch.cat(tensors=[x[:, 4:], x[:, :1], x[:, 1:4]], dim=1)  # noqa: E731
    check(parts, x, lambda r: torch.cat([r[:, 2:3], r[:, 3:], r[:, :2]], 1))


@pytest.mark.parametrize(
    ("function", "index"),
    [
        (lambda x: x.flatten(1), lambda i: i.flatten(1)),
        (lambda x: torch.flatten(x, start_dim=2), lambda i: i.flatten(2)),
        (lambda x: x.view(x.size(0), -1), lambda i: i.flatten(1)),
        (lambda x: x.reshape(x.shape[0], x.shape[1] * 2, -1), lambda i: i.reshape(2, 8, -1)),
        (lambda x: x.permute(0, 2, 3, 1), lambda i: i.permute(0, 2, 3, 1)),
        (lambda x: x.permute(0, 2, 3, 1).reshape(2, -1), lambda i: i.permute(0, 2, 3, 1).reshape(2, -1)),
        (lambda x: x.transpose(1, 3).contiguous(), lambda i: i.transpose(1, 3)),
        (lambda x: x[:, :, 1:4, ::2], lambda i: i[:, :, 1:4, ::2]),
        (lambda x: x[:, [2, 0, 1]], lambda i: i[:, [2, 0, 1]]),
        (lambda x: x[:, [3, 3, 0]], lambda i: i[:, [3, 3, 0]]),
        (lambda x: x[:, 1].unsqueeze(1), lambda i: i[:, 1:2]),
        (lambda x: x[:, :1].expand(-1, 3, -1, -1), lambda i: i[:, :1].expand(-1, 3, -1, -1)),
        (lambda x: x[:, :1].expand_as(x), lambda i: i[:, :1].expand(-1, 4, -1, -1)),
        (lambda x: torch.chunk(x, 2, 1)[1], lambda i: i[:, 2:]),
        (lambda x: torch.split(x, [1, 3], dim=1)[1], lambda i: i[:, 1:]),
        (lambda x: torch.unbind(x, 1)[3], lambda i: i[:, 3]),
        (lambda x: x.narrow(2, 1, 3), lambda i: i[:, :, 1:4]),
        (lambda x: torch.cat((x.chunk(2, 1)[1], x.chunk(2, 1)[0]), 1), lambda i: torch.cat((i[:, 2:], i[:, :2]), 1)),
    ],
)
def test_views_take_relevance_back_to_where_it_came_from(function, index):
    x = image(2, 4, 5, 6)
    places = index(torch.arange(x.numel()).view(x.shape))
    expected = lambda r: torch.zeros(x.numel(), dtype=x.dtype).index_add(0, places.flatten(), r.flatten()).view(x.shape)  # noqa: E731
    check(function, x, expected)


def test_channel_shuffle():
    """Views with a copy between them, as in ShuffleNet."""
    x = image(2, 6, 3, 3)
    shuffle = lambda x: x.view(2, 2, 3, 3, 3).transpose(1, 2).contiguous().view(2, 6, 3, 3)  # noqa: E731
    check(shuffle, x, lambda r: r.view(2, 3, 2, 3, 3).transpose(1, 2).reshape(2, 6, 3, 3))


VIEWS = {
    "view": lambda x: x.view(-1, 4 * 36),
    "view by size": lambda x: x.view(x.size(0), -1),
    "view_as": lambda x: x.view_as(x.flatten(1)),
    "two views": lambda x: x.view(2, 2, 2, 6, 6).transpose(1, 2).contiguous().view(2, 4, 36).view(2, -1),
    "view of a copy": lambda x: x.permute(0, 2, 3, 1).contiguous().view(2, 144),
    "unflatten": lambda x: x.unflatten(1, (2, 2)).view(2, 2, -1).flatten(1),
    "data": lambda x: x.data.view(2, -1),
    "contiguous": lambda x: x.contiguous(memory_format=torch.channels_last).contiguous().view(2, -1),
}


@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("config", ["epsilon", "epsilon-alpha2-beta1-flat"])
def test_a_view_is_as_legal_behind_a_convolution_as_in_the_model(kind, config):
    """The engine's tensors have other strides than the model's: equal to the same net with a reshape."""
    x = image(2, 3, 8, 8)

    def build(flat):
        torch.manual_seed(3)
        parts = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        return Call(lambda self, x: self.fc(flat(self.body(x))), body=parts, fc=nn.Linear(144, 3)).double()

    order = VIEWS[kind](torch.arange(2 * 144).view(2, 4, 6, 6)) % 144
    reshaped = build(lambda x: x.reshape(2, 144)[:, order[0]])
    got, expected = (
        Explainer(net, config, dtype=x.dtype, device="cpu")(x, 1) for net in (build(VIEWS[kind]), reshaped)
    )
    torch.testing.assert_close(got.logits, build(VIEWS[kind])(x).detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got.relevance, expected.relevance, rtol=1e-9, atol=1e-12)


def test_a_view_that_asks_for_strides_is_refused():
    net = Call(lambda self, x: self.conv(x).as_strided((2, 4), (4, 1)), conv=nn.Conv2d(3, 4, 8))
    with pytest.raises(UnsupportedLayer, match="'as_strided' of type as_strided"):
        Explainer(net, device="cpu")


@pytest.mark.parametrize("sizes", [(1, 2), (1, 2, 3, 0), (-1, 1, 0, -2)])
def test_zero_padding_gets_nothing(sizes):
    x = image(2, 3, 4, 5)
    back = tuple(-size for size in sizes)
    check(lambda x: nn.functional.pad(x, sizes), x, lambda r: nn.functional.pad(r, back))


def test_zero_padding_as_a_module():
    x = image(2, 3, 4, 5)
    check(lambda self, x: self.pad(x), x, lambda r: r[:, :, 2:-1, 1:-3], pad=nn.ZeroPad2d((1, 3, 2, 1)))
