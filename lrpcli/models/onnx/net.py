"""An ONNX file -> plain Python: nodes with their attributes, fixed tensors, the input and the outputs.

What a file claims is checked against what it holds before any memory is set aside for it, and whatever is wrong with
it comes out as a ModelError that names the file.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrpcli.errors import ModelError, UnsupportedLayer
from lrpcli.models.reading import name_damage, read_weights_file

ADVICE = "Give an undamaged .onnx file."
MAXIMAL_BYTES = 2**31
"""Of all fixed tensors of one net together; protobuf reads no larger file either."""
MAXIMAL_DEPTH = 8
"""Of graphs within graphs."""
DOMAINS = ("", "ai.onnx")
FLOATS = (1, 10, 11, 16)
"""TensorProto's float, float16, double and bfloat16; all are computed as float32."""


@dataclass(frozen=True)
class OnnxNode:
    """A node: its name, operator, the names of what it reads ("" for what is left out) and makes, its attributes."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def get(self, attribute: str, default: Any = None) -> Any:
        """An attribute: a number, text, a list of numbers, or a Tensor."""
        return self.attributes.get(attribute, default)

    def reads(self, index: int) -> str:
        """The name of an input, "" if the node leaves it out."""
        return self.inputs[index] if index < len(self.inputs) else ""


@dataclass(frozen=True)
class Branch:
    """One of the graphs that an If chooses from; it reads the values of the graph around it too."""

    nodes: "tuple[OnnxNode, ...]"
    tensors: Mapping[str, Tensor]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class OnnxNet:
    """A net as its file has it; `shape` is that of the input, None where the file leaves an axis open."""

    path: Path
    sha256: str
    opset: int
    nodes: tuple[OnnxNode, ...]
    tensors: Mapping[str, Tensor]
    input: str
    shape: tuple[int | None, ...]
    whole: bool
    """Whether the input is whole numbers."""
    outputs: tuple[str, ...]
    facts: Mapping[str, str]

    def readers(self) -> Counter[str]:
        """How many nodes read each value; the outputs of the net count as read."""
        return Counter([*_read_by(self.nodes), *self.outputs])


def _read_by(nodes: Iterable[OnnxNode]) -> Iterator[str]:
    for node in nodes:
        yield from filter(None, node.inputs)
        for branch in node.attributes.values():
            if isinstance(branch, Branch):
                yield from _read_by(branch.nodes)
                yield from branch.outputs


def read_net(path: Path) -> OnnxNet:
    """Reads a file. WeightsError if it is missing, ModelError if it is damaged or no net that can be explained."""
    onnx = _package(path)
    data, digest = read_weights_file(path)
    with name_damage(path, ADVICE, onnx.proto.DecodeError):
        model = onnx.package.load_model_from_string(data)
        graph = model.graph
        if not graph.node:
            raise ModelError(f"{str(path)!r} is not an ONNX net: it holds no nodes. {ADVICE}")
        tensors = _initializers(graph, path)
        value = _only_input(graph, tensors, path)
        sizes = value.type.tensor_type.shape.dim
        return OnnxNet(
            path=path,
            sha256=digest,
            opset=_opset(model, path),
            nodes=tuple(_nodes(graph, path, 0)),
            tensors=tensors,
            input=value.name,
            shape=tuple(size.dim_value if size.HasField("dim_value") else None for size in sizes),
            whole=value.type.tensor_type.elem_type not in FLOATS,
            outputs=tuple(output.name for output in graph.output),
            facts=_facts(model),
        )


@dataclass(frozen=True)
class _Onnx:
    package: Any
    proto: Any


def _package(path: Path) -> _Onnx:
    try:
        import onnx
        from google.protobuf import message
    except ImportError as error:
        raise ModelError(
            f"Reading the ONNX file {str(path)!r} needs the onnx package. Install lrpcli[onnx] "
            "(pip install 'lrpcli[onnx]')."
        ) from error
    return _Onnx(onnx, message)


def _opset(model: Any, path: Path) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in DOMAINS]
    if not versions:
        raise ModelError(f"{str(path)!r} does not say which version of the ONNX operators it uses. {ADVICE}")
    return int(max(versions))


def _initializers(graph: Any, path: Path) -> dict[str, Tensor]:
    if graph.sparse_initializer:
        raise ModelError(f"{str(path)!r} holds sparse tensors, which are not known here. Store them as dense ones.")
    protos = {proto.name: proto for proto in graph.initializer}
    total = sum(_bytes_of(proto, path) for proto in protos.values())
    if total > MAXIMAL_BYTES:
        raise ModelError(f"The tensors of {str(path)!r} would take {total:,} bytes; at most {MAXIMAL_BYTES:,} are read.")
    return {name: read_tensor(proto, path) for name, proto in protos.items()}


def _bytes_of(proto: Any, path: Path) -> int:
    from onnx import helper

    if any(side < 0 for side in proto.dims):
        raise ModelError(f"The tensor {proto.name!r} of {str(path)!r} has a negative size. {ADVICE}")
    return math.prod(proto.dims) * int(helper.tensor_dtype_to_np_dtype(proto.data_type).itemsize)


def read_tensor(proto: Any, path: Path) -> Tensor:
    """A tensor of a file: floating-point numbers as float32, whole ones as int64, both checked against its shape."""
    from onnx import TensorProto, numpy_helper

    size, what = _bytes_of(proto, path), f"tensor {proto.name!r} of {str(path)!r}"
    if proto.data_location == TensorProto.EXTERNAL:
        array = _external(proto, size, path)
    elif proto.HasField("raw_data") and len(proto.raw_data) != size:
        raise ModelError(f"The {what} claims {size} bytes and holds {len(proto.raw_data)}. {ADVICE}")
    else:
        array = numpy_helper.to_array(proto)
    return as_tensor(array, what)


def as_tensor(array: Any, what: str) -> Tensor:
    """Numbers as the importer computes with them; ModelError if they are text, complex or not finite."""
    array = np.asarray(array)
    if array.dtype.kind == "b":
        return torch.from_numpy(array.copy())
    if array.dtype.kind in "iu":
        return torch.from_numpy(array.astype(np.int64))
    try:
        numbers = array.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ModelError(f"The {what} holds {array.dtype} and not numbers. {ADVICE}") from error
    if array.dtype.kind == "c":
        raise ModelError(f"The {what} holds complex numbers. {ADVICE}")
    return torch.from_numpy(numbers)


def _external(proto: Any, size: int, path: Path) -> np.ndarray:
    """A tensor that lies in a file of its own, which must be in the folder of the net."""
    from onnx import helper

    fields = {entry.key: entry.value for entry in proto.external_data}
    location, offset = Path(fields.get("location", "")), int(fields.get("offset", 0))
    folder = path.resolve().parent
    place = (folder / location).resolve()
    if location.is_absolute() or not place.is_relative_to(folder) or not place.is_file():
        raise ModelError(
            f"The tensor {proto.name!r} of {str(path)!r} lies in {str(location)!r}, which is not a file in the folder "
            "of the net. Put the data beside the .onnx file, under the name that it was exported with."
        )
    length = int(fields.get("length", size))
    if length != size or offset < 0 or offset + size > place.stat().st_size:
        raise ModelError(
            f"The tensor {proto.name!r} of {str(path)!r} claims {size} bytes at {offset} of {str(location)!r}, which "
            "does not hold them. Copy both files again."
        )
    with place.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    kind = helper.tensor_dtype_to_np_dtype(proto.data_type)
    return np.frombuffer(data, kind.newbyteorder("<")).reshape(tuple(proto.dims))


def _only_input(graph: Any, tensors: Mapping[str, Tensor], path: Path) -> Any:
    """The one input that is no fixed tensor; files before IR 4 list every fixed tensor as an input."""
    inputs = [value for value in graph.input if value.name not in tensors]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise ModelError(f"{str(path)!r} has {len(inputs)} inputs ({names}); only nets with one can be explained.")
    return inputs[0]


def _nodes(graph: Any, path: Path, depth: int) -> Iterator[OnnxNode]:
    if depth > MAXIMAL_DEPTH:
        raise ModelError(f"{str(path)!r} has graphs within graphs, more than {MAXIMAL_DEPTH} deep. {ADVICE}")
    for number, node in enumerate(graph.node):
        outputs = tuple(node.output)
        name = node.name or next(filter(None, outputs), f"node {number}")
        if node.domain not in DOMAINS:
            raise UnsupportedLayer(
                f"Node {name!r} of {str(path)!r} is a {node.op_type} of the domain {node.domain!r}, whose operators are "
                "not known here. Export the net with standard operators."
            )
        attributes = {entry.name: _attribute(entry, name, path, depth) for entry in node.attribute}
        yield OnnxNode(name, node.op_type, tuple(node.input), outputs, attributes)


def _attribute(entry: Any, node: str, path: Path, depth: int) -> Any:
    from onnx import AttributeProto, helper

    if entry.type == AttributeProto.TENSOR:
        return read_tensor(entry.t, path)
    if entry.type in (AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.FLOATS, AttributeProto.INTS):
        return helper.get_attribute_value(entry)
    if entry.type == AttributeProto.STRING:
        return entry.s.decode("utf-8", "replace")
    if entry.type == AttributeProto.GRAPH:
        outputs = tuple(output.name for output in entry.g.output)
        return Branch(tuple(_nodes(entry.g, path, depth + 1)), _initializers(entry.g, path), outputs)
    raise ModelError(f"The attribute {entry.name!r} of node {node!r} of {str(path)!r} has a kind that is not known here.")


def _facts(model: Any) -> dict[str, str]:
    """What the file says of itself, for people."""
    made = " ".join(filter(None, (model.producer_name, model.producer_version)))
    facts = {"made by": made, "description": model.doc_string or model.graph.doc_string}
    return {key: text for key, text in facts.items() if text}


def in_words(values: Sequence[str]) -> str:
    """Names for a message."""
    return ", ".join(map(repr, values))
