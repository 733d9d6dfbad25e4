"""Weights and a net description -> Model: input shape, preprocessing, labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrpcli.errors import ModelError
from lrpcli.models.caffe.build import build_module
from lrpcli.models.caffe.files import Weights, read_prototxt
from lrpcli.models.caffe.layers import decimal
from lrpcli.models.caffe.network import DATA_TYPES, Classifier, classifier
from lrpcli.models.description import Description, PreprocessingChoice
from lrpcli.models.labels import read_labels
from lrpcli.models.model import Model
from lrpcli.models.preprocessing import adjust_preprocessing

if TYPE_CHECKING:
    from lrpcli.images.preprocess import Preprocessing

BGR_MEAN = (104.0, 117.0, 123.0)
"""What BVLC's nets subtract from blue, green and red, rounded as its GoogLeNet has it."""
CROPPED = (224, 227)
"""Input sizes of nets that are trained on crops of 256 x 256 pixels."""
MAXIMAL_SIDE = 2**14


def assemble(weights: Weights, details: Description) -> Model:
    """A Model from weights that are read, with everything in `details` overruling what the files say.

    Preprocessing by default: BGR, 0..255, mean 104, 117, 123 or what the net's data layer subtracts, squashed to
    256 x 256 and cropped where the input is 224 or 227 pixels wide, else squashed to the input size.
    Raises ModelError, UnsupportedLayer or WeightsError that name the file and the layer.
    """
    source = _classifier(weights, details.prototxt)
    shape = _input_shape(source, weights, details.input_shape)
    module, outputs = build_module(source, weights, shape)
    return Model(
        name=details.name or source.network.name or weights.path.stem,
        module=module,
        input_shape=shape,
        preprocessing=fitted(details.preprocessing, default_preprocessing(source, shape)),
        labels=_labels(details.labels, outputs),
        weights_sha256=weights.sha256,
        source=str(weights.path),
        outputs=outputs,
    )


def fitted(chosen: PreprocessingChoice | None, default: "Preprocessing") -> "Preprocessing":
    """The chosen preprocessing for a model that would get `default`."""
    if chosen is None or isinstance(chosen, Mapping):
        return adjust_preprocessing(default, chosen or {})
    if chosen.size == default.size and chosen.channels == default.channels:
        return chosen
    raise ModelError(
        f"The preprocessing makes images of {chosen.channels} x {chosen.size[0]} x {chosen.size[1]} (channels, height, "
        f"width), but the model reads {default.channels} x {default.size[0]} x {default.size[1]}."
    )


def default_preprocessing(source: Classifier, shape: tuple[int, int, int]) -> "Preprocessing":
    """What a net by path is fed with, see assemble."""
    from lrpcli.images.preprocess import Preprocessing

    channels, height, width = shape
    # 256 is the square that 224 and 227 are cut from; other sizes see the whole image.
    usual = Preprocessing(
        size=(height, width),
        resize=(256, 256) if height == width and height in CROPPED else None,
        channel_order="BGR" if channels == 3 else "RGB",
        mean=BGR_MEAN if channels == 3 else (0.0,),
        channels=channels,
    )
    changes: dict[str, Any] = {}
    for layer in _data_layers(source):
        values = layer.parameters("transform")
        if values.mean_value:
            changes["mean"] = [decimal(value) for value in values.mean_value]
        if values.scale:
            # Caffe multiplies after it has subtracted.
            changes["std"] = (1 / decimal(values.scale),)
    return adjust_preprocessing(usual, changes)


def _labels(given: str | Path | Sequence[str] | None, outputs: int) -> tuple[str, ...] | None:
    if given is None or isinstance(given, (str, Path)):
        return None if given is None else read_labels(given, outputs)
    if len(given) != outputs:
        raise ModelError(f"There are {len(given)} labels for a model with {outputs} outputs. Give one per output.")
    return tuple(given)


def _classifier(weights: Weights, prototxt: str | Path | None) -> Classifier:
    if prototxt is not None:
        return classifier(read_prototxt(prototxt))
    if weights.network is None or not weights.network.has_parameters():
        raise ModelError(
            f"{str(weights.path)!r} holds weights but not the net's hyper-parameters. "
            "Give the net description that belongs to it: --prototxt FILE."
        )
    return classifier(weights.network)


def _data_layers(source: Classifier) -> list[Any]:
    """Layers that feed the net's input, those of the training phase last."""
    return [layer for layer in source.network.layers if layer.type in DATA_TYPES and source.input in layer.tops]


def _input_shape(source: Classifier, weights: Weights, given: tuple[int, int, int] | None) -> tuple[int, int, int]:
    shape = given or _declared(source) or _cropped(source, weights)
    if shape is None:
        raise ModelError(
            f"The files do not say how large an image the net {str(source.network.path)!r} reads. "
            "Give its input shape as channels, height, width, for example 3,227,227 (--input-shape on the command "
            "line), or a deploy prototxt."
        )
    return checked_shape(shape, str(source.network.path))


def checked_shape(shape: tuple[int, ...], net: str) -> tuple[int, int, int]:
    """An input shape (C, H, W) of the net that messages call `net`; ModelError if it cannot be one."""
    if len(shape) != 3 or not all(1 <= side <= MAXIMAL_SIDE for side in shape):
        raise ModelError(
            f"The input shape {tuple(shape)} of the net {net!r} is not usable: expected are channels, height and "
            f"width, each between 1 and {MAXIMAL_SIDE}."
        )
    return shape[0], shape[1], shape[2]


def _declared(source: Classifier) -> tuple[int, int, int] | None:
    declared = source.network.inputs.get(source.input, ())
    if len(declared) == 4:
        return declared[1], declared[2], declared[3]
    for layer in _data_layers(source):
        values = layer.parameters("memory_data")
        if values.height and values.width:
            return values.channels or 3, values.height, values.width
    return None


def _cropped(source: Classifier, weights: Weights) -> tuple[int, int, int] | None:
    """The crop of a training net's data layer; its channels are those of the first convolution's weights."""
    first = next(layer for layer in source.layers if source.input in layer.bottoms)
    blobs = (weights.blobs or {}).get(first.name, ())
    group = first.parameters("convolution").group
    channels = blobs[0].shape[1] * group if first.type == "Convolution" and blobs and blobs[0].ndim == 4 else 3
    for layer in _data_layers(source):
        values, old = layer.parameters("transform"), layer.parameters("data")
        height = values.crop_h or values.crop_size or old.crop_size
        width = values.crop_w or values.crop_size or old.crop_size
        if height and width:
            return channels, height, width
    return None
