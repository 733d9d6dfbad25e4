"""The description of a Caffe net, V1 and V2 alike, and what of it is needed to classify an image."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lrpcli.errors import ModelError, suggestion
from lrpcli.models.caffe.fields import Item, unread_in_message, unread_in_text
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
NOT_FOR_USE = {"Accuracy", "ArgMax", "Silence", "HDF5Output"}
"""What a training net measures, and ArgMax, which makes one class of the scores."""


@dataclass(frozen=True)
class SourceLayer:
    """One layer as the file has it; `type` in V2 spelling, `message` its hyper-parameters, `blobs` BlobProtos.

    `unread` are paths of fields that may change what it computes and are not known here, see caffe.fields. `textual`:
    whether it stands in a text, and not in a binary file.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    message: Any
    blobs: tuple[Any, ...] = ()
    unread: tuple[str, ...] = ()
    textual: bool = False

    def parameters(self, kind: str) -> Any:
        """Hyper-parameters such as "convolution": an empty message with Caffe's defaults where the file has none."""
        name = f"{kind}_param"
        # V1 knows fewer parameters than V2; for those it lacks, the defaults are all there is.
        known = name in self.message.DESCRIPTOR.fields_by_name
        return getattr(self.message if known else messages()["LayerParameter"](), name)

    @property
    def stays_in_training(self) -> bool:
        """Whether a text says so; binary files keep the phase in which they were written."""
        return (
            self.textual
            and self.type in ("BatchNorm", "Dropout")
            and "phase" in self.message.DESCRIPTOR.fields_by_name
            and self.message.HasField("phase")
            and self.message.phase == 0
        )

    def without_blobs(self) -> "SourceLayer":
        """The same layer with a message of its own, which holds no numbers: they are most of the file."""
        self.message.ClearField("blobs")
        twin = messages()[self.message.DESCRIPTOR.name]()
        twin.MergeFromString(self.message.SerializeToString())
        return replace(self, message=twin, blobs=())


@dataclass(frozen=True)
class Network:
    """Layers in file order and the declared inputs: blob name -> shape with the batch axis, () if unknown.

    `level` and `stages` are the state that rules of layers ask for; the phase is always TEST.
    """

    path: Path
    name: str
    layers: tuple[SourceLayer, ...]
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    level: int = 0
    stages: frozenset[str] = frozenset()

    def without_blobs(self) -> "Network":
        """The same net without its weights, so that they can be freed."""
        return replace(self, layers=tuple(layer.without_blobs() for layer in self.layers))

    def has_parameters(self) -> bool:
        """Whether layers are connected and sized; some tools write weights and names alone."""
        sized = [
            layer.parameters("convolution" if layer.type == "Convolution" else "inner_product").num_output > 0
            for layer in self.layers
            if layer.type in ("Convolution", "InnerProduct")
        ]
        return any(layer.bottoms for layer in self.layers) and bool(sized) and all(sized)

    def is_used(self, layer: SourceLayer) -> bool:
        """Whether a layer's rules let it take part when the net is used."""
        include, exclude = layer.message.include, layer.message.exclude
        if include:
            return any(self._is_met(rule) for rule in include)
        return not any(self._is_met(rule) for rule in exclude)

    def _is_met(self, rule: Any) -> bool:
        return (
            (not rule.HasField("phase") or rule.phase == ENUMS["Phase"]["TEST"])
            and (not rule.HasField("min_level") or self.level >= rule.min_level)
            and (not rule.HasField("max_level") or self.level <= rule.max_level)
            and self.stages.issuperset(rule.stage)
            and self.stages.isdisjoint(rule.not_stage)
        )

    def data_layers(self, blob: str) -> list[SourceLayer]:
        """The layers that make a blob of data: those of the phase TEST, or all where there are none."""
        found = [layer for layer in self.layers if is_data(layer) and blob in layer.tops]
        return [layer for layer in found if self.is_used(layer)] or found


def network_from_message(net: Any, path: Path, items: list[Item] | None = None) -> Network:
    """The Network of a NetParameter message; `items` is the outline of the text that it was read from.

    Raises ModelError for the oldest format, for fields of the net that are not known, and for absurdly many layers.
    """
    if any(layer.HasField("layer") for layer in net.layers):
        raise ModelError(
            f"{str(path)!r} is in Caffe's oldest format (V0), which is not read here. Convert it with Caffe's "
            "upgrade_net_proto_binary or upgrade_net_proto_text."
        )
    if len(net.layer) + len(net.layers) > MAXIMAL_LAYERS:
        raise ModelError(f"{str(path)!r} has more than {MAXIMAL_LAYERS} layers, which no net has. Fetch it again.")
    if net.layer and net.layers:
        raise ModelError(
            f"{str(path)!r} mixes layers of both formats, 'layer' (V2) and 'layers' (V1), of which Caffe drops one. "
            "Write all of them as 'layer'."
        )
    _refuse_unread(net, path, items)
    names = {number: name for name, number in ENUMS["V1LayerType"].items()}
    types = [layer.type for layer in net.layer] or [modern_type(names[layer.type]) for layer in net.layers]
    written = None if items is None else [item for item in items if item.name in ("layer", "layers")]
    layers = tuple(
        SourceLayer(
            layer.name, kind, tuple(layer.bottom), tuple(layer.top), layer, tuple(layer.blobs),
            _unread(layer, kind, None if written is None else written[place].items), written is not None,
        )
        for place, (layer, kind) in enumerate(zip(net.layer or net.layers, types, strict=True))
    )  # fmt: skip
    for layer in layers:
        _refuse_unreadable(layer, path)
        _refuse_unknown_rules(layer, path)
    inputs = _declared_inputs(net, layers)
    name = net.name if isinstance(net.name, str) else ""
    return Network(path, name, layers, inputs, net.state.level, frozenset(net.state.stage))


