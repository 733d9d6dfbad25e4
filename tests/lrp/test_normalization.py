"""Local response normalisation: forward equals the definition, every rule equals the loop over the Taylor terms."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lrpcli import LocalResponseNorm
from lrpcli.lrp.rules import RULES
from tests.lrp import reference
from tests.lrp.helpers import agree, redistributed

REGIONS = ("across-channels", "within-channel")
SCALES = (1, 10, 100, 300)
# Krizhevsky's and the BVLC nets' numbers, VGG's k and alpha, and an exponent without a short cut.
SETTINGS = ({"alpha": 1e-4, "beta": 0.75, "k": 1.0}, {"alpha": 5e-4, "beta": 0.5, "k": 2.0},
            {"alpha": 2e-3, "beta": 1.2, "k": 0.5})  # fmt: skip
SHAPES = {"across-channels": [(9, 2, 3), (2, 3, 2)], "within-channel": [(2, 7, 9), (3, 2, 3)]}


def normalise(terms, centre):
    return terms / terms.sum()


def identity(terms, centre):
    return np.eye(len(terms))[centre]


def epsilon(terms, centre):
    return terms / (terms.sum() + 0.5 * reference.sign(terms.sum()))


def alpha_beta(terms, centre):
    up, down = np.maximum(terms, 0), np.minimum(terms, 0)
    return 1.5 * reference.fraction(up, up.sum()) - 0.5 * reference.fraction(down, down.sum())


RULES_AND_SHARES = {
    "taylor": ("taylor", normalise),
    "identity": ("identity", identity),
    "taylor-unnormalized": ("taylor-unnormalized", lambda terms, centre: terms),
    "epsilon": ({"rule": "epsilon", "epsilon": 0.5}, epsilon),
    "alpha-beta": ({"rule": "alpha-beta", "beta": 0.5}, alpha_beta),
}


def activations(shape, scale, signed, seed=0, dtype=torch.float64):
    """Random activations (1, C, H, W), a third of them zero where they are what a ReLU left."""
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn((1, *shape), generator=generator, dtype=torch.float64)
    return (x if signed else (x + 0.4 * scale).clamp(min=0)).to(dtype)


def loop(layer):
    return {"size": layer.size, "alpha": layer.alpha, "beta": layer.beta, "k0": layer.k, "region": layer.region}


def through(layer, rule, x, arrived=None):
    return redistributed(nn.Sequential(layer), {"kind": {"lrn": rule}}, x, arrived)


def test_every_rule_is_tested():
    assert set(RULES["lrn"]) == {*RULES_AND_SHARES, "gradient"}


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("name", RULES_AND_SHARES)
def test_rule_equals_the_loop(name, size, region):
    rule, share = RULES_AND_SHARES[name]
    cases = [(scale, signed, shape) for scale in SCALES for signed in (True, False) for shape in SHAPES[region]]
    for number, (scale, signed, shape) in enumerate(cases):
        layer = LocalResponseNorm(size, **SETTINGS[number % 3], region=region)
        x = activations(shape, scale, signed, number)
        if share is normalise:
            x = x + 1e-30  # a zero centre gets its whole R, which is the limit of z / z and not 0 / 0
        got, arrived = through(layer, rule, x)
        agree(got[0], reference.lrn(x[0].numpy(), arrived[0].numpy(), share, **loop(layer)), 1e-10)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_forward_equals_the_definition(size, region):
    for number, scale in enumerate(SCALES):
        for shape in SHAPES[region]:
            layer = LocalResponseNorm(size, **SETTINGS[number % 3], region=region)
            x = activations(shape, scale, True, number)
            agree(layer(x)[0], reference.lrn_forward(x[0].numpy(), **loop(layer)), 1e-12)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", [(9, 4), (9, 4, 5), (2, 3, 4, 5)])
def test_forward_equals_torch(settings, shape):
    x = 100 * torch.randn((2, *shape), dtype=torch.float64)
    agree(LocalResponseNorm(5, **settings)(x), nn.LocalResponseNorm(5, **settings)(x), 1e-12)


def test_within_a_channel_k_is_one():
    x = activations((2, 5, 5), 10, True)
    one, two = (LocalResponseNorm(3, 1e-2, 0.75, k, "within-channel")(x) for k in (1.0, 2.0))
    torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.parametrize("rule", ["taylor", "identity"])
@pytest.mark.parametrize(("region", "axes"), [("across-channels", (1,)), ("within-channel", (2, 3))])
def test_relevance_is_conserved_per_pixel_or_channel(rule, region, axes):
    for scale in SCALES:
        x = activations((8, 6, 5), scale, False)
        got, arrived = through(LocalResponseNorm(5, 1e-3, 0.75, region=region), rule, x)
        torch.testing.assert_close(got.sum(axes), arrived.sum(axes), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("region", REGIONS)
def test_taylor_becomes_identity_without_normalisation(region):
    x = activations((8, 6, 5), 100, True)
    differences = []
    for alpha in (1e-4, 1e-6, 1e-8, 1e-10):
        got, arrived = through(LocalResponseNorm(5, alpha, 0.75, region=region), "taylor", x)
        differences.append(float((got - arrived).abs().max()))
    assert differences[0] > 1e-2
    assert all(later < 0.05 * before for before, later in itertools.pairwise(differences))


@pytest.mark.parametrize(("scale", "least", "most"), [(1, 0, 1e-3), (10, 1e-3, 0.05), (100, 0.2, 1.0)])
def test_taylor_differs_from_identity_at_the_size_of_real_activations(scale, least, most):
    x = activations((32, 4, 4), scale, False)
    got, arrived = through(LocalResponseNorm(5, 1e-4, 0.75), "taylor", x)
    assert least <= float((got - arrived).norm() / arrived.norm()) <= most


def test_the_centre_keeps_between_one_and_less_than_twice_its_relevance():
    """At beta = 0.75 the centre's share lies in [1, 1.832], whatever the activations."""
    x = torch.cat([activations((8, 6, 5), scale, False, scale) for scale in (1, 30, 300, 3000)])
    layer = LocalResponseNorm(5, 1e-4, 0.75)
    arrived = torch.zeros_like(x)
    arrived[:, 3] = 1.0
    kept = through(layer, "taylor", x, arrived)[0][:, 3]
    assert float(kept.min()) >= 1 - 1e-12
    assert 1.7 < float(kept.max()) <= 1.832


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("name", RULES_AND_SHARES)
def test_single_precision_is_close_to_double(name, region):
    """Also for single active pixels among zeros, where a window sum minus its centre would be rounding noise."""
    for scale, active in ((300, 0.7), (300, 0.02), (1, 0.3)):
        keep = torch.rand((1, 16, 12, 12), generator=torch.Generator().manual_seed(1)) < active
        x = activations((16, 12, 12), scale, False) * keep
        layer = LocalResponseNorm(5, 1e-4, 0.75, region=region)
        double, arrived = through(layer, RULES_AND_SHARES[name][0], x)
        single, _ = through(layer, RULES_AND_SHARES[name][0], x.float(), arrived.float())
        agree(single, double, 1e-5)


def test_zero_activations_pass_relevance_on():
    """The limit of taylor for a vanishing centre: nothing is normalised, and R stays where it is."""
    got, arrived = through(LocalResponseNorm(5, 1e-4, 0.75), "taylor", torch.zeros(1, 6, 2, 2, dtype=torch.float64))
    torch.testing.assert_close(got, arrived, rtol=1e-15, atol=0)


def test_the_layer_can_be_trained():
    """Autograd through the forward pass agrees with finite differences; the short cuts keep no overwritten tensor."""
    for beta in (0.5, 0.75, 1.75, 1.2):
        for region in REGIONS:
            layer = LocalResponseNorm(3, 0.3, beta, region=region)
            x = activations((4, 3, 3), 1, True).requires_grad_()
            assert torch.autograd.gradcheck(layer, (x,))


@pytest.mark.parametrize("size", [0, 4])
def test_an_even_window_is_refused(size):
    with pytest.raises(ValueError, match=f"must be odd, not {size}"):
        LocalResponseNorm(size, 1e-4, 0.75)


def test_an_unknown_region_is_refused():
    with pytest.raises(ValueError, match="knows the regions across-channels and within-channel, not 'everywhere'"):
        LocalResponseNorm(5, 1e-4, 0.75, region="everywhere")
