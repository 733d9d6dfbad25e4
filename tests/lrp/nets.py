"""Small nets with random weights in the layouts of the nets that LRN was made for."""

import torch
from torch import nn

from lrpcli import LocalResponseNorm


def norm(alpha=1e-4):
    return LocalResponseNorm(5, alpha, 0.75)


def strengthen(net, bias=0.3):
    """Weights that keep activations at the size of the input, and biases that matter."""
    generator = torch.Generator().manual_seed(11)
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            scale = (2.0 / layer.weight[0].numel()) ** 0.5
            layer.weight.data = torch.randn(layer.weight.shape, generator=generator) * scale
            layer.bias.data = torch.randn(layer.bias.shape, generator=generator) * bias
    return net.double().eval()


def caffenet(width=4):
    """Pooling before LRN, groups in conv2, 4 and 5, inputs (N, 3, 67, 67)."""
    w = width
    return strengthen(nn.Sequential(
        nn.Conv2d(3, 3 * w, 11, 4), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True), norm(),
        nn.Conv2d(3 * w, 8 * w, 5, padding=2, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True),
        norm(),
        nn.Conv2d(8 * w, 12 * w, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(12 * w, 12 * w, 3, padding=1, groups=2), nn.ReLU(inplace=True),
        nn.Conv2d(12 * w, 8 * w, 3, padding=1, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Flatten(), nn.Linear(8 * w, 128), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(128, 64),
        nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(64, 10),
    ))  # fmt: skip


class Inception(nn.Module):
    """Four branches, joined."""

    def __init__(self, inputs, width):
        super().__init__()
        w = width
        self.one = nn.Sequential(nn.Conv2d(inputs, 2 * w, 1), nn.ReLU(inplace=True))
        self.three = nn.Sequential(
            nn.Conv2d(inputs, w, 1), nn.ReLU(inplace=True), nn.Conv2d(w, 2 * w, 3, padding=1), nn.ReLU(inplace=True)
        )
        self.five = nn.Sequential(
            nn.Conv2d(inputs, w, 1), nn.ReLU(inplace=True), nn.Conv2d(w, w, 5, padding=2), nn.ReLU(inplace=True)
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(inputs, w, 1), nn.ReLU(inplace=True))

    def forward(self, x):
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


def googlenet(width=8):
    """Pooling before the first LRN and after the second, inception blocks, average pooling; inputs (N, 3, 32, 32)."""
    w = width
    return strengthen(nn.Sequential(
        nn.Conv2d(3, 2 * w, 7, 2, 3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True), norm(),
        nn.Conv2d(2 * w, 2 * w, 1), nn.ReLU(inplace=True), nn.Conv2d(2 * w, 4 * w, 3, padding=1), nn.ReLU(inplace=True),
        norm(), nn.MaxPool2d(3, 2, ceil_mode=True), Inception(4 * w, w), Inception(6 * w, w),
        nn.AvgPool2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(6 * w, 10),
    ))  # fmt: skip


NETS = {"caffenet": (caffenet, (3, 67, 67)), "googlenet": (googlenet, (3, 32, 32))}


def photos(count, shape, seed=0):
    """Inputs (N, C, H, W) of the size that Caffe's nets see: 0..255 less the mean."""
    return 255 * torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 110
