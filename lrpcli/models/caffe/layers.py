"""The table of Caffe layer types: what makes nodes of the graph of one layer's hyper-parameters and blobs."""

from collections.abc import Callable

from torch import nn

from lrpcli.errors import ModelError
from lrpcli.models.caffe.builder import CaffeBuilder
from lrpcli.models.caffe.fields import decimal, odd_numbers
from lrpcli.models.caffe.filters import DEPTHWISE, convolution, inner_product, pooling
from lrpcli.models.caffe.gates import axpy
from lrpcli.models.caffe.network import SourceLayer
from lrpcli.models.caffe.normalising import batch_norm, normalization, power, scale
from lrpcli.models.caffe.rearranging import concat, eltwise, flatten, reshape, slice_, split
from lrpcli.models.graph_builder import META, assign_tensors


def add_layer(builder: CaffeBuilder, layer: SourceLayer) -> None:
    """Adds one layer. UnsupportedLayer names a type that is not known here; ModelError names what does not fit."""
    handler = HANDLERS.get(layer.type)
    if handler is None:
        raise builder.unsupported(layer, f"type {layer.type} is not known")
    if layer.unread:
        raise builder.unsupported(layer, f"{layer.unread[0]!r} is not known here and may change what it computes")
    for name in odd_numbers(layer.message, layer.type):
        raise ModelError(f"The {builder.where(layer.name)} has a {name} that is not finite. Check the net description.")
    if not layer.tops:
        raise ModelError(f"The {builder.where(layer.name)} has no output. Check the net description.")
    most = MOST_TOPS.get(layer.type, 1)
    if most is not None and len(layer.tops) > most:
        raise ModelError(
            f"The {builder.where(layer.name)} has {len(layer.tops)} outputs; a {layer.type} layer makes {most} at "
            "most. Check the net description."
        )
    try:
        handler(builder, layer)
        if most is not None:
            builder.forget(layer.tops[1:])
        builder.check_all_read(layer)
    # What torch refuses while a layer is made comes from the layer's hyper-parameters.
    except (ValueError, RuntimeError, TypeError, OverflowError, IndexError, KeyError) as error:
        raise ModelError(
            f"The {builder.where(layer.name)} cannot be made: {error}. Check its hyper-parameters."
        ) from error


def prelu(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    count = 1 if layer.parameters("prelu").channel_shared else shape[0]
    slopes = builder.blob(layer, 0, (count,), "slopes")
    builder.module(layer, assign_tensors(nn.PReLU(count, device=META), weight=slopes), node, shape)


def pointwise(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    if layer.stays_in_training:
        raise builder.unsupported(layer, "it stays in the training phase, so that it draws at random")
    builder.module(layer, POINTWISE[layer.type](layer), node, shape)


def softmax(builder: CaffeBuilder, layer: SourceLayer) -> None:
    (node,), (shape,) = builder.inputs(layer)
    if layer.parameters("softmax").axis not in (1, -len(shape)):
        raise builder.unsupported(layer, "it does not run over the classes")
    builder.module(layer, nn.Softmax(dim=1), node, shape)


def _relu(layer: SourceLayer) -> nn.Module:
    slope = decimal(layer.parameters("relu").negative_slope)
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


def _relu6(layer: SourceLayer) -> nn.Module:
    if layer.parameters("relu").negative_slope:
        raise ValueError("a ReLU6 with a negative_slope is not known here")
    return nn.ReLU6()


POINTWISE: dict[str, Callable[[SourceLayer], nn.Module]] = {
    "ReLU": _relu,
    "ReLU6": _relu6,
    "ELU": lambda layer: nn.ELU(decimal(layer.parameters("elu").alpha)),
    "Dropout": lambda layer: nn.Dropout(decimal(layer.parameters("dropout").dropout_ratio)),
    "Sigmoid": lambda layer: nn.Sigmoid(),
    "TanH": lambda layer: nn.Tanh(),
    "BNLL": lambda layer: nn.Softplus(),
}

MOST_TOPS = {"Slice": None, "Split": None, "Pooling": 2}
"""Types that may make more than one blob; None: any number. The second of a pooling, where the largest values were, is
not made here."""

HANDLERS: dict[str, Callable[[CaffeBuilder, SourceLayer], None]] = {
    "Convolution": convolution, "Deconvolution": convolution, "InnerProduct": inner_product, "Pooling": pooling,
    **dict.fromkeys(DEPTHWISE, convolution), "Axpy": axpy,
    "LRN": normalization, "BatchNorm": batch_norm, "Scale": scale, "Bias": scale, "PReLU": prelu, "Softmax": softmax,
    "Power": power, "Eltwise": eltwise, "Concat": concat, "Slice": slice_, "Split": split, "Flatten": flatten,
    "Reshape": reshape, **dict.fromkeys(POINTWISE, pointwise),
}  # fmt: skip
