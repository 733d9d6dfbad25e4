"""What a forward function may hold: checks are no layers, and what cannot be traced is named with file and line."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from lrpcli import Explainer
from lrpcli.errors import ModelError
from lrpcli.lrp.tracing.translate import build_graph
from tests.lrp.helpers import Call, image

X = image(2, 3, 8, 8)


def net(function):
    return Call(function, conv=nn.Conv2d(3, 4, 8)).double()


def asserted(self, x):
    assert x.shape[1] == 3, "three channels"
    assert x.dim() == 4 and x.shape[2] >= 8
    assert x.shape[1] in (1, 3)
    assert x.shape[1] not in (2, 4) or x.is_cuda
    assert not torch.isnan(x).any(), "pixels that are none"
    assert not (x.dim() != 4 or not 3 <= x.shape[1] <= 3)
    assert x.is_contiguous()
    assert all([x.dim() == 4, x.shape[1] >= 3])
    torch._assert(torch.all(x > -100), "small")
    return self.conv(x).flatten(1)


def raised(self, x):
    if x.dim() != 4:
        raise ValueError(f"expected 4 axes, not {x.shape}")
    if (
        x.shape[1] != 3
        or x.shape[2] < 8
    ):  # fmt: skip
        raise ValueError("shape")
    if x.shape[1] == 4 and x.shape[2] == 4: raise ValueError("both")  # fmt: skip # noqa: E701
    bad = x.shape[1] == 1
    if bad:
        raise ValueError("grey")
    good = x.dim() == 4
    if not good:
        raise ValueError("axes")
    assert good
    return self.conv(x).flatten(1)


@pytest.mark.parametrize("function", [asserted, raised])
def test_a_check_is_no_layer(function):
    plain = net(lambda self, x: self.conv(x).flatten(1))
    checked = Call(function, conv=plain.conv)
    assert [layer.name for layer in build_graph(checked).layers] == ["input", "conv", "flatten"]
    found, expected = (Explainer(one, "epsilon", dtype=X.dtype, device="cpu")(X) for one in (checked, plain))
    assert torch.equal(found.relevance, expected.relevance)


def test_a_check_that_fails_is_said_by_the_model():
    with pytest.raises(ModelError, match="itself cannot take an input of shape .* AssertionError: three channels"):
        Explainer(Call(lambda self, x: asserted(self, x[:, :2]), conv=nn.Conv2d(2, 4, 8)), device="cpu")(X)


def shape_decides(self, x):
    if x.shape[1] == 3:  # here
        x = x * 2
    return self.conv(x)


def value_decides(self, x):
    return self.conv(x) if x.sum() > 0 else x  # here


def type_raises(self, x):
    if not isinstance(x, torch.Tensor):
        raise TypeError("a tensor is needed")  # here
    return self.conv(x)


def loops(self, x):
    for row in x:  # here
        x = x + row
    return self.conv(x)


def measures(self, x):
    assert len(x.shape) == 4  # here
    return self.conv(x)


def assigns(self, x):
    x = x.clone()
    x[:, 0] = x[:, 0] * 2  # here
    return self.conv(x)


def assigns_product(self, x):
    x[:, 1] /= 3  # here
    return self.conv(x)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (shape_decides, "inputs to control flow). Write it without control flow that depends on tensors, their shapes"),
        (value_decides, "inputs to control flow). Write it without control flow"),
        (type_raises, "(TypeError: a tensor is needed). Write it without control flow that depends on tensors"),
        (loops, "cannot be iterated"),
        (measures, "'len' is not supported"),
        (assigns, "it assigns to a part of a tensor in place"),
        (assigns_product, "Write what makes a new tensor: torch.cat of the parts"),
    ],
)
def test_what_cannot_be_traced_is_named_with_file_and_line(function, reason):
    source = Path(__file__).read_text("utf-8").splitlines()
    first = function.__code__.co_firstlineno
    line = next(number for number in range(first, first + 9) if source[number - 1].endswith("# here"))
    with pytest.raises(ModelError) as caught:
        build_graph(net(function))
    text = source[line - 1].strip()
    assert f"The forward function of Call cannot be traced at {__file__}, line {line}: {text!r}" in str(caught.value)
    assert reason in str(caught.value)


def test_a_condition_without_source_is_control_flow():
    space = {}
    exec("def forward(self, x):\n    assert x.dim() == 4\n    return self.conv(x)", space)
    with pytest.raises(ModelError, match=re.escape("cannot be used as inputs to control flow")):
        build_graph(net(space["forward"]))


def test_arguments_in_any_number_beside_the_input_are_none():
    class Many(nn.Module):
        def forward(self, x, *rest, **options):
            return x.flatten(1) * (1 + len(rest))

    assert torch.equal(Explainer(Many(), dtype=torch.float64, device="cpu").predict(X), X.flatten(1))


KEPT = torch.tensor(3.0)


class Optional(nn.Module):
    """Arguments beside the input that decide what is computed, at their defaults when a model is explained."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x, mask=None, features=False, scale=2.0, sizes=(1, 2), *, mode="plain", kept=KEPT):
        x = x if mask is None else x * mask
        if features:
            return self.layer(x), x
        for size in sizes:
            x = x * size
        return self.layer(x) * scale * kept if mode == "plain" else self.layer(x)


def test_arguments_with_a_default_may_decide_what_is_computed(recwarn):
    net, x = Optional().eval(), image(2, 3).float()
    explainer = Explainer(net, "epsilon", device="cpu")
    torch.testing.assert_close(explainer.predict(x), net(x))
    assert [layer.type for layer in explainer.graph.layers[1:]].count("Linear") == 1
    assert not recwarn.list
