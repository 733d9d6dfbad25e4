"""Weights and a net description -> Model: input shape, preprocessing, layers in a graph."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import fx

from lrpcli.errors import ModelError
from lrpcli.models.caffe.builder import CaffeBuilder
from lrpcli.models.caffe.files import Weights, read_prototxt, read_weights
from lrpcli.models.caffe.layers import add_layer, decimal
from lrpcli.models.caffe.network import DATA_TYPES, Classifier, SourceLayer, cut_to_classifier
from lrpcli.models.description import Description, PreprocessingFields
from lrpcli.models.model import Model, check_input_shape, make_model
from lrpcli.models.preprocessing import adjust_preprocessing

if TYPE_CHECKING:
    from lrpcli.images.preprocess import Preprocessing

BGR_MEAN = (104.0, 117.0, 123.0)
"""What BVLC's nets subtract from blue, green and red, rounded as its GoogLeNet has it."""
CROPPED = (224, 227)
"""Input sizes of nets that are trained on crops of 256 x 256 pixels."""


def import_caffemodel(path: Path, description: Description) -> Model:
    """The importer of .caffemodel and .caffemodel.h5 files, see assemble and read_weights."""
    return assemble(read_weights(path), description)


def assemble(weights: Weights, description: Description) -> Model:
    """A Model from weights that are read, with everything in `description` overruling what the files say.

    Preprocessing by default: BGR, 0..255, mean 104, 117, 123 or what the net's data layer subtracts, squashed to
    256 x 256 and cropped where the input is 224 or 227 pixels wide, else squashed to the input size.
    Raises ModelError, UnsupportedLayer or WeightsError that name the file and the layer.
    """
    source = _classifier(weights, description.prototxt)
    shape = _input_shape(source, weights, description.input_shape)
    module, outputs = build_module(source, weights, shape)
    return make_model(
        module,
        shape,
        default_preprocessing(source, shape),
        description,
        name=source.network.name or weights.path.stem,
        source=str(weights.path),
        outputs=outputs,
        weights_sha256=weights.sha256,
    )


def build_module(source: Classifier, weights: Weights, input_shape: tuple[int, int, int]) -> tuple[fx.GraphModule, int]:
    """The net in eval mode, parameters float32 and without gradient: (N, C, H, W) -> (N, classes); and `classes`.

    A final softmax or sigmoid is kept, and a sigmoid is put behind scores that a SigmoidCrossEntropyLoss reads: the
    engine strips both and knows by them what the scores are. Raises UnsupportedLayer for a layer type that is not
    known, ModelError for weights that are missing or do not fit.
    """
    builder = CaffeBuilder(source, weights, input_shape)
    for layer in source.layers:
        add_layer(builder, layer)
    builder.flatten_scores(source.output)
    if _learnt_by_sigmoid(source):
        builder.sigmoid(source.output)
    return builder.build(source.output, "CaffeNet"), builder.shapes[source.output][0]


def _learnt_by_sigmoid(source: Classifier) -> bool:
    """Whether the net was trained by a sigmoid of its output, which a net without its training layers lacks."""
    return any(
        layer.type == "SigmoidCrossEntropyLoss" and layer.bottoms[:1] == (source.output,)
        for layer in source.network.layers
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
    changes: PreprocessingFields = {}
    for layer in _data_layers(source):
        values = layer.parameters("transform")
        if values.mean_value:
            changes["mean"] = [decimal(value) for value in values.mean_value]
        if values.scale:
            # Caffe multiplies after it has subtracted.
            changes["std"] = (1 / decimal(values.scale),)
    return adjust_preprocessing(usual, changes)


def _classifier(weights: Weights, prototxt: str | Path | None) -> Classifier:
    if prototxt is not None:
        return cut_to_classifier(read_prototxt(prototxt))
    if weights.network is None or not weights.network.has_parameters():
        raise ModelError(
            f"{str(weights.path)!r} holds weights but not the net's hyper-parameters. "
            "Give the net description that belongs to it: --prototxt FILE."
        )
    return cut_to_classifier(weights.network)


def _data_layers(source: Classifier) -> list[SourceLayer]:
    """Layers that feed the net's input, those of the training phase last."""
    return [layer for layer in source.network.layers if layer.type in DATA_TYPES and source.input in layer.tops]


def _input_shape(source: Classifier, weights: Weights, given: tuple[int, int, int] | None) -> tuple[int, int, int]:
    shape = given or _declared_shape(source) or _cropped_shape(source, weights)
    if shape is None:
        raise ModelError(
            f"The files do not say how large an image the net {str(source.network.path)!r} reads. "
            "Give its input shape as channels, height, width, for example 3,227,227 (--input-shape on the command "
            "line), or a deploy prototxt."
        )
    return check_input_shape(shape, str(source.network.path))


def _declared_shape(source: Classifier) -> tuple[int, int, int] | None:
    declared = source.network.inputs.get(source.input, ())
    if len(declared) == 4:
        return declared[1], declared[2], declared[3]
    for layer in _data_layers(source):
        values = layer.parameters("memory_data")
        if values.height and values.width:
            return values.channels or 3, values.height, values.width
    return None


def _cropped_shape(source: Classifier, weights: Weights) -> tuple[int, int, int] | None:
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
