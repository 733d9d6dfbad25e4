"""Local response normalisation: forward equals the definition, every rule equals the loop over the Taylor terms."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lrpcli import Explainer, LocalResponseNorm
from lrpcli.errors import ModelError
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
    return reference.fraction(terms, terms.sum())


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
    return {"size": layer.size, "alpha": layer.alpha, "beta": layer.beta, "k0": layer.k, "region": layer.region,
            "reach": layer.reach}  # fmt: skip


def through(layer, rule, x, arrived=None):
    return redistributed(nn.Sequential(layer), {"kind": {"lrn": rule}}, x, arrived)


def test_every_rule_is_tested():
    assert set(RULES["lrn"]) == {*RULES_AND_SHARES, "gradient"}


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("size", [2, 3, 4, 5, 7])
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
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_forward_equals_the_definition(size, region):
    for number, scale in enumerate(SCALES):
        for shape in SHAPES[region]:
            layer = LocalResponseNorm(size, **SETTINGS[number % 3], region=region)
            x = activations(shape, scale, True, number)
            agree(layer(x)[0], reference.lrn_forward(x[0].numpy(), **loop(layer)), 1e-12)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", [(9, 4), (9, 4, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("size", [2, 4, 5, 6])
def test_forward_equals_torch(size, settings, shape):
    """Also for even sizes, whose window reaches one channel further back than on."""
    x = 100 * torch.randn((2, *shape), dtype=torch.float64)
    agree(LocalResponseNorm(size, **settings)(x), nn.LocalResponseNorm(size, **settings)(x), 1e-12)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("name", RULES_AND_SHARES)
@pytest.mark.parametrize("reach", [(1, 2), (0, 3), (3, 0)])
def test_rule_equals_the_loop_for_windows_that_lie_elsewhere(reach, name, region):
    """ONNX has the additional channel of an even window behind its centre."""
    layer = LocalResponseNorm(4, 5e-3, 0.75, 1.5, region, reach)
    rule, share = RULES_AND_SHARES[name]
    x = activations(SHAPES[region][0], 30, True)
    got, arrived = through(layer, rule, x)
    agree(got[0], reference.lrn(x[0].numpy(), arrived[0].numpy(), share, **loop(layer)), 1e-10)


@pytest.mark.parametrize("name", RULES_AND_SHARES)
@pytest.mark.parametrize("size", [3, 4, 18])
def test_rule_equals_the_loop_where_k_is_zero(size, name):
    """Where x_k is 0 there is no term: output k sends nothing, and its input gets nothing."""
    rule, share = RULES_AND_SHARES[name]
    for beta, scale in itertools.product((0.5, 0.75, 1.2), (1e-3, 1, 300)):
        layer = LocalResponseNorm(size, 1e-2, beta, 0.0)
        x = activations((9, 2, 3), scale, False)
        assert int((x == 0).sum()) > 5
        got, arrived = through(layer, rule, x)
        expected = reference.lrn(x[0].numpy(), arrived[0].numpy(), share, **loop(layer))
        agree(got[0], expected, 1e-10)
        if name != "identity":
            assert not got[x == 0].any()


@pytest.mark.parametrize("name", RULES_AND_SHARES)
def test_single_precision_is_finite_where_k_is_zero(name):
    """Powers of sums near zero overflow float32, whatever the size of the activations."""
    for scale in (1e-18, 1e-12, 1e-3, 1e4):
        x = activations((9, 4, 4), scale, False).float()
        layer = LocalResponseNorm(5, 1e-4, 0.75, 0.0)
        got, arrived = through(layer, RULES_AND_SHARES[name][0], x)
        double, _ = through(layer, RULES_AND_SHARES[name][0], x.double(), arrived.double())
        agree(got, double, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", RULES_AND_SHARES)
def test_half_precision_is_computed_in_single(name, dtype):
    """The square of 256 and of all above it is infinite in float16."""
    x = (activations((9, 3, 3), 1, False).clamp(max=3) * 300).to(dtype)
    assert float(x.max()) > 256
    layer = LocalResponseNorm(5, 1e-4, 0.75)
    torch.testing.assert_close(layer(x), layer(x.double()).to(dtype), rtol=1e-3, atol=0)
    rule = RULES_AND_SHARES[name][0]
    got, arrived = through(layer, rule, x)
    assert got.dtype == dtype
    double, _ = through(layer, rule, x.double(), arrived.double())
    agree(got, double, 2e-3 if dtype == torch.float16 else 2e-2)


@pytest.mark.parametrize("shape", [(2, 6, 9), (2, 6), (2, 3, 4, 5, 6)])
def test_a_window_in_the_plane_needs_maps(shape):
    """A pass over (N, C, L) ended in a wrong axis, or in an IndexError."""
    net = nn.Sequential(LocalResponseNorm(3, 1e-2, 0.75, region="within-channel"))
    with pytest.raises(ModelError, match=r"Layer '0' .* within channel needs maps \(N, C, H, W\)"):
        Explainer(net, device="cpu")(torch.ones(shape))


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


@pytest.mark.parametrize(("size", "reach"), [(0, None), (4, (2, 2)), (3, (3, -1))])
def test_a_window_without_its_centre_is_refused(size, reach):
    with pytest.raises(ValueError, match=f"{size} places cannot be"):
        LocalResponseNorm(size, 1e-4, 0.75, reach=reach)


def test_an_unknown_region_is_refused():
    with pytest.raises(ValueError, match="knows the regions across-channels and within-channel, not 'everywhere'"):
        LocalResponseNorm(5, 1e-4, 0.75, region="everywhere")


@pytest.mark.parametrize("region", REGIONS)
def test_a_relative_epsilon_is_that_of_each_image(region):
    """relative times the root mean square of the sums of an image's terms."""
    layer = LocalResponseNorm(3, 5e-3, 0.75, region=region)
    x = activations(SHAPES[region][0], 30, True)
    sums = [terms.sum() for _, _, terms in reference.lrn_terms(x[0].numpy(), **loop(layer))]
    size = 0.5 * float(np.sqrt(np.mean(np.square(sums))))
    both = torch.cat([x, 100 * x])
    got, arrived = through(layer, {"rule": "epsilon", "relative": 0.5}, both)
    expected, _ = through(layer, {"rule": "epsilon", "epsilon": size}, x, arrived[:1])
    agree(got[:1], expected, 1e-10)
