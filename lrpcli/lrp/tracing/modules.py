"""Modules of torch.nn -> operations. What is not listed here is refused by name, or traced into."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from lrpcli.lrp.layers.call import Place
from lrpcli.lrp.layers.elementwise import Activation, Affine, Rectifier, unchanged
from lrpcli.lrp.layers.linear import FullyConnected
from lrpcli.lrp.layers.normalization import LocalResponseNorm, NormalizationOperation
from lrpcli.lrp.layers.pooling import AdaptiveAveragePool, AdaptiveMaxPool, AveragePool, MaxPool
from lrpcli.lrp.layers.products import Softmax
from lrpcli.lrp.layers.reductions import AnyMaxPool, LinearMap
from lrpcli.lrp.layers.views import Pad, View
from lrpcli.lrp.operation import Operation
from lrpcli.lrp.tracing.batch_norms import fixed_norm
from lrpcli.lrp.tracing.functions import gated_linear_unit
from lrpcli.lrp.tracing.node import Node, Translated
from lrpcli.lrp.tracing.norms import NORMS, norm_module
from lrpcli.lrp.tracing.resampling import indexed_adaptive_max_pool, indexed_max_pool, pair, resized
from lrpcli.lrp.tracing.weights import convolved

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Identity)
NONNEGATIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid)
ACTIVATIONS = (
    *NONNEGATIVE, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh,
    nn.Softplus, nn.Hardtanh, nn.Hardswish, nn.Softsign, nn.LogSigmoid, nn.Threshold, nn.Hardshrink, nn.Softshrink,
    nn.Tanhshrink,
)  # fmt: skip
SOFTMAXES = (nn.Softmax, nn.LogSoftmax, nn.Softmax2d)
MAX_POOLINGS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
ADAPTIVE_MAX_POOLINGS = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
AVERAGE_POOLINGS = (nn.AvgPool1d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool3d)
"""Those that have no kernel of their own for the way back."""
POOLINGS = (*MAX_POOLINGS, *ADAPTIVE_MAX_POOLINGS, *AVERAGE_POOLINGS, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
NORMALIZATIONS = (LocalResponseNorm, nn.LocalResponseNorm)
PADDINGS = (
    nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d,
)  # fmt: skip
VIEWS = (
    nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Unfold, nn.ReflectionPad1d,
    nn.ReflectionPad2d, nn.ReflectionPad3d, nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d,
    nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d,
)  # fmt: skip
UPSAMPLINGS = (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
OTHERS = (nn.Linear, nn.Fold, nn.GLU)
REFUSALS = {
    "LPPool1d": "Pool by the mean or the maximum.", "LPPool2d": "Pool by the mean or the maximum.",
    "MaxUnpool2d": "Upsample with torch.nn.Upsample.", "FractionalMaxPool2d": "It is random.",
}  # fmt: skip
LEAVES = (
    *CONVOLUTIONS, *BATCH_NORMS, *NORMS, *DROPOUTS, *ACTIVATIONS, *SOFTMAXES, *POOLINGS, *NORMALIZATIONS, *PADDINGS,
    *VIEWS, *UPSAMPLINGS, *OTHERS,
)  # fmt: skip

HARMLESS = {"extra_repr", "reset_parameters", "reset_running_stats", "_load_from_state_dict", "_reset_parameters"}
"""Methods of layers that do not compute."""


def is_leaf(module: nn.Module) -> bool:
    """Whether tracing stops at this module: a known layer, or a subclass that computes as it does."""
    if "forward" in vars(module):
        return False
    if is_normalize(module):
        return True
    for known in LEAVES:
        if isinstance(module, known):
            return all(getattr(type(module), name) is getattr(known, name) for name in _methods(known))
    return module.__module__.startswith("torch.nn.modules") and not isinstance(
        module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    )


@cache
def _methods(known: type[nn.Module]) -> frozenset[str]:
    """The methods of a layer on which its result may depend."""
    bases = known.__mro__[: known.__mro__.index(nn.Module)]
    names = {
        name for base in bases for name, value in vars(base).items() if callable(value) or isinstance(value, property)
    }
    return frozenset(name for name in names - HARMLESS if not name.startswith("__"))


def translate_module(module: nn.Module, node: Node) -> Translated:
    """The operation of a module that is called; UnsupportedLayer names it, its type and what to do."""
    if isinstance(module, CONVOLUTIONS):
        return convolved(node, module)
    if isinstance(module, nn.GLU):
        return gated_linear_unit(node, module.dim)
    return node.layer(_operation(module, node))


def _operation(module: nn.Module, node: Node) -> Operation:
    for kinds, make in OPERATIONS:
        if isinstance(module, kinds):
            return make(module)
    if isinstance(module, BATCH_NORMS):
        return _batch_norm(module, node)
    if is_normalize(module):
        return _normalize(module)
    raise node.unsupported(REFUSALS.get(node.label, ""))


def _pooling(module: Any) -> Operation:
    if isinstance(module, MAX_POOLINGS + ADAPTIVE_MAX_POOLINGS):
        pool = _max_pool(module)
        pool.returns_indices = bool(module.return_indices)
        return pool
    if isinstance(module, AVERAGE_POOLINGS):
        return LinearMap(module, signed=(getattr(module, "divisor_override", None) or 1) < 0)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return AdaptiveAveragePool(module.output_size)
    geometry = pair(module.kernel_size), pair(module.stride or module.kernel_size), pair(module.padding)
    return AveragePool(*geometry, module.ceil_mode, module.count_include_pad, module.divisor_override)


def _max_pool(module: Any) -> AnyMaxPool:
    if isinstance(module, nn.AdaptiveMaxPool2d):
        return AdaptiveMaxPool(module.output_size)
    if isinstance(module, ADAPTIVE_MAX_POOLINGS):
        return indexed_adaptive_max_pool(1 if isinstance(module, nn.AdaptiveMaxPool1d) else 3, module.output_size)
    stride = module.stride or module.kernel_size
    if isinstance(module, nn.MaxPool2d):
        geometry = pair(module.kernel_size), pair(stride), pair(module.padding), pair(module.dilation)
        return MaxPool(*geometry, module.ceil_mode)
    window = (Place(0), module.kernel_size, stride, module.padding)
    return indexed_max_pool(1 if isinstance(module, nn.MaxPool1d) else 3, window, module.dilation, module.ceil_mode)


def _batch_norm(module: _NormBase, node: Node) -> Affine:
    if module.running_mean is None or module.running_var is None:
        raise node.unsupported("It keeps no running statistics.")
    return fixed_norm(module.running_mean, module.running_var, module.weight, module.bias, module.eps)


def is_normalize(module: nn.Module) -> bool:
    """Whether a module is torchvision's (x - mean) / std, whose checks of its input cannot be traced."""
    return type(module).__name__ == "Normalize" and type(module).__module__.startswith("torchvision.transforms")


