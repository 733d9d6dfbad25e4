"""The description of a Caffe net, V1 and V2 alike, and what of it is needed to classify an image."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lrpcli.errors import ModelError
from lrpcli.models.caffe.schema import ENUMS, messages

IRREGULAR = {
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BNLL": "BNLL", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output",
    "IM2COL": "Im2col", "LRN": "LRN", "MVN": "MVN", "RELU": "ReLU", "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}  # fmt: skip
DATA_TYPES = {
    "Input", "Data", "ImageData", "MemoryData", "HDF5Data", "DummyData", "WindowData", "AnnotatedData",
}  # fmt: skip
MAXIMAL_LAYERS = 10_000
NOT_FOR_USE = {"Accuracy", "Silence", "HDF5Output", "SoftmaxWithLoss"}


@dataclass(frozen=True)
class SourceLayer:
    """One layer as the file has it; `type` in V2 spelling, `message` its hyper-parameters, `blobs` BlobProtos."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    message: Any
    blobs: tuple[Any, ...] = ()

    def parameters(self, kind: str) -> Any:
        """Hyper-parameters such as "convolution": an empty message with Caffe's defaults where the file has none."""
        name = f"{kind}_param"
        # V1 knows fewer parameters than V2; for those it lacks, the defaults are all there is.
        known = name in self.message.DESCRIPTOR.fields_by_name
        return getattr(self.message if known else messages()["LayerParameter"](), name)


@dataclass(frozen=True)
class Network:
    """Layers in file order and the declared inputs: blob name -> shape with the batch axis, () if unknown."""

    path: Path
    name: str
    layers: tuple[SourceLayer, ...]
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def without_blobs(self) -> "Network":
        """The same net without its weights, so that they can be freed."""
        return replace(self, layers=tuple(replace(layer, message=_bare(layer), blobs=()) for layer in self.layers))

    def has_parameters(self) -> bool:
        """Whether layers are connected and sized; some tools write weights and names alone."""
        sized = [
            layer.parameters("convolution" if layer.type == "Convolution" else "inner_product").num_output > 0
            for layer in self.layers
            if layer.type in ("Convolution", "InnerProduct")
        ]
        return any(layer.bottoms for layer in self.layers) and bool(sized) and all(sized)


@dataclass(frozen=True)
class Classifier:
    """The part of a net that leads from the image to the scores, in execution order."""

    network: Network
    layers: tuple[SourceLayer, ...]
    input: str
    output: str
    softmax: bool
    """Whether `output` is the top of a softmax and not scores."""


def network_from_message(net: Any, path: Path) -> Network:
    """The Network of a NetParameter message. Raises ModelError for the oldest format and for absurdly many layers."""
    if any(layer.HasField("layer") for layer in net.layers):
        raise ModelError(
            f"{str(path)!r} is in Caffe's oldest format (V0), which is not read here. Convert it with Caffe's "
            "upgrade_net_proto_binary or upgrade_net_proto_text."
        )
    if len(net.layer) + len(net.layers) > MAXIMAL_LAYERS:
        raise ModelError(f"{str(path)!r} has more than {MAXIMAL_LAYERS} layers, which no net has. Fetch it again.")
    names = {number: name for name, number in ENUMS["V1LayerType"].items()}
    types = [layer.type for layer in net.layer] or [modern_type(names[layer.type]) for layer in net.layers]
    layers = tuple(
        SourceLayer(layer.name, kind, tuple(layer.bottom), tuple(layer.top), layer, tuple(layer.blobs))
        for layer, kind in zip(net.layer or net.layers, types, strict=True)
    )
    return Network(path, net.name, layers, _declared_inputs(net, layers))


def modern_type(name: str) -> str:
    """The V2 spelling of a V1 layer type: INNER_PRODUCT -> InnerProduct."""
    return IRREGULAR.get(name) or "".join(part.capitalize() for part in name.split("_"))


