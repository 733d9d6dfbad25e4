"""Modules of torch.nn -> operations. What is not listed here is refused by name, or traced into."""

import copy
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from lrpcli.lrp.layers.elementwise import Activation, Affine, Rectifier, Softmax, unchanged
from lrpcli.lrp.layers.linear import Convolution, FullyConnected
from lrpcli.lrp.layers.normalization import LocalResponseNorm, NormalizationOperation
from lrpcli.lrp.layers.pooling import AdaptiveAveragePool, AdaptiveMaxPool, AveragePool, MaxPool
from lrpcli.lrp.layers.views import Pad, View
from lrpcli.lrp.operation import Operation
from lrpcli.lrp.tracing.functions import pair
from lrpcli.lrp.tracing.node import unsupported_layer

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
POOLINGS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)
NORMALIZATIONS = (LocalResponseNorm, nn.LocalResponseNorm)
OTHERS = (nn.Linear, nn.Flatten, nn.Unflatten, nn.ZeroPad2d)
LEAVES = (*CONVOLUTIONS, *BATCH_NORMS, *DROPOUTS, *ACTIVATIONS, *SOFTMAXES, *POOLINGS, *NORMALIZATIONS, *OTHERS)

HARMLESS = {"extra_repr", "reset_parameters", "reset_running_stats", "_load_from_state_dict", "_reset_parameters"}
"""Methods of layers that do not compute."""


def is_leaf(module: nn.Module) -> bool:
    """Whether tracing stops at this module: a known layer, or a subclass that computes as it does."""
    if "forward" in vars(module):
        return False
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


def translate_module(module: nn.Module, name: str) -> Operation:
    """The operation of a module; UnsupportedLayer names it, its type and what to do."""
    if isinstance(module, CONVOLUTIONS):
        return Convolution(module, _padding(module, name))
    if isinstance(module, nn.Linear):
        return FullyConnected(module)
    if isinstance(module, BATCH_NORMS):
        return _batch_norm(module, name)
    if isinstance(module, DROPOUTS):
        return Activation(unchanged)
    if isinstance(module, nn.ReLU):
        return Rectifier()
    if isinstance(module, ACTIVATIONS):
        return Activation(_out_of_place(module), isinstance(module, NONNEGATIVE))
    if isinstance(module, NORMALIZATIONS):
        return NormalizationOperation(_normalization(module, name))
    if isinstance(module, POOLINGS):
        return _pooling(module, name)
    if isinstance(module, (nn.Flatten, nn.Unflatten)):
        return View(module)
    if isinstance(module, SOFTMAXES):
        return Softmax()
    if isinstance(module, nn.ZeroPad2d):
        return Pad(tuple(module.padding))
    raise unsupported_layer(name, type(module).__name__)


def _pooling(module: nn.Module, name: str) -> Operation:
    if getattr(module, "return_indices", False):
        raise unsupported_layer(name, type(module).__name__, "It returns indices.")
    if isinstance(module, nn.AdaptiveMaxPool2d):
        return AdaptiveMaxPool(module.output_size)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return AdaptiveAveragePool(module.output_size)
    assert isinstance(module, (nn.MaxPool2d, nn.AvgPool2d))
    geometry = pair(module.kernel_size), pair(module.stride or module.kernel_size), pair(module.padding)
    if isinstance(module, nn.MaxPool2d):
        return MaxPool(*geometry, pair(module.dilation), module.ceil_mode)
    return AveragePool(*geometry, module.ceil_mode, module.count_include_pad, module.divisor_override)


def _padding(module: _ConvNd, name: str) -> tuple[int, ...]:
    """Padding as numbers, the same on both sides."""
    if module.padding_mode != "zeros":
        raise unsupported_layer(name, type(module).__name__, f"Its padding mode is {module.padding_mode!r}.")
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    if isinstance(module.padding, str):  # "same"
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if any(total % 2 for total in totals):
            raise unsupported_layer(name, type(module).__name__, "Its padding differs on the two sides; pad before it.")
        return tuple(total // 2 for total in totals)
    return tuple(module.padding)


def _batch_norm(module: _NormBase, name: str) -> Affine:
    if module.running_mean is None or module.running_var is None:
        raise unsupported_layer(name, type(module).__name__, "It keeps no running statistics.")
    scale = 1 / torch.sqrt(module.running_var.detach().double() + module.eps)
    scale = scale if module.weight is None else scale * module.weight.detach().double()
    shift = -module.running_mean.detach().double() * scale
    shift = shift if module.bias is None else shift + module.bias.detach().double()
    return Affine(scale, shift, per_channel=True)


def _out_of_place(module: Any) -> Any:
    """A shallow copy in eval mode that writes nothing in place; parameters stay shared, the original unchanged."""
    result = copy.copy(module)
    result.training = False
    if hasattr(result, "inplace"):
        result.inplace = False
    return result


def _normalization(module: LocalResponseNorm | nn.LocalResponseNorm, name: str) -> LocalResponseNorm:
    if isinstance(module, LocalResponseNorm):
        return module
    if module.size % 2 == 0:
        raise unsupported_layer(
            name, "LocalResponseNorm", f"Its window of {module.size} channels is even and has no centre."
        )
    return LocalResponseNorm(module.size, module.alpha, module.beta, module.k)
