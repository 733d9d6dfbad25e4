"""Any net as the linear map that LRP-0 takes it for at an input: its own forward function, with each call held fixed.

An activation becomes x times f(x) / x, gates and what normalises become constants, a product of two signals is half of
each. Everything else is linear or picks its winners, and autograd is right about it. The engine has no part in it.
"""

import torch
from torch.overrides import TorchFunctionMode

ACTIVATIONS = {
    "relu", "relu_", "relu6", "silu", "silu_", "gelu", "hardswish", "leaky_relu", "leaky_relu_", "elu", "mish", "tanh",
    "hardtanh", "hardtanh_", "clamp", "clamp_", "softplus", "square", "pow", "prelu", "celu", "selu", "sqrt",
}  # fmt: skip
CONSTANTS = {
    "sigmoid", "sigmoid_", "hardsigmoid", "softmax", "norm", "var", "std", "rsqrt", "linalg_vector_norm",
}  # fmt: skip
"""Gates, and measures of size."""
NORMS = {"layer_norm", "group_norm", "instance_norm", "rms_norm"}


def held(x, y):
    """y = f(x) as x times the constant f(x) / x; where x is 0 there is nothing to hold."""
    return x * (y / x.where(x != 0, 1.0)).detach().where(x != 0, 0.0)


def halves(a, b):
    return (a * b.detach() + a.detach() * b) / 2


def normalised(name, x, size, weight=None, bias=None, eps=1e-5):
    """A normalisation with its deviation as a constant."""
    axes = tuple(range(-len(size), 0)) if name in ("layer_norm", "rms_norm") else None
    rows = x if axes else x.reshape(len(x), size, -1)
    axes = axes or (-1,)
    mean = 0 if name == "rms_norm" else rows.mean(axes, keepdim=True)
    deviation = ((rows - mean).square().mean(axes, keepdim=True) + eps).sqrt().detach()
    y = ((rows - mean) / deviation).reshape(x.shape)
    shape = (1, -1, *[1] * (x.dim() - 2)) if name == "group_norm" else (-1,)
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


class Linearised(TorchFunctionMode):
    """While it lasts, the calls of torch do what LRP-0 takes them for."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        name = getattr(func, "__self__", name) if name == "__get__" else name
        x = args[0] if args else None
        if not isinstance(x, torch.Tensor) or not x.requires_grad:
            if name in ("mul", "__mul__", "__rmul__") and getattr(args[1], "requires_grad", False):
                return func(*args, **kwargs)
            return func(*args, **kwargs)
        if name in CONSTANTS:
            return func(x.detach().clone(), *args[1:], **kwargs)
        if name in ACTIVATIONS:
            kwargs.pop("inplace", None)
            return held(x, func(x.detach().clone(), *args[1:], **kwargs))
        if name in NORMS:
            return normalised(name, *args, **kwargs)
        if name in ("mul", "mul_", "__mul__", "__imul__", "multiply") and getattr(args[1], "requires_grad", False):
            return halves(x, args[1])
        return func(*args, **kwargs)


def gradient(function, x, target):
    """The gradient of one logit per image."""
    x = x.clone().requires_grad_()
    logits = function(x).flatten(1)
    return torch.autograd.grad(logits.gather(1, target[:, None]).sum(), x)[0]


def linearised_gradient(net, x, target):
    """The same of the linearised net."""
    with Linearised():
        return gradient(net, x, target)
