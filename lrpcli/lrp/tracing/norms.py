"""Layer, group, instance and root mean square normalisation, as modules and as functions -> operations."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from lrpcli.lrp.layers.call import Call
from lrpcli.lrp.layers.layer_norm import GroupNorm, LayerNorm
from lrpcli.lrp.operation import Operation
from lrpcli.lrp.tracing.batch_norms import fixed_norm
from lrpcli.lrp.tracing.node import Node, Translated
from lrpcli.lrp.tracing.weights import fixed

INSTANCE_NORMS = {nn.InstanceNorm1d: 3, nn.InstanceNorm2d: 4, nn.InstanceNorm3d: 5}
"""Modules and how many axes their inputs have: with one less they take no batch."""
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, *INSTANCE_NORMS)
NATIVE = {"native_layer_norm", "native_group_norm", "_fused_rms_norm"}
"""Operators that return (y, what it was divided by, ...)."""
ARGUMENTS = ("running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps")
"""What functional.instance_norm takes after its input."""
ATEN_ARGUMENTS = ("weight", "bias", "running_mean", "running_var", "use_input_stats", "momentum", "eps")
"""The same for torch.instance_norm, and for what torch.export writes."""


def norm_module(module: Any) -> Operation:
    """The operation of one of NORMS."""
    weight, bias = (_parameter(module, name) for name in ("weight", "bias"))
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        centred = isinstance(module, nn.LayerNorm)
        return LayerNorm(tuple(module.normalized_shape), weight, bias, module.eps, centred=centred)
    if isinstance(module, nn.GroupNorm):
        return GroupNorm(module.num_groups, weight, bias, module.eps)
    if module.track_running_stats and module.running_mean is not None:
        return fixed_norm(module.running_mean, module.running_var, weight, bias, module.eps)
    dimensions = next(count for kind, count in INSTANCE_NORMS.items() if isinstance(module, kind))
    return GroupNorm(None, weight, bias, module.eps, dimensions=dimensions)


def _parameter(module: nn.Module, name: str) -> Tensor | None:
    value: Tensor | None = getattr(module, name, None)
    return None if value is None else value.detach()


def layer_norm(node: Node) -> Translated:
    """functional.layer_norm and the operators of its name."""
    weight, bias = fixed(node, 2, "weight"), fixed(node, 3, "bias")
    return _over_axes(node, LayerNorm(_sizes(node), weight, bias, node.get(4, "eps", 1e-5)))


def rms_norm(node: Node) -> Translated:
    """functional.rms_norm and the operators of its name."""
    weight = fixed(node, 2, "weight")
    return _over_axes(node, LayerNorm(_sizes(node), weight, None, node.get(3, "eps"), centred=False))


def _over_axes(node: Node, operation: LayerNorm) -> Translated:
    operation.returns_more = node.label in NATIVE
    return node.layer(operation, node.first())


def _sizes(node: Node) -> tuple[int, ...] | Call:
    """The sizes of the normalised axes, or a Call that gives them from those that are read off other tensors."""
    shape = node.get(1, "normalized_shape")
    call = Call(_flat, node.placed((shape,)), {})
    return call if node.scalars() else call()


def _flat(shape: Any) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(int(size) for size in shape)


def group_norm(node: Node) -> Translated:
    """functional.group_norm and the operator of its name."""
    groups, eps = node.get(1, "num_groups"), node.get(4, "eps", 1e-5)
    return _of_channels(node, groups, fixed(node, 2, "weight"), fixed(node, 3, "bias"), eps)


def native_group_norm(node: Node) -> Translated:
    """What torch.export makes of group_norm by its decompositions."""
    groups, eps = node.get(6, "group"), node.get(7, "eps")
    return _of_channels(node, groups, fixed(node, 1, "weight"), fixed(node, 2, "bias"), eps)


def _of_channels(node: Node, groups: Any, weight: Tensor | None, bias: Tensor | None, eps: float) -> Translated:
    if not isinstance(groups, int):
        raise node.unsupported("Its number of groups must be fixed.")
    operation = GroupNorm(groups, weight, bias, eps)
    operation.returns_more = node.label in NATIVE
    return node.layer(operation, node.first())


def instance_norm(node: Node) -> Translated:
    """functional.instance_norm and the operators of its name; with fixed statistics it is an affine map."""
    names = ARGUMENTS if node.traced.target is functional.instance_norm else ATEN_ARGUMENTS
    places = {name: place for place, name in enumerate(names, 1)}
    mean, variance, weight, bias = (fixed(node, places[name], name) for name in ARGUMENTS[:4])
    eps = node.get(7, "eps", 1e-5)
    if node.get(5, "use_input_stats", True):
        return node.layer(GroupNorm(None, weight, bias, eps), node.first())
    if mean is None or variance is None:
        raise node.unsupported("It has neither statistics of its input nor fixed ones.")
    return node.layer(fixed_norm(mean, variance, weight, bias, eps), node.first())
