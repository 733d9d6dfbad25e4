"""Caffe layers that normalise, and those that scale and shift each channel."""

import torch
from torch import nn

from lrpcli.lrp.layers.normalization import LocalResponseNorm
from lrpcli.models.caffe.builder import CaffeBuilder
from lrpcli.models.caffe.fields import decimal
from lrpcli.models.caffe.filters import bounded
from lrpcli.models.caffe.gates import scale_by_input
from lrpcli.models.caffe.network import SourceLayer
from lrpcli.models.graph_builder import META, Shape, assign_tensors


def normalization(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    values = layer.parameters("lrn")
    within = values.norm_region == 1
    if within and len(shape) != 3:
        raise ValueError(f"normalisation within a channel needs maps, not a blob of shape {shape}")
    size = bounded(values.local_size, "local_size")
    if size % 2 == 0:
        raise ValueError(f"its local_size is {size}, and Caffe normalises over windows of odd size only")
    region = "within-channel" if within else "across-channels"
    padded = tuple(side + size if (place > 0) == within else side for place, side in enumerate(shape))
    builder.check_padded(padded, layer.name)
    module = LocalResponseNorm(size, decimal(values.alpha), decimal(values.beta), decimal(values.k), region)
    builder.module(layer, module, node, shape)


def batch_norm(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    values = layer.parameters("batch_norm")
    # NVIDIA's layer does the work of the Scale layer behind it, too, if it says so or how to fill its blobs.
    scaled = values.scale_bias or values.HasField("scale_filler") or values.HasField("bias_filler")
    if not scaled and (not values.use_global_stats or layer.stays_in_training):
        raise builder.unsupported(
            layer,
            "it normalises by the statistics of a batch, which one image is not; to use the stored ones, leave "
            "out use_global_stats and phase",
        )
    mean, variance = (builder.blob(layer, index, shape[:1], "statistics").double() for index in range(2))
    # Caffe stores sums and the factor that they were scaled by, 0 for no data seen; NVIDIA's stores what it uses.
    factor = float(builder.blob(layer, 2, (1,), "scale factor").reshape(()))
    scale = 1.0 if scaled else 0.0 if factor == 0 else 1 / factor
    tensors = {"running_mean": (mean * scale).float(), "running_var": (variance * scale).float()}
    eps = max(decimal(values.eps), 1e-5) if scaled else decimal(values.eps)
    if not all(tensor.isfinite().all() for tensor in tensors.values()) or (tensors["running_var"] + eps <= 0).any():
        raise ValueError("its variance is negative, zero or not finite")
    if scaled:
        tensors["weight"] = builder.blob(layer, 3, shape[:1], "factors")
        tensors["bias"] = builder.blob(layer, 4, shape[:1], "biases")
    kind: type[nn.BatchNorm1d | nn.BatchNorm2d] = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    module = kind(shape[0], eps=eps, affine=scaled, device=META)
    builder.module(layer, assign_tensors(module, **tensors, num_batches_tracked=torch.tensor(1)), node, shape)


def scale(builder: CaffeBuilder, layer: SourceLayer) -> None:
    """Scale and Bias: a factor and a shift per channel."""
    only_bias = layer.type == "Bias"
    if len(layer.bottoms) == 2 and only_bias:
        raise builder.unsupported(layer, "it takes its biases from a second input")
    if len(layer.bottoms) == 2:
        scale_by_input(builder, layer)
        return
    (node,), (shape,) = builder.inputs(layer)
    values = layer.parameters("bias" if only_bias else "scale")
    if values.axis not in (1, -len(shape)) or (values.num_axes != 1 and len(shape) != 1):
        raise builder.unsupported(layer, "it does not scale per channel")
    size = shape[:1]
    factor = torch.ones(size) if only_bias else builder.blob(layer, 0, size, "factors")
    has_shift = only_bias or values.bias_term
    shift = builder.blob(layer, 0 if only_bias else 1, size, "biases") if has_shift else torch.zeros(size)
    builder.module(layer, _affine(factor, shift, shape), node, shape)


def _affine(factor: torch.Tensor, shift: torch.Tensor, shape: Shape) -> nn.Module:
    """factor x + shift per channel of a blob of that shape, as a BatchNorm with mean 0 and variance 1."""
    kinds = {3: nn.BatchNorm2d, 4: nn.BatchNorm3d}
    module = kinds.get(len(shape), nn.BatchNorm1d)(shape[0], eps=0.0, device=META)
    tensors = {"running_mean": torch.zeros(shape[:1]), "running_var": torch.ones(shape[:1])}
    return assign_tensors(module, **tensors, num_batches_tracked=torch.tensor(1), weight=factor, bias=shift)


def power(builder: CaffeBuilder, layer: SourceLayer) -> None:
    """scale x + shift, the same in all channels, and so a Scale layer."""
    (node,), (shape,) = builder.inputs(layer)
    values = layer.parameters("power")
    if values.power != 1:
        raise builder.unsupported(layer, f"its power is {decimal(values.power)}, and only 1 is linear")
    factor, shift = (torch.full(shape[:1], decimal(number)) for number in (values.scale, values.shift))
    if builder.holds(layer) == 2:  # a Scale layer that was written as Power: its blobs must say the same
        held = [builder.blob(layer, place, shape[:1], what) for place, what in enumerate(("factors", "shifts"))]
        if not (torch.equal(held[0], factor) and torch.equal(held[1], shift)):
            raise builder.unsupported(layer, "its weights hold other factors or shifts than it is described with")
    builder.module(layer, _affine(factor, shift, shape), node, shape)
