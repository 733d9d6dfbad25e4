"""The engine as a whole: batches, kept layers, conservation, and that autograd has no part in it."""

import pytest
import torch
from PIL import Image
from torch import nn

from lrpcli import Explainer, load_model
from lrpcli.errors import ConfigError, UsageError
from lrpcli.lrp import propagate
from lrpcli.lrp.composites.composite import builtin_names
from lrpcli.lrp.explainer import full_precision
from tests.lrp.helpers import agree
from tests.lrp.nets import NETS, caffenet, googlenet, photos
from tests.shared import shared

PIXELS = (torch.full((1, 3, 1, 1), -110.0), torch.full((1, 3, 1, 1), 145.0))
CONSERVING = {"bias": "ignore", "kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}
RELEVANCE_CONFIGS = [name for name in builtin_names() if not name.startswith("gradient")]


@pytest.fixture(scope="module", params=NETS)
def net_and_x(request):
    build, shape = NETS[request.param]
    return build(), photos(2, shape)


def explainer(net, config="composite", dtype=torch.float64, **settings):
    return Explainer(net, config, dtype=dtype, pixel_range=PIXELS, **settings)


@pytest.mark.parametrize("name", builtin_names())
def test_three_classes_at_once_equal_three_single_runs(net_and_x, name):
    """What the first backward pass remembers, the second and third read again: no rule may write over it."""
    net, x = net_and_x
    explain = explainer(net, name)
    together = explain(x, "top3", keep_layers=True)
    for k in range(3):
        alone = explain(x, together.target[:, k], keep_layers=True)
        assert torch.equal(together.relevance[:, k], alone.relevance)
        assert list(together.layers) == list(alone.layers)
        for layer, value in alone.layers.items():
            assert torch.equal(together.layers[layer][:, k], value)
            torch.testing.assert_close(value.flatten(1).sum(1), alone.conservation[layer], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("start", ["contrastive", "softmax-gradient"])
def test_three_classes_at_once_from_other_starts(net_and_x, start):
    net, x = net_and_x
    explain = explainer(net, start=start)
    together = explain(x, "top3")
    for k in range(3):
        assert torch.equal(together.relevance[:, k], explain(x, together.target[:, k]).relevance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", ["epsilon-1", "composite", "epsilon-plus-flat", "epsilon-gamma-box"])
def test_images_in_a_batch_have_the_maps_that_they_have_alone(net_and_x, name, dtype, tolerance):
    net, x = net_and_x
    explain = explainer(net, name, dtype)
    together = explain(x)
    assert together.relevance.dtype == dtype
    for image in range(len(x)):
        agree(together.relevance[image], explain(x[image : image + 1]).relevance[0], tolerance)


@pytest.mark.parametrize("name", RELEVANCE_CONFIGS)
def test_single_precision_is_close_to_double(net_and_x, name):
    net, x = net_and_x
    agree(explainer(net, name, torch.float32)(x).relevance, explainer(net, name)(x).relevance, 1e-3)


@pytest.mark.parametrize("lrn", ["taylor", "identity"])
def test_relevance_is_conserved_without_biases(net_and_x, lrn):
    """At the input to 1e-9 of the start value; in float64, bias = "ignore", epsilon 0."""
    net, x = net_and_x
    result = explainer(net, CONSERVING, lrn=lrn)(x, "top2")
    torch.testing.assert_close(result.conservation["input"], result.start, rtol=1e-9, atol=0)
    torch.testing.assert_close(result.relevance.sum((2, 3, 4)), result.start, rtol=1e-9, atol=0)


@pytest.mark.parametrize("rule", ["z-plus", "gamma", "alpha-beta"])
def test_other_rules_conserve_too(net_and_x, rule):
    net, x = net_and_x
    result = explainer(net, {"bias": "ignore", "kind": {"linear": rule}})(x)
    torch.testing.assert_close(result.conservation["input"], result.start, rtol=1e-9, atol=0)


@pytest.mark.parametrize("rule", ["flat", "w-square"])
def test_rules_that_ask_only_for_weights_conserve_down_to_the_first_layer(net_and_x, rule):
    """They give relevance to padding's neighbours and to zeros, so that they are used for the first layer alone."""
    net, x = net_and_x
    result = explainer(net, CONSERVING | {"position": {"first": rule}})(x)
    torch.testing.assert_close(result.conservation["input"], result.start, rtol=1e-9, atol=0)


def test_every_layer_of_a_chain_conserves():
    result = explainer(caffenet(), CONSERVING)(photos(2, (3, 67, 67)))
    assert len(result.conservation) == 24
    for total in result.conservation.values():
        torch.testing.assert_close(total, result.start, rtol=1e-9, atol=0)


def test_parallel_branches_conserve_together():
    net = googlenet()
    result = explainer(net, CONSERVING)(photos(2, (3, 32, 32)))
    last = ("10.one.1", "10.three.3", "10.five.3", "10.pool.2")  # what the first inception block joins
    torch.testing.assert_close(sum(result.conservation[name] for name in last), result.start, rtol=1e-9, atol=0)


def test_biases_absorb_relevance(net_and_x):
    net, x = net_and_x
    result = explainer(net, "epsilon")(x)
    assert float((result.conservation["input"] / result.start - 1).abs().min()) > 1e-4


def test_taylor_and_identity_differ_at_real_activations(net_and_x):
    net, x = net_and_x
    taylor, identity = (explainer(net, "epsilon-plus", lrn=lrn)(x).relevance for lrn in ("taylor", "identity"))
    assert float((taylor - identity).norm() / identity.norm()) > 0.01


def test_googlenet_conserves():
    """The real weights and a photo; LRP-0 makes its relevances a million times the start, and they still sum to it."""
    path, prototxt = shared("models/bvlc_googlenet_rebuilt.caffemodel"), shared("models/bvlc_googlenet_deploy.prototxt")
    model = load_model(path, prototxt=prototxt, preprocessing={"mean": [104.0, 117.0, 123.0]})
    with Image.open(shared("data/sample_candidates/astronaut.jpg")) as photo:
        x, _ = model.preprocess(photo)
    result = explainer(model, CONSERVING)(x)
    assert result.logits.shape == (1, 1000)
    torch.testing.assert_close(result.conservation["input"], result.start, rtol=1e-9, atol=0)


def test_kept_layers_are_at_the_outputs():
    """Names, shapes, and at a branching point the sum of what the branches send."""
    net, x = googlenet(), photos(2, (3, 32, 32))
    result = explainer(net, CONSERVING)(x, keep_layers=True)
    shapes = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: shapes.__setitem__(name, output.shape))
        for name, module in net.named_modules()
    ]
    net(x)
    for hook in hooks:
        hook.remove()
    leaves = {name for name, module in net.named_modules() if not list(module.children())}
    assert set(result.layers) == leaves | {"cat", "cat_1"}
    for name in leaves:
        assert result.layers[name].shape == shapes[name]
    torch.testing.assert_close(result.layers["9"].flatten(1).sum(1), result.start, rtol=1e-9, atol=0)
    assert set(result.conservation) == {"input", *result.layers}
    assert explainer(net)(x).layers == {}


@pytest.mark.parametrize("name", RELEVANCE_CONFIGS)
def test_no_autograd_in_the_relevance_pass(net_and_x, name, monkeypatch):
    def forbidden(*arguments, **keywords):
        raise AssertionError("autograd was used")

    for home, attribute in ((torch.autograd, "grad"), (torch.autograd, "backward"), (torch.Tensor, "backward"),
                            (torch, "enable_grad"), (torch.autograd.graph, "_engine_run_backward")):  # fmt: skip
        monkeypatch.setattr(home, attribute, forbidden)
    net, x = net_and_x
    result = explainer(net, name)(x, "top2")
    assert not result.relevance.requires_grad
    assert not result.logits.requires_grad


@pytest.mark.parametrize("name", builtin_names())
def test_an_image_of_zeros_gives_a_finite_map(net_and_x, name):
    net, x = net_and_x
    assert bool(explainer(net, name)(torch.zeros_like(x)).relevance.isfinite().all())


@pytest.mark.parametrize("name", ["epsilon", "composite", "epsilon-plus", "identity-beta-1"])
def test_an_image_of_zeros_gives_a_map_of_zeros(net_and_x, name):
    """Rules that share in proportion to the input have nothing to share, with NaN nowhere."""
    net, x = net_and_x
    relevance = explainer(net, name)(torch.zeros_like(x)).relevance
    assert torch.equal(relevance, torch.zeros_like(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_dead_net_gives_a_map_of_zeros(dtype):
    """Every weight zero: every denominator is 0, and 0/0 = 0."""
    net = caffenet()
    for parameter in net.parameters():
        parameter.data.zero_()
    for name in RELEVANCE_CONFIGS:
        relevance = explainer(net, name, dtype)(photos(1, (3, 67, 67))).relevance
        assert torch.equal(relevance, torch.zeros_like(relevance))


@pytest.mark.parametrize("name", ["gradient", "gradient-times-input"])
def test_gradient_configs_equal_autograd(net_and_x, name):
    net, x = net_and_x
    result = explainer(net, name)(x, 4)
    leaf = x.clone().requires_grad_()
    net(leaf)[:, 4].sum().backward()
    agree(result.relevance, leaf.grad * x if name == "gradient-times-input" else leaf.grad, 1e-12)


def test_predict_gives_the_logits(net_and_x):
    net, x = net_and_x
    expected = net(x).detach()
    torch.testing.assert_close(explainer(net).predict(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(explainer(net)(x).logits, expected, rtol=1e-12, atol=1e-12)


def test_channels_last_makes_no_difference(net_and_x):
    net, x = net_and_x
    explain = explainer(net)
    found = explain(x.contiguous(memory_format=torch.channels_last)).relevance
    agree(found, explain(x).relevance, 1e-12)
    assert found.is_contiguous()


def test_an_empty_batch_gives_an_empty_map():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    result = Explainer(net)(torch.zeros(0, 3, 6, 6))
    assert result.relevance.shape == (0, 3, 6, 6)


def test_half_precision_divides_small_numbers():
    """A threshold for zero that is sensible in float32 would swallow every float16."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    x = torch.rand(2, 4) + 0.1
    for dtype in (torch.float16, torch.bfloat16):
        half = Explainer(net, {"kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}, dtype=dtype)(x)
        torch.testing.assert_close(half.conservation["input"].float(), half.start.float(), rtol=0.05, atol=0)


def test_convolutions_on_a_gpu_are_not_rounded():
    """The switch is global, so it is put back, also after an error."""

    def setting():
        cudnn = torch.backends.cudnn
        return cudnn.conv.fp32_precision if hasattr(cudnn, "conv") else cudnn.allow_tf32  # torch 2.9 moved it

    before = setting()
    with pytest.raises(ValueError, match="inside"), full_precision(torch.device("cuda")):
        assert setting() in ("ieee", False)
        raise ValueError("inside")
    assert setting() == before not in ("ieee", False)
    with full_precision(torch.device("cpu")):
        assert setting() == before
    first, second = full_precision(torch.device("cuda")), full_precision(torch.device("cuda"))
    with first:  # as two threads may, the first leaves before the second does
        second.__enter__()
    assert setting() in ("ieee", False)
    second.__exit__(None, None, None)
    assert setting() == before


@pytest.mark.parametrize("name", ["epsilon", "composite", "gradient-times-input"])
def test_later_changes_of_the_model_are_not_seen(name):
    """All weights are those at construction, whichever of them were prepared or laid out anew."""
    net, x = caffenet(), photos(2, NETS["caffenet"][1])
    net.append(nn.BatchNorm1d(net(x).shape[1]).eval()).append(nn.PReLU())
    explain, untouched = (explainer(net, name) for _ in range(2))
    before = explain.predict(x)
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            tensor.mul_(3)
    for module in net.modules():
        if hasattr(module, "alpha"):
            module.alpha *= 3
    assert torch.equal(explain.predict(x), before)
    with pytest.warns(UserWarning, match="The weights of Sequential have changed"):  # it has run no batch so far
        assert torch.equal(explain(x).relevance, untouched(x).relevance)
    assert not torch.equal(explainer(net, name).predict(x), before)


@pytest.mark.parametrize("name", ["epsilon", "composite", "gradient-times-input", "gradient"])
@pytest.mark.parametrize("mode", [torch.autocast("cpu"), torch.inference_mode(), torch.enable_grad()], ids=type)
def test_modes_that_the_caller_switched_on_change_nothing(name, mode):
    net, shape = caffenet(), NETS["caffenet"][1]
    explain = explainer(net, name, torch.float32)
    expected = explain(photos(2, shape))
    with mode:
        found, new = explain(photos(2, shape)), explainer(net, name, torch.float32)(photos(2, shape))
        logits = explain.predict(photos(2, shape))
    for result in (found, new):
        assert torch.equal(result.relevance, expected.relevance)
        assert not result.relevance.requires_grad
    assert torch.equal(logits, expected.logits)


@pytest.mark.parametrize("device", ["cuda:99", "mps", "nonsense"])
def test_a_missing_device_is_refused(device):
    with pytest.raises(UsageError, match=f"The device '{device}' cannot be used here: ."):
        explainer(caffenet(), device=device)


def test_z_box_without_a_pixel_range_is_refused():
    with pytest.raises(ConfigError, match="pixel_range to the Explainer"):
        Explainer(caffenet(), "epsilon-gamma-box")


@pytest.mark.parametrize("settings", [{}, {"lrn": "identity"}, {"start": "contrastive"}])
@pytest.mark.parametrize("name", ["beta-1", "epsilon-gamma-box", "gradient"])
def test_another_config_of_one_explainer_gives_the_maps_of_a_new_one(net_and_x, name, settings):
    net, x = net_and_x
    first = explainer(net, "epsilon")
    before = first(x).relevance
    other = first.with_config(name, **settings)
    assert other.graph is first.graph
    assert (other.composite.title, first.composite.title) == (name, "epsilon")
    assert torch.equal(other(x).relevance, explainer(net, name, **settings)(x).relevance)
    assert torch.equal(first(x).relevance, before)
    assert torch.equal(first.predict(x), other.predict(x))


def test_explainers_of_one_graph_keep_their_own_bounds():
    """What z-box prepares depends on its bounds."""
    net, x = caffenet(), photos(2, NETS["caffenet"][1])
    boxes = [{"position": {"first": {"rule": "z-box", "low": -low, "high": 300}}} for low in (200, 400)]
    first = explainer(net, boxes[0])
    second = first.with_config(boxes[1])
    for explain, box in ((first, boxes[0]), (second, boxes[1])):
        assert torch.equal(explain(x).relevance, explainer(net, box)(x).relevance)
    assert not torch.equal(first(x).relevance, second(x).relevance)


def test_another_config_that_does_not_fit_is_refused():
    first = Explainer(caffenet(), "epsilon")
    with pytest.raises(ConfigError, match="pixel_range to the Explainer"):
        first.with_config("epsilon-gamma-box")
    with pytest.raises(UsageError, match="The start 'on' is not known"):
        first.with_config("epsilon", start="on")


def test_what_is_overwritten_is_planned_once(monkeypatch):
    """For the maps and for the logits, and for another config its maps only; no pass plans anew."""
    planned = []
    plan = propagate.overwritten
    monkeypatch.setattr(propagate, "overwritten", lambda graph, rules: planned.append(rules) or plan(graph, rules))
    x = photos(1, NETS["caffenet"][1])
    first = explainer(caffenet(), "epsilon")
    assert [rules is None for rules in planned] == [True, False]
    second = first.with_config("beta-1")
    assert len(planned) == 3
    for explain in (first, second):
        explain(x, "top2")
        explain.predict(x)
    assert len(planned) == 3
