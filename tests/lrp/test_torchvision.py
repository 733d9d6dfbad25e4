"""torchvision's nets with random weights: traced, equal in the forward pass, and conserving."""

import copy

import pytest
import torch
from torchvision import models

from lrpcli import Explainer

pytestmark = pytest.mark.slow

NETS = {
    "alexnet": (models.alexnet, 64, {}),
    "vgg11": (models.vgg11, 32, {}),
    "googlenet": (models.googlenet, 64, {"init_weights": False, "aux_logits": True, "transform_input": True}),
    "resnet18": (models.resnet18, 64, {}),
    "densenet121": (models.densenet121, 32, {}),
    "squeezenet1_1": (models.squeezenet1_1, 64, {}),
    "mobilenet_v3_small": (models.mobilenet_v3_small, 64, {}),
    "efficientnet_b0": (models.efficientnet_b0, 64, {}),
    "convnext_tiny": (models.convnext_tiny, 64, {}),
    "inception_v3": (models.inception_v3, 75, {"init_weights": False, "aux_logits": True, "transform_input": True}),
    "shufflenet_v2_x0_5": (models.shufflenet_v2_x0_5, 64, {}),
}
CONSERVING = {"bias": "ignore", "kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}


def randomise(net):
    """The net in float64 with BatchNorm statistics as after some training."""
    generator = torch.Generator().manual_seed(0)
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
        if name.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return net.double()


def without_biases(net):
    """LRP-0 that ignores biases divides by sums near zero wherever a bias outweighs them: here are none."""
    for name, tensor in [*net.named_buffers(), *net.named_parameters()]:
        if name.endswith(("running_mean", "bias")):
            tensor.data.zero_()
    return net


@pytest.mark.parametrize("name", NETS)
def test_net(name):
    build, size, settings = NETS[name]
    torch.manual_seed(0)
    net = randomise(build(weights=None, num_classes=10, **settings))
    training = [module.training for module in net.modules()]
    x = torch.randn(1, 3, size, size, dtype=torch.float64)
    logits = Explainer(net, CONSERVING, dtype=torch.float64).predict(x)
    assert [module.training for module in net.modules()] == training
    with torch.no_grad():
        expected = net.eval()(x)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    result = Explainer(without_biases(net), CONSERVING, dtype=torch.float64)(x)
    torch.testing.assert_close(result.conservation["input"], result.start, rtol=1e-6, atol=0)
    assert float(result.start.abs()) > 0


@pytest.mark.parametrize(("name", "size"), [("googlenet", 64), ("inception_v3", 75)])
def test_transform_input_is_preprocessing(name, size):
    """The map of the same net that is fed with what transform_input makes of the image; z-box knows its range, too."""
    torch.manual_seed(0)
    build = NETS[name][0]
    net = randomise(build(weights=None, num_classes=10, init_weights=False, aux_logits=False, transform_input=True))
    x = torch.rand(1, 3, size, size, dtype=torch.float64) * 4 - 2
    low, high = (torch.full((1, 3, 1, 1), bound, dtype=torch.float64) for bound in (-2.2, 2.7))
    with torch.no_grad():
        y, bounds = net._transform_input(x), tuple(net._transform_input(bound) for bound in (low, high))
    configs = ("composite", "epsilon-plus-flat", "epsilon-gamma-box", "gradient-times-input")
    inside = Explainer(net, configs[0], dtype=torch.float64, pixel_range=(low, high))
    plain = copy.deepcopy(net)
    plain.transform_input = False
    outside = Explainer(plain, configs[0], dtype=torch.float64, pixel_range=bounds)
    for config in configs:
        within = inside.with_config(config)(x, target=0)
        expected = outside.with_config(config)(y, target=0)
        torch.testing.assert_close(within.logits, expected.logits, rtol=1e-12, atol=0)
        largest = float(expected.relevance.abs().max())
        torch.testing.assert_close(within.relevance, expected.relevance, rtol=0, atol=1e-9 * largest)