def _normalize(module: Any) -> Affine:
    mean, std = (torch.as_tensor(values, dtype=torch.float64).view(-1) for values in (module.mean, module.std))
    return Affine(1 / std, -mean / std, per_channel=True)


def _out_of_place(module: Any) -> Any:
    """A shallow copy in eval mode that writes nothing in place; parameters stay shared, the original unchanged."""
    result = copy.copy(module)
    result.training = False
    if hasattr(result, "inplace"):
        result.inplace = False
    return result


def _normalization(module: LocalResponseNorm | nn.LocalResponseNorm) -> LocalResponseNorm:
    if isinstance(module, LocalResponseNorm):
        return module
    return LocalResponseNorm(module.size, module.alpha, module.beta, module.k)


OPERATIONS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Operation]], ...] = (
    (nn.Linear, FullyConnected),
    (DROPOUTS, lambda module: Activation(unchanged)),
    (nn.ReLU, lambda module: Rectifier()),
    (ACTIVATIONS, lambda module: Activation(_out_of_place(module), isinstance(module, NONNEGATIVE))),
    (NORMALIZATIONS, lambda module: NormalizationOperation(_normalization(module))),
    (NORMS, norm_module),
    (POOLINGS, _pooling),
    (VIEWS, View),
    (UPSAMPLINGS, lambda module: resized(module, module.mode)),
    (nn.Fold, LinearMap),
    (SOFTMAXES, lambda module: Softmax(module, logarithm=isinstance(module, nn.LogSoftmax))),
    (PADDINGS, lambda module: Pad(tuple(module.padding), float(module.value))),
)
"""Types of modules -> what makes an operation of one."""
