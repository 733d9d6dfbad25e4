"""Normalisation inside a model gives the maps of the same model with it outside."""

import pytest
import torch
import torchvision
from torch import nn

from lrpcli import Explainer
from lrpcli.errors import ConfigError
from lrpcli.lrp.composites.composite import builtin_names
from lrpcli.lrp.rules import RULES
from lrpcli.lrp.tracing.translate import build_graph
from tests.lrp.helpers import Call, agree, image
from tests.lrp.plain_operations import OLD

SIDE = 8
X = 255 * torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LOW, HIGH = torch.zeros(1, 3, 1, 1).double(), torch.full((1, 3, 1, 1), 255.0).double()
MEAN = torch.tensor([0.485, 0.456, 0.406]).double().view(1, 3, 1, 1)
STD = torch.tensor([0.229, -0.224, 0.225]).double().view(1, 3, 1, 1)
"""One of the factors is negative, so that low and high change places there."""
FIRST = ("flat", "w-square", "z-box", "sign", "epsilon", "gamma", "gradient-times-input", "gradient")
CONFIGS = [
    *(name for name in builtin_names() if name != "gradient"),
    *({"position": {"first": {"rule": rule}}} for rule in FIRST),
]


class Normalize(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", MEAN)
        self.register_buffer("std", STD)

    def forward(self, x):
        return (x - self.mean) / self.std


def batch_norm():
    layer = nn.BatchNorm2d(3).eval().double()
    layer.running_mean.copy_(100 * MEAN.flatten())
    layer.running_var.copy_(STD.flatten().square())
    layer.weight.data.copy_(torch.tensor([1.0, -2.0, 0.5]))
    return layer


def transform_input(x):
    """torchvision's GoogLeNet and Inception."""
    first = torch.unsqueeze(x[:, 0], 1) * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
    second = torch.unsqueeze(x[:, 1], 1) * (0.224 / 0.5) + (0.456 - 0.5) / 0.5
    third = torch.unsqueeze(x[:, 2], 1) * (0.225 / 0.5) + (0.406 - 0.5) / 0.5
    return torch.cat((first, second, third), 1)


def by_chunks(x):
    parts = x.chunk(3, 1)
    return torch.cat([parts[0] * 1.0, parts[1] * -2.0, parts[2] * 0.5], 1)


def as_kornia(x):
    """kornia.enhance.normalize."""
    mean = torch.as_tensor(MEAN.view(1, 3), device=x.device, dtype=x.dtype)[..., None]
    std = torch.as_tensor(STD.view(1, 3), device=x.device, dtype=x.dtype)[..., None]
    return ((x.view(x.shape[0], x.shape[1], -1) - mean) / std).view(x.shape)


MAPS = {
    "module with buffers": Normalize(),
    "to the device": lambda x: (x - MEAN.to(x.device)) / STD.to(device=x.device, dtype=x.dtype),
    "to the type": lambda x: (x - MEAN.type_as(x)) / STD.to(x),
    "made in forward": lambda x: x - torch.tensor([0.1, 0.2, 0.3], device=x.device, dtype=x.dtype).view(3, 1, 1),
    "expand_as": lambda x: (x - MEAN.expand_as(x)) / STD.expand_as(x),
    "by a size": lambda x: (x - x.size(1)) / x.dim(),
    "kornia": as_kornia,
    "torchvision": torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "first BatchNorm": batch_norm(),
    "transform_input": transform_input,
    "by chunks": by_chunks,
    "/ 255": lambda x: x / 255,
    "2 x - 1": lambda x: x * 2 - 1,
    "255 - x": lambda x: 255 - x,
    "methods": lambda x: x.div(255.0).sub(MEAN),
    "in place": lambda x: x.clone().sub_(MEAN).div_(STD),
    "mean image": lambda x: x - torch.arange(3.0 * SIDE * SIDE).view(3, SIDE, SIDE).double() / 10,
}
if OLD:
    for made in ("to the device", "made in forward", "kornia"):
        del MAPS[made]


def body():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(16, 3),
    ).double().eval()  # fmt: skip


def inside(first, net):
    return nn.Sequential(first if isinstance(first, nn.Module) else Call(first), net)


def ends(first):
    """The pixel range after the map, worked out by hand: both ends, the smaller one first."""
    with torch.no_grad():
        low, high = first(LOW.expand(1, 3, SIDE, SIDE)), first(HIGH.expand(1, 3, SIDE, SIDE))
    return torch.minimum(low, high), torch.maximum(low, high)


