"""Nets for the tests of the Python face."""

import torch
from torch import nn

from tests.photos import TINY

TINY_NET = {"model": TINY, "input_shape": (3, 32, 32), "preprocessing": "caffe"}
"""Keywords of explain for Caffe's layout in small, with ten classes."""


def small_net(classes=3, seed=0):
    """A net with a residual branch, so that layers lie beside each other."""
    torch.manual_seed(seed)
    return Residual(classes).eval()


class Residual(nn.Module):
    """conv1, then conv2 beside a skip connection, then fc."""

    def __init__(self, classes):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 8 * 8, classes)

    def forward(self, x):
        x = self.conv1(x).relu()
        x = (x + self.conv2(x)).relu()
        return self.fc(x.flatten(1))