def _refuse_unreadable(layer: SourceLayer, path: Path) -> None:
    """ModelError for names that are no UTF-8: protobuf gives them as bytes."""
    for name in (layer.name, layer.type, *layer.bottoms, *layer.tops):
        if not isinstance(name, str):
            raise ModelError(
                f"{str(path)!r} has the name {name!r}, which is no UTF-8 text. Rename it, or fetch the file again."
            )


def _unread(message: Any, kind: str, items: list[Item] | None) -> tuple[str, ...]:
    return unread_in_message(message, kind) if items is None else unread_in_text(items, message.DESCRIPTOR, kind)


def _refuse_unread(net: Any, path: Path, items: list[Item] | None) -> None:
    unread = unread_in_message(net, None) if items is None else unread_in_text(items, net.DESCRIPTOR, None)
    if unread:
        raise ModelError(
            f"The net {str(path)!r} has {unread[0]!r} beside its layers, which is not known here and may change what "
            "it computes. Take it out if it does not."
        )


def _refuse_unknown_rules(layer: SourceLayer, path: Path) -> None:
    for name in layer.unread:
        if name.startswith(("include.", "exclude.")) or name.endswith((" of include", " of exclude")):
            raise ModelError(
                f"The layer {layer.name!r} of {str(path)!r} has {name!r}, a rule that is not known here, so that it "
                "cannot be said whether the layer is used. Take the rule out, or the layer."
            )


def modern_type(name: str) -> str:
    """The V2 spelling of a V1 layer type: INNER_PRODUCT -> InnerProduct."""
    return IRREGULAR.get(name) or "".join(part.capitalize() for part in name.split("_"))


def is_data(layer: SourceLayer) -> bool:
    """Whether a layer makes data for the net, and computes nothing."""
    return layer.type in DATA_TYPES


def is_loss(layer: SourceLayer) -> bool:
    """Whether a layer measures in training how wrong the net is."""
    return layer.type.endswith("Loss")


def working_layers(network: Network) -> list[SourceLayer]:
    """The layers that compute something when the net is used: no data, losses, measures or training-only layers.

    Raises ModelError if two of them make one blob: Caffe refuses that too, unless a layer overwrites what it reads.
    """
    found = [layer for layer in network.layers if network.is_used(layer) and not is_data(layer) and _works(layer)]
    makers: dict[str, SourceLayer] = {}
    for layer in found:
        for place, top in enumerate(layer.tops):
            in_place = place < len(layer.bottoms) and layer.bottoms[place] == top
            if top in makers and not in_place:
                raise ModelError(
                    f"The layers {makers[top].name!r} and {layer.name!r} of {str(network.path)!r} both make the blob "
                    f"{top!r}. Give one of them another name for its top."
                )
            makers[top] = layer
    return found


def layers_leading_to(output: str, layers: list[SourceLayer]) -> list[SourceLayer]:
    """Those of the layers that a blob needs, in their order."""
    needed, used = {output}, []
    for layer in reversed(layers):
        if needed.intersection(layer.tops):
            needed.difference_update(layer.tops)
            needed.update(layer.bottoms)
            used.append(layer)
    return used[::-1]


def input_of(used: list[SourceLayer], output: str, network: Network) -> str:
    """The one blob that layers read and none of them makes: the image. ModelError if there are more, or another."""
    made: set[str] = set()
    readers: dict[str, SourceLayer] = {}
    for layer in used:
        for bottom in layer.bottoms:
            if bottom not in made:
                readers.setdefault(bottom, layer)
        made.update(layer.tops)
    declared = {top for layer in network.layers if is_data(layer) for top in layer.tops}.union(network.inputs)
    for blob, reader in readers.items():
        if blob not in declared:
            _explain_missing(blob, reader, declared, network)
    if len(readers) != 1:
        raise ModelError(
            f"The net {str(network.path)!r} reads {len(readers)} inputs ({', '.join(readers) or 'none'}) on its way to "
            f"{output!r}; only nets with one image as input can be used."
        )
    return next(iter(readers))


def _explain_missing(blob: str, reader: SourceLayer, declared: set[str], network: Network) -> None:
    """ModelError for a blob that is read and comes from nowhere; a net without any input may have one such blob."""
    makers = [layer for layer in network.layers if blob in layer.tops]
    where = f"The layer {reader.name!r} of {str(network.path)!r} reads {blob!r}"
    if makers and network.is_used(makers[0]) and _works(makers[0]):
        raise ModelError(
            f"{where} before the layer {makers[0].name!r} makes it. Write the layers in the order in which they run; "
            "a net cannot have loops."
        )
    if makers:
        raise ModelError(
            f"{where}, which only {makers[0].name!r} makes ({makers[0].type}), a layer that is left out when the net "
            "is used. Cut the net before it."
        )
    if declared:
        known = declared.union(*(layer.tops for layer in network.layers))
        raise ModelError(f"{where}, which is no input, and no layer makes it.{suggestion(blob, known)}")


def repeated_names(layers: list[SourceLayer]) -> set[str]:
    """Names that several of the layers have."""
    return {name for name, count in Counter(layer.name for layer in layers).items() if count > 1}


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


def _works(layer: SourceLayer) -> bool:
    return layer.type not in NOT_FOR_USE and not is_loss(layer)