def cut_to_classifier(network: Network) -> Classifier:
    """The part of a net that is used on one image: no training-only layers, no losses, no auxiliary heads.

    The output is the last softmax that nothing reads, or what the last softmax loss reads; a net without either ends
    in the last blob that nothing reads. Raises ModelError if there is no output, or more or less than one input.
    """
    kept = [layer for layer in network.layers if not _training_only(layer)]
    working = [layer for layer in kept if not _is_data(layer) and not _is_loss(layer)]
    output = _output(kept, working, network)
    used = _leading_to(output, working)
    made: set[str] = set()
    inputs: list[str] = []
    for layer in used:
        inputs += [bottom for bottom in layer.bottoms if bottom not in made and bottom not in inputs]
        made.update(layer.tops)
    if len(inputs) != 1:
        raise ModelError(
            f"The net {str(network.path)!r} reads {len(inputs)} inputs ({', '.join(inputs) or 'none'}) on its way to "
            f"{output!r}; only nets with one image as input can be used."
        )
    return Classifier(network, tuple(used), inputs[0], output, used[-1].type == "Softmax")


def _bare(layer: SourceLayer) -> Any:
    """A copy of the message without its numbers, which are most of the file."""
    twin = messages()[layer.message.DESCRIPTOR.name]()
    for descriptor, value in layer.message.ListFields():
        if descriptor.name.endswith("_param"):
            getattr(twin, descriptor.name).MergeFromString(value.SerializeToString())
    return twin


def _declared_inputs(net: Any, layers: tuple[SourceLayer, ...]) -> dict[str, tuple[int, ...]]:
    inputs: dict[str, tuple[int, ...]] = {}
    for place, name in enumerate(net.input):
        if place < len(net.input_shape):
            inputs[name] = tuple(net.input_shape[place].dim)
        else:
            inputs[name] = tuple(net.input_dim[4 * place : 4 * place + 4])
    for layer in layers:
        if layer.type == "Input":
            shapes = [tuple(shape.dim) for shape in layer.parameters("input").shape]
            inputs.update(zip(layer.tops, shapes * len(layer.tops) if len(shapes) == 1 else shapes, strict=False))
    return inputs


def _training_only(layer: SourceLayer) -> bool:
    include, exclude = layer.message.include, layer.message.exclude
    if include:
        return not any(_met(rule) for rule in include)
    return any(_met(rule) for rule in exclude)


def _met(rule: Any) -> bool:
    """Whether a rule holds when the net is used: phase TEST, level 0, no stages."""
    phase = not rule.HasField("phase") or rule.phase == ENUMS["Phase"]["TEST"]
    return phase and not rule.stage and rule.min_level <= 0 and (not rule.HasField("max_level") or rule.max_level >= 0)


def _is_data(layer: SourceLayer) -> bool:
    return layer.type in DATA_TYPES


def _is_loss(layer: SourceLayer) -> bool:
    return layer.type in NOT_FOR_USE or layer.type.endswith("Loss")


def _output(kept: list[SourceLayer], working: list[SourceLayer], network: Network) -> str:
    unread: dict[str, None] = {}
    for layer in working:
        for bottom in layer.bottoms:
            unread.pop(bottom, None)
        unread.update(dict.fromkeys(layer.tops))
    for layer in reversed(kept):
        if layer.type == "SoftmaxWithLoss" and layer.bottoms:
            return layer.bottoms[0]
        if layer.type == "Softmax" and layer.tops and layer.tops[0] in unread:
            return layer.tops[0]
    if not unread:
        raise ModelError(f"The net {str(network.path)!r} has no output: it holds no layer whose result is left over.")
    return list(unread)[-1]


def _leading_to(output: str, layers: list[SourceLayer]) -> list[SourceLayer]:
    needed, used = {output}, []
    for layer in reversed(layers):
        if needed.intersection(layer.tops):
            needed.difference_update(layer.tops)
            needed.update(layer.bottoms)
            used.append(layer)
    return used[::-1]