def explain(net, config, x, pixel_range):
    return Explainer(net, config, dtype=x.dtype, device="cpu", pixel_range=pixel_range)(x, target=0)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_inside_and_outside_give_the_same_map(config, name):
    first, net = MAPS[name], body()
    with torch.no_grad():
        outside = explain(net, config, first(X), ends(first))
    within = explain(inside(first, net), config, X, (LOW, HIGH))
    agree(within.relevance, outside.relevance, 1e-12)
    agree(within.logits, outside.logits, 1e-12)


@pytest.mark.parametrize("name", MAPS)
def test_the_plain_gradient_is_that_of_the_pixels(name):
    net, x = inside(MAPS[name], body()), X.clone().requires_grad_()
    (expected,) = torch.autograd.grad(net(x)[:, 0].sum(), x)
    agree(explain(net, "gradient", X, (LOW, HIGH)).relevance, expected, 1e-12)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_moved_channels_and_a_crop_move_the_map(config):
    """From RGB to BGR, and the border cut off: the pixel range goes along, the border gets nothing."""
    order = torch.tensor([2, 1, 0])
    scale = torch.tensor([1.0, 2.0, -3.0]).double().view(1, 3, 1, 1)
    first = lambda x: x[:, order, 1:-1, 1:-1] * scale - MEAN  # noqa: E731
    net = body()
    outside = explain(net, config, first(X), ends(first)).relevance
    within = explain(inside(first, net), config, X, (LOW, HIGH)).relevance
    assert not within[:, :, 0].any() and not within[..., -1].any()
    agree(within[:, order, 1:-1, 1:-1], outside, 1e-12)


def test_one_range_for_all_channels_is_enough():
    config = {"position": {"first": "z-box"}}
    low, high = torch.tensor(0.0).double(), torch.tensor(255.0).double()
    net = inside(Normalize(), body())
    agree(explain(net, config, X, (low, high)).relevance, explain(net, config, X, (LOW, HIGH)).relevance, 1e-15)


@pytest.mark.parametrize(("layer", "shape"), [
    (nn.Conv1d(3, 4, 3), (2, 3, 9)), (nn.Conv3d(3, 4, 2), (2, 3, 4, 5, 6)), (nn.Linear(3, 4), (2, 5, 3)),
])  # fmt: skip
def test_signals_and_volumes_are_normalised_too(layer, shape):
    axes = (1, 3, *[1] * (len(shape) - 2)) if isinstance(layer, nn.modules.conv._ConvNd) else (1, 1, 3)
    mean, std = MEAN.view(axes), STD.view(axes)
    net = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)).double()
    x = torch.rand(shape, dtype=torch.float64)
    with torch.no_grad():
        net(x)
    low, high = torch.zeros(axes).double(), torch.ones(axes).double()
    ends = [(bound - mean) / std for bound in (low, high)]
    config = {"position": {"first": "z-box"}}
    outside = explain(net, config, (x - mean) / std, (torch.minimum(*ends), torch.maximum(*ends))).relevance
    agree(explain(inside(lambda x: (x - mean) / std, net), config, x, (low, high)).relevance, outside, 1e-12)


@pytest.mark.parametrize("config", ["epsilon-plus-flat", "epsilon-gamma-box", "composite"])
def test_a_pixel_that_is_multiplied_by_zero_gets_nothing(config):
    """What a constant contributes is no pixel's; the others have the map that they have outside."""
    norm = batch_norm()
    norm.weight.data[1] = 0.0
    net = body()
    with torch.no_grad():
        outside = explain(net, config, norm(X), ends(norm)).relevance
    within = explain(inside(norm, net), config, X, (LOW, HIGH)).relevance
    assert not within[:, 1].any()
    agree(within[:, [0, 2]], outside[:, [0, 2]], 1e-12)


def test_a_channel_that_is_multiplied_by_a_zero_of_its_device_gets_nothing():
    mask = torch.tensor([1.0, 0.0, 2.0]).double().view(1, 3, 1, 1)
    within = explain(inside(lambda x: x * mask.to(x.device), body()), "epsilon-plus-flat", X, (LOW, HIGH)).relevance
    agree(within, explain(inside(lambda x: x * mask, body()), "epsilon-plus-flat", X, (LOW, HIGH)).relevance, 1e-12)
    assert not within[:, 1].any()


def test_a_mask_that_depends_on_the_pixels_is_no_preprocessing():
    net = inside(lambda x: x * (x > 100) - (x > 100).to(x.dtype), body())
    assert "preprocessing" not in {layer.kind for layer in build_graph(net).layers}


def test_a_grey_image_gets_what_all_its_channels_get():
    x, net = X[:, :1], body()
    outside = explain(net, "epsilon-plus-flat", (x - MEAN) / STD, None).relevance
    agree(
        explain(inside(Normalize(), net), "epsilon-plus-flat", x, None).relevance, outside.sum(1, keepdim=True), 1e-12
    )


