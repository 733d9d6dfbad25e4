"""Functional convolutions, fully connected layers and batch norms with fixed weights: the modules that they stand for.

Handwritten layers call them, and so does all that torch.export gives.
"""

from typing import Any

from torch import Tensor, nn
from torch._ops import OpOverload

from lrpcli.lrp.tracing.node import Node

CONVOLUTIONS = {
    "conv1d": nn.Conv1d, "conv2d": nn.Conv2d, "conv3d": nn.Conv3d,
    "conv_transpose1d": nn.ConvTranspose1d, "conv_transpose2d": nn.ConvTranspose2d,
    "conv_transpose3d": nn.ConvTranspose3d,
}  # fmt: skip
BATCH_NORM = ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
"""What functional.batch_norm takes after its input; aten's has the first four in another order."""
ATEN_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
CONVOLUTION = ("weight", "bias", "stride", "padding", "dilation", "groups")
TRANSPOSED = ("weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")


def module_for(node: Node) -> nn.Module | None:
    """The module that a functional call stands for; None if it is another call.

    UnsupportedLayer if its weights depend on the input, or if the call does what the module does not in eval mode.
    """
    if node.label in CONVOLUTIONS:
        return _convolution(node)
    if node.label == "linear":
        return _linear(node)
    return _batch_norm(node) if node.label == "batch_norm" else None


def _convolution(node: Node) -> nn.Module:
    transposed = "transpose" in node.label
    given = _given(node, TRANSPOSED if transposed else CONVOLUTION)
    weight, bias, groups = given["weight"], given["bias"], given["groups"] or 1
    axes = (1, 0) if transposed else (0, 1)
    outputs, inputs = (weight.shape[axis] for axis in axes)
    settings = {
        key: _sizes(given[key], weight.dim() - 2) for key in ("stride", "padding", "dilation") if given[key] is not None
    }
    if transposed and given["output_padding"] is not None:
        settings["output_padding"] = _sizes(given["output_padding"], weight.dim() - 2)
    inputs, outputs = (inputs, outputs * groups) if transposed else (inputs * groups, outputs)
    module = CONVOLUTIONS[node.label](
        inputs, outputs, tuple(weight.shape[2:]), groups=groups, bias=bias is not None, device="meta", **settings
    )
    return _with_tensors(module, weight=weight, bias=bias)


def _sizes(value: Any, dimensions: int) -> Any:
    """One number per dimension; aten's lists may hold one for all."""
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(value) * (dimensions // len(value))


def _linear(node: Node) -> nn.Module:
    given = _given(node, ("weight", "bias"))
    weight, bias = given["weight"], given["bias"]
    if weight.dim() != 2:
        raise node.unsupported("Its weight is not a matrix.")
    module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    return _with_tensors(module, weight=weight, bias=bias)


def _batch_norm(node: Node) -> nn.Module:
    given = _given(node, ATEN_BATCH_NORM if isinstance(node.traced.target, OpOverload) else BATCH_NORM)
    mean, variance = given["running_mean"], given["running_var"]
    if given["training"] or mean is None or variance is None:
        raise node.unsupported("It takes the statistics of the batch, so that an image depends on those beside it.")
    module = nn.BatchNorm2d(
        len(mean), 1e-5 if given["eps"] is None else given["eps"], affine=given["weight"] is not None, device="meta"
    )
    module.running_mean, module.running_var = mean, variance
    return _with_tensors(module, weight=given["weight"], bias=given["bias"]).eval()


def _given(node: Node, names: tuple[str, ...]) -> dict[str, Any]:
    """The arguments after the input by name; None where the call leaves one out."""
    node.only_input()
    given = {name: node.get(place, name) for place, name in enumerate(names, 1)}
    if not isinstance(given.get("weight"), (Tensor, type(None))):
        raise node.unsupported("Its weight is not a tensor.")
    return given


def _with_tensors(module: nn.Module, **tensors: Tensor | None) -> nn.Module:
    for name, tensor in tensors.items():
        module._parameters[name] = None if tensor is None else nn.Parameter(tensor.detach(), requires_grad=False)
    return module
