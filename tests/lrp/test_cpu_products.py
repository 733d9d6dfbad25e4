"""Products by oneDNN equal torch's own, and torch's own are taken wherever oneDNN's would fail."""

import pytest
import torch
from torch import nn

from lrpcli import Explainer
from lrpcli.lrp.layers import cpu_products
from lrpcli.lrp.layers.cpu_products import product, transposed_product

needs_onednn = pytest.mark.skipif(not cpu_products.has_onednn(), reason="this torch multiplies by its own libraries")
SHAPES = [((1,), 7, 5), ((2,), 64, 64), ((3,), 1, 9), ((16,), 33, 1), ((5, 7), 48, 20), ((2, 3, 4), 17, 129),
          ((33,), 1000, 257)]  # fmt: skip
"""Leading axes of the inputs, C and D."""


@pytest.fixture
def any_size(monkeypatch):
    monkeypatch.setattr(cpu_products, "SMALLEST", 0)


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def assert_near(found, exact):
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-6 * max(1e-30, float(exact.abs().max())))


@torch.no_grad()
@pytest.mark.parametrize("transposed_weight", [False, True])
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_products_equal_those_in_float64(rows, inputs, outputs, bias, strided, transposed_weight, any_size):
    x, gradient = numbers(*rows, inputs), numbers(*rows, outputs)
    weight = numbers(inputs, outputs).t() if transposed_weight else numbers(outputs, inputs)
    if strided:
        x = torch.stack([x, x * 2], -1)[..., 0]
        gradient = gradient[..., :1].expand(gradient.shape)
    offset = numbers(outputs) if bias else None
    exact = x.double() @ weight.double().t() + (0 if offset is None else offset.double())
    assert_near(product(x, weight, offset), exact)
    assert_near(transposed_product(gradient, weight), gradient.double() @ weight.double())


@torch.no_grad()
def test_nothing_is_multiplied_for_no_images(any_size):
    assert product(torch.ones(0, 3), torch.ones(2, 3), torch.ones(2)).shape == (0, 2)
    assert transposed_product(torch.ones(0, 2), torch.ones(2, 3)).shape == (0, 3)


@needs_onednn
def test_a_large_matrix_is_multiplied_by_onednn(monkeypatch):
    weight, calls = torch.ones(1024, 512), []
    monkeypatch.setattr(cpu_products, "_by_onednn", lambda *arguments: calls.append(arguments))
    with torch.no_grad():
        product(torch.ones(1, 512), weight)
        transposed_product(torch.ones(2, 1024), weight)
    assert len(calls) == 2


@pytest.fixture
def without_onednn():
    torch.backends.mkldnn.set_flags(_enabled=False)
    yield
    torch.backends.mkldnn.set_flags(_enabled=True)


def refuse(*_):
    raise AssertionError("oneDNN was called")


@pytest.mark.parametrize("case", ["float64", "half", "small", "differentiated"])
def test_torch_multiplies_what_onednn_would_not(case, monkeypatch):
    monkeypatch.setattr(cpu_products, "_by_onednn", refuse)
    dtype = {"float64": torch.float64, "half": torch.bfloat16}.get(case, torch.float32)
    side = 8 if case == "small" else 1024
    x, weight = torch.ones(2, side, dtype=dtype), torch.ones(side, side, dtype=dtype)
    with torch.set_grad_enabled(case == "differentiated"):
        assert product(x, weight)[0, 0] == side
        assert transposed_product(x, weight)[0, 0] == side


@torch.no_grad()
def test_torch_multiplies_where_onednn_is_switched_off(without_onednn, monkeypatch):
    monkeypatch.setattr(cpu_products, "_by_onednn", refuse)
    assert product(torch.ones(2, 1024), torch.ones(1024, 1024))[0, 0] == 1024


@pytest.mark.parametrize("error", [AttributeError, NotImplementedError, RuntimeError, TypeError, None])
def test_an_operator_that_is_missing_or_wrong_is_not_used(error, monkeypatch):
    def changed(x, weight, bias):
        if error:
            raise error("changed")
        return torch.zeros(len(x), len(weight))

    cpu_products.has_onednn.cache_clear()
    monkeypatch.setattr(cpu_products, "_by_onednn", changed)
    try:
        assert not cpu_products.has_onednn()
    finally:
        cpu_products.has_onednn.cache_clear()


@pytest.mark.parametrize("config", ["epsilon", "epsilon-over-gamma", "epsilon-alpha2-beta1", "gradient"])
def test_maps_of_a_large_layer_are_those_without_onednn(config, monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 700), nn.ReLU(), nn.Linear(700, 800), nn.ReLU(), nn.Linear(800, 9))
    x = torch.randn(5, 3, 16, 16)
    found = Explainer(net, config, device="cpu")(x).relevance
    monkeypatch.setattr(cpu_products, "has_onednn", lambda: False)
    plain = Explainer(net, config, device="cpu")(x).relevance
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5 * float(plain.abs().max()))


def test_a_layer_that_was_explained_follows_no_later_change_of_the_model():
    net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 3))
    x = torch.randn(2, 1, 32, 32)
    explainer = Explainer(net, "epsilon", device="cpu")
    before = explainer(x).relevance
    with torch.no_grad():
        net[1].weight.mul_(-1)
    assert torch.equal(explainer(x).relevance, before)
    assert not torch.allclose(Explainer(net, "epsilon", device="cpu")(x).relevance, before)
