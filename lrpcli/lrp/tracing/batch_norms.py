"""functional.batch_norm with fixed statistics: the module that it stands for."""

from typing import Any

from torch import nn
from torch._ops import OpOverload

from lrpcli.lrp.tracing.node import Node

ARGUMENTS = ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
"""What functional.batch_norm takes after its input."""
ATEN_ARGUMENTS = ("weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
"""The same for what torch.export writes."""


def batch_norm(node: Node) -> nn.BatchNorm2d:
    """The module for a call; UnsupportedLayer if its numbers depend on the input, or on the images beside it."""
    node.only_input()
    names = ATEN_ARGUMENTS if isinstance(node.traced.target, OpOverload) else ARGUMENTS
    given: dict[str, Any] = {name: node.get(place, name) for place, name in enumerate(names, 1)}
    mean, variance, weight, bias = (given[name] for name in ARGUMENTS[:4])
    if given["training"] or mean is None or variance is None:
        raise node.unsupported("It takes the statistics of the batch, so that an image depends on those beside it.")
    module = nn.BatchNorm2d(len(mean), 1e-5 if given["eps"] is None else given["eps"], affine=False, device="meta")
    module.running_mean, module.running_var = mean, variance
    for name, tensor in (("weight", weight), ("bias", bias)):
        module._parameters[name] = None if tensor is None else nn.Parameter(tensor.detach(), requires_grad=False)
    return module.eval()