def test_a_pixel_that_is_read_twice_gets_both_shares():
    """Once normalised, once as it is: each reader's relevance is that of the pixel, and z-box has each one's range."""
    torch.manual_seed(0)
    one, two = (nn.Conv2d(3, 4, 3).double() for _ in range(2))
    head = nn.Linear(4, 2).double()
    both = lambda a, b: torch.relu(a + b).mean((2, 3))  # noqa: E731
    net = Call(lambda self, x: self.fc(both(self.one((x - MEAN) / STD), self.two(x))), one=one, two=two, fc=head)
    apart = Call(lambda self, x: self.fc(both(self.one(x[:, :3]), self.two(x[:, 3:]))), one=one, two=two, fc=head)
    config = {"name": {"one": "z-box", "two": {"rule": "z-box", "low": 0.0, "high": 255.0}}}
    low, high = ends(Normalize())
    spread = {"name": {"one": {"rule": "flat"}, "two": "flat"}}
    doubled = torch.cat([(X - MEAN) / STD, X], 1)
    found = explain(apart, spread, doubled, None).relevance
    agree(explain(net, spread, X, None).relevance, found[:, :3] + found[:, 3:], 1e-12)
    rules = {item.layer.name: item.rule for item in Explainer(net, config, pixel_range=(LOW, HIGH)).assignments}
    torch.testing.assert_close(rules["one"].low.double(), low[:, :, :1, :1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(rules["one"].high.double(), high[:, :, :1, :1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("matrix", [
    nn.Conv2d(3, 3, 1),
    Call(lambda x: x[:, :1] * 0.3 + x[:, 1:2] * 0.6 + x[:, 2:] * 0.1),
], ids=["convolution", "sum"])  # fmt: skip
def test_a_map_that_mixes_channels_is_no_preprocessing(matrix):
    """A matrix from RGB to YUV is a layer like others; the range behind a sum is not known."""
    graph = build_graph(nn.Sequential(matrix, Call(lambda x: x - 1.0), nn.Conv2d(3, 2, 3), nn.Flatten()))
    kinds = [layer.kind for layer in graph.layers[1:]]
    assert kinds[-3:] == ["affine", "convolution", "view"]
    first = next(layer for layer in graph.layers if layer.first)
    assert (first.name == "0") == isinstance(matrix, nn.Conv2d)


def test_a_range_that_depends_on_the_place_is_asked_for():
    """Behind a flatten, each pixel's channel depends on the size of the images."""
    flat = nn.Sequential(Normalize(), nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2)).double()
    rows = nn.Sequential(Normalize(), nn.Flatten(2), nn.Conv1d(3, 2, 3), nn.Flatten()).double()
    padded = nn.Sequential(Normalize(), nn.ZeroPad2d(1), nn.Conv2d(3, 2, 3), nn.Flatten()).double()
    for net, low, high in ((flat, LOW, HIGH), (flat, LOW[0, 0, 0, 0], HIGH[0, 0, 0, 0]), (padded, LOW, HIGH)):
        with pytest.raises(ConfigError, match="the range of its input, which is not known here; give low and high"):
            explain(net, {"position": {"first": "z-box"}}, X, (low, high))
    assert explain(rows, {"position": {"first": "z-box"}}, X, (LOW, HIGH)).relevance.isfinite().all()


def test_only_the_plain_gradient_is_another_rule_for_it():
    assert set(RULES["preprocessing"]) == {"default", "gradient"}
    net = inside(Normalize(), body())
    for config, expected in (("gradient", "gradient"), ("gradient-times-input", "default"), ("composite", "default")):
        assignments = Explainer(net, config, dtype=torch.float64, pixel_range=(LOW, HIGH)).assignments
        assert {item.rule_name for item in assignments if item.layer.kind == "preprocessing"} == {expected}


def test_a_batch_norm_behind_a_layer_is_no_preprocessing():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), batch_norm(), nn.Flatten()).double()
    assert "preprocessing" not in {layer.kind for layer in build_graph(net).layers}


def test_a_constant_that_is_added_later_stays_a_bias():
    """The same z-rule as for a BatchNorm's shift, and conserved where biases are ignored, also where the input is 0."""
    x = image(2, 3, 4, 4)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), Call(lambda x: x * 2 + 1), nn.Flatten(), nn.Linear(64, 2))
    result = explain(net.double(), {"bias": "ignore", "kind": {"linear": {"rule": "epsilon", "epsilon": 0.0}}}, x, None)
    torch.testing.assert_close(result.conservation["input"], result.start, rtol=1e-9, atol=0)
