"""Calls that write over their input: what reads that memory later sees it, and what cannot be followed is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lrpcli import Explainer
from lrpcli.errors import UnsupportedLayer
from lrpcli.lrp.tracing.translate import build_graph
from tests.lrp.helpers import Call, agree, image

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def explainer(module):
    return Explainer(module, "epsilon", dtype=torch.float64)


def added(x):
    """Another x in the place of x."""
    x += 3.0
    x *= 0.5
    x -= 0.1
    x /= 2.0
    return x


@pytest.mark.parametrize("function", [
    lambda self, x: torch.relu_(y := self.conv(x)).mean((2, 3)) + y.mean((2, 3)),
    lambda self, x: functional.relu(y := self.conv(x), inplace=True).mean((2, 3)) + y.mean((2, 3)),
    lambda self, x: self.relu(y := self.conv(x)).mean((2, 3)) + y.mean((2, 3)),
    lambda self, x: (y := self.conv(x)).add_(1.0).mean((2, 3)) + y.mean((2, 3)),
    lambda self, x: functional.relu(input=(y := self.conv(x)), inplace=True).mean((2, 3)) + y.mean((2, 3)),
    # through another name of the same tensor: dropout, Identity and detach give back their input
    lambda self, x: self.relu(self.drop(y := self.conv(x))).mean((2, 3)) + y.mean((2, 3)),
    lambda self, x: torch.relu_(functional.dropout(y := self.conv(x), training=False)).mean((2, 3)) + y.mean((2, 3)),
    lambda self, x: (z := self.drop(y := self.conv(x))).mean((2, 3)) + torch.relu_(y).mean((2, 3)) + z.mean((2, 3)),
    lambda self, x: (z := (y := self.conv(x)).add_(1.0)).mean((2, 3)) + torch.relu_(y).mean((2, 3)) + z.mean((2, 3)),
    lambda self, x: added(y := self.conv(x)).mean((2, 3)) + y.mean((2, 3)),
    # a copy stays as it was
    lambda self, x: torch.relu_((y := self.conv(x)).clone()).mean((2, 3)) + y.mean((2, 3)),
    # a view of what nobody reads any more, but for its size
    lambda self, x: torch.relu_((y := self.conv(x)).flatten(1)).view(-1, y.size(1), 36).mean(2),
])  # fmt: skip
def test_what_an_in_place_call_overwrites_is_seen_by_later_readers(function):
    net = Call(function, conv=nn.Conv2d(3, 4, 3), relu=nn.ReLU(inplace=True), drop=nn.Dropout()).double().eval()
    torch.testing.assert_close(explainer(net)(X).logits, net(X).detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", [
    lambda self, x: torch.relu_((y := self.conv(x))[:, :2]).mean((2, 3)) + y[:, :2].mean((2, 3)),
    lambda self, x: torch.relu_((y := self.conv(x)).flatten(1))[:, :4] + y.mean((2, 3)),
    lambda self, x: (z := (y := self.conv(x)).flatten(2)).mean(2) + torch.relu_(y).mean((2, 3)) + z.mean(2),
    lambda self, x: torch.relu_((y := self.conv(x)).chunk(2, 1)[0]).mean((2, 3)) + y.mean((2, 3))[:, :2],
])  # fmt: skip
def test_writing_over_a_view_of_what_is_read_later_is_refused(function):
    net = Call(function, conv=nn.Conv2d(3, 4, 3)).double()
    with pytest.raises(UnsupportedLayer, match="'relu_' writes over its input, and '.*another view.*inplace=False"):
        build_graph(net)


def test_a_result_written_over_another_tensor_is_refused():
    net = Call(lambda self, x: torch.add(y := self.conv(x), 1.0, out=y).mean((2, 3)), conv=nn.Conv2d(3, 4, 3))
    with pytest.raises(UnsupportedLayer, match="'add' .* writes its result over 'out'"):
        build_graph(net)


def test_in_place_counting_of_sizes_changes_no_tensor():
    def function(x):
        n = x.size(1)
        m = n
        m += 1
        return x.view(x.size(0), n, -1).flatten(1) * 1.0

    torch.testing.assert_close(explainer(Call(function))(X).logits, X.flatten(1))


WRITTEN_OVER = {
    "squeeze_": (lambda y: y.unsqueeze_(1).squeeze_(1), lambda y: y),
    "transpose_": (lambda y: y.transpose_(2, 3), lambda y: y.transpose(2, 3)),
    "mul_ by a mask": (lambda y: y.mul_((y > 0.3) * 3.0 + 1), lambda y: y * ((y > 0.3) * 3.0 + 1)),
    "div_ by a mask": (lambda y: y.div_((y > 0.3) * 3.0 + 1), lambda y: y / ((y > 0.3) * 3.0 + 1)),
    "torch.cos_": (lambda y: y * 2 * torch.sigmoid(torch.cos_(y.clone())), lambda y: y * 2 * torch.sigmoid(y.cos())),
}


@pytest.mark.parametrize("exported", [False, True])
@pytest.mark.parametrize("kind", WRITTEN_OVER)
def test_functions_that_write_over_their_input_leave_what_rules_remember(kind, exported):
    """torch.export keeps the operators in place, and torch has functions such as cos_."""
    x, parts = image(2, 3, 8, 8), {"conv": nn.Conv2d(3, 4, 3).double(), "fc": nn.Linear(144, 3).double()}
    net, expected = (
        Call(lambda self, x, f=f: self.fc(f(self.conv(x)).flatten(1)), **parts).eval() for f in WRITTEN_OVER[kind]
    )
    found = Explainer(torch.export.export(net, (x,)) if exported else net, "epsilon", dtype=x.dtype, device="cpu")(x, 0)
    agree(found.relevance, Explainer(expected, "epsilon", dtype=x.dtype, device="cpu")(x, 0).relevance, 1e-12)
