"""Weights and a net description -> Model: input shape, preprocessing, layers in a graph."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import fx

from lrpcli.errors import ModelError
from lrpcli.models.caffe.builder import CaffeBuilder
from lrpcli.models.caffe.fields import decimal
from lrpcli.models.caffe.files import Weights, read_prototxt, read_weights
from lrpcli.models.caffe.heads import Classifier, cut_to_classifier, describe_heads
from lrpcli.models.caffe.layers import add_layer
from lrpcli.models.caffe.network import Network
from lrpcli.models.description import Description, PreprocessingFields
from lrpcli.models.model import Model, check_input_shape, make_model
from lrpcli.models.preprocessing import adjust_preprocessing
from lrpcli.models.presets import caffe_crop

if TYPE_CHECKING:
    from lrpcli.images.preprocess import Preprocessing


def import_caffemodel(path: Path, description: Description) -> Model:
    """The importer of .caffemodel and .caffemodel.h5 files, see assemble and read_weights."""
    return assemble(read_weights(path), description)


def assemble(weights: Weights, description: Description) -> Model:
    """A Model from weights that are read, with everything in `description` overruling what the files say.

    The preprocessing is known where the net's data layer states it (that of the phase TEST, where there is one): BGR,
    0..255, minus its mean and times its scale, squashed to 256 x 256 and cropped where the input is 224 or 227 pixels
    wide, else squashed to the input size. Of several heads `description.head` is explained, else the one with the
    highest loss weight.
    Raises ModelError, UnsupportedLayer or WeightsError that name the file and the layer.
    """
    source = cut_to_classifier(_network(weights, description.prototxt), description.head)
    shape = _input_shape(source, weights, description.input_shape)
    module, outputs = build_module(source, weights, shape)
    preprocessing, stated = usual_preprocessing(source, shape)
    model = make_model(
        module,
        shape,
        preprocessing,
        description,
        name=source.network.name or weights.path.stem,
        source=str(weights.path),
        outputs=outputs,
        weights_sha256=weights.sha256,
        stated_by="the net's data layer" if stated else None,
    )
    names = (source.head, *source.others)
    return replace(model, head=source.output, heads=tuple(head.output for head in names), facts=_facts(source))


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


def usual_preprocessing(source: Classifier, shape: tuple[int, int, int]) -> "tuple[Preprocessing, bool]":
    """What Caffe's nets are usually fed with, see assemble; and whether the data layer says what becomes of a pixel."""
    from lrpcli.images.preprocess import Preprocessing

    channels, height, width = shape
    usual = Preprocessing(
        size=(height, width),
        resize=caffe_crop((height, width)),
        channel_order="BGR" if channels == 3 else "RGB",
        channels=channels,
    )
    changes: PreprocessingFields = {}
    transforms = list(_transforms(source))
    means = [values.mean_value for values in transforms if getattr(values, "mean_value", None)]
    if means:
        changes["mean"] = [decimal(value) for value in means[-1]]
    for values in transforms:
        if values.scale not in (0, 1):
            # Caffe multiplies after it has subtracted.
            changes["std"] = (1 / decimal(values.scale),)
    stated = bool(changes) or any(_says_all(values) for values in transforms)
    by_file = not means and any(values.mean_file for values in transforms)
    return adjust_preprocessing(usual, changes), stated and not by_file


def _says_all(values: Any) -> bool:
    """Whether what it does not mention is not done: older files spread this over several places."""
    return bool(values.DESCRIPTOR.name == "TransformationParameter")


def _transforms(source: Classifier) -> Iterator[Any]:
    """What the data layers of the input do to it: their transform_param, and what older files have in place of it."""
    for layer in source.network.data_layers(source.input):
        for kind in ("data", "image_data", "transform"):
            name = f"{kind}_param"
            if name in layer.message.DESCRIPTOR.fields_by_name and layer.message.HasField(name):
                yield getattr(layer.message, name)


def _facts(source: Classifier) -> dict[str, str]:
    """What people should know of the choices made here."""
    facts = {"heads": describe_heads(source)}
    files = [values.mean_file for values in _transforms(source) if values.mean_file]
    if files:
        facts["mean file"] = f"{files[-1]} in training, which is not at hand; give it with --mean FILE"
    return {heading: text for heading, text in facts.items() if text is not None}


def _network(weights: Weights, prototxt: str | Path | None) -> Network:
    if prototxt is not None:
        return read_prototxt(prototxt)
    if weights.network is None or not weights.network.has_parameters():
        raise ModelError(
            f"{str(weights.path)!r} holds weights but not the net's hyper-parameters. "
            "Give the net description that belongs to it: --prototxt FILE."
        )
    return weights.network


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
    for layer in source.network.data_layers(source.input):
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
    for values in reversed(list(_transforms(source))):
        height = getattr(values, "crop_h", 0) or values.crop_size
        width = getattr(values, "crop_w", 0) or values.crop_size
        if height and width:
            return channels, height, width
    return None
