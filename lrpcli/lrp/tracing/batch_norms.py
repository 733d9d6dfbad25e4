"""Normalisation with fixed statistics, which is an affine map: functional.batch_norm, and the map itself."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lrpcli.lrp.layers.elementwise import Affine
from lrpcli.lrp.tracing.node import Node

ARGUMENTS = ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
"""What functional.batch_norm takes after its input."""
ATEN_ARGUMENTS = ("weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
"""The same for torch.batch_norm, and for what torch.export writes."""


def batch_norm(node: Node) -> nn.BatchNorm2d:
    """The module for a call; UnsupportedLayer if its numbers depend on the input, or on the images beside it."""
    node.only_input()
    names = ARGUMENTS if node.traced.target is functional.batch_norm else ATEN_ARGUMENTS
    given: dict[str, Any] = {name: node.get(place, name) for place, name in enumerate(names, 1)}
    mean, variance, weight, bias = (given[name] for name in ARGUMENTS[:4])
    if given["training"] or mean is None or variance is None:
        raise node.unsupported("It takes the statistics of the batch, so that an image depends on those beside it.")
    module = nn.BatchNorm2d(len(mean), 1e-5 if given["eps"] is None else given["eps"], affine=False, device="meta")
    module.running_mean, module.running_var = mean, variance
    for name, tensor in (("weight", weight), ("bias", bias)):
        module._parameters[name] = None if tensor is None else nn.Parameter(tensor.detach(), requires_grad=False)
    return module.eval()


def fixed_norm(mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Affine:
    """weight (x - mean) / sqrt(variance + eps) + bias per channel, with numbers in float64."""
    scale = 1 / torch.sqrt(variance.detach().double() + eps)
    scale = scale if weight is None else scale * weight.detach().double()
    shift = -mean.detach().double() * scale
    return Affine(scale, shift if bias is None else shift + bias.detach().double(), per_channel=True)
