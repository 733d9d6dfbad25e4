"""An ONNX file -> plain Python: nodes with their attributes, fixed tensors, the inputs and the outputs.

Nothing in a file is run, and whatever is wrong with it comes out as a ModelError that names the file.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lrpcli.errors import ModelError, needs_package
from lrpcli.models.onnx.schemas import find_fault
from lrpcli.models.onnx.tensors import ADVICE, REAL, WHOLE, TensorReader
from lrpcli.models.reading import name_damage, read_weights_file

MAXIMAL_DEPTH = 8
"""Of graphs within graphs."""
MAXIMAL_NODES = 20_000
MAXIMAL_NAMES = 1_000
"""That one node may read or make."""
LONGEST_NAME = 1_000
LONGEST_FACT = 300
OLDEST_OPSET = 7
"""Before it, sums and products had rules of their own for shapes that differ."""
DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class OnnxNode:
    """A node: its name, operator, the names of what it reads ("" for what is left out) and makes, its attributes."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    fault: str = ""
    """Why it is no use of its operator, "" if it is one."""

    def get(self, attribute: str, default: Any = None) -> Any:
        """An attribute: a number, text, a list of numbers, a Tensor or a Branch."""
        return self.attributes.get(attribute, default)

    def reads(self, index: int) -> str:
        """The name of an input, "" if the node leaves it out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def read_names(self) -> Iterator[str]:
        """The names of all that it reads, branches included; those that a branch makes itself are among them."""
        yield from filter(None, self.inputs)
        for branch in self.attributes.values():
            if isinstance(branch, Branch):
                for node in branch.nodes:
                    yield from node.read_names()
                yield from branch.outputs


@dataclass(frozen=True)
class Branch:
    """One of the graphs that an If chooses from; it reads the values of the graph around it too."""

    nodes: "tuple[OnnxNode, ...]"
    tensors: Mapping[str, Tensor]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class OnnxInput:
    """An input as the file declares it; `shape` has None where the file leaves an axis open.

    `whole`: it is whole numbers. `numbers`: it is a tensor of numbers at all.
    """

    name: str
    shape: tuple[int | None, ...]
    whole: bool
    numbers: bool


@dataclass(frozen=True)
class OnnxNet:
    """A net as its file has it. `metadata` are the entries by key that a file may have beside the graph."""

    path: Path
    sha256: str
    opset: int
    nodes: tuple[OnnxNode, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[OnnxInput, ...]
    outputs: tuple[str, ...]
    facts: Mapping[str, str]
    metadata: Mapping[str, str]

    def readers(self) -> Counter[str]:
        """How many nodes read each value; the outputs of the net count as read."""
        return Counter([*(name for node in self.nodes for name in node.read_names()), *self.outputs])

    def leading_to(self, outputs: Sequence[str]) -> "OnnxNet":
        """The part of the net that some of its outputs need."""
        makers = {name: node for node in self.nodes for name in node.outputs}
        needed: set[str] = set()
        stack = list(outputs)
        while stack:
            name = stack.pop()
            if name not in needed:
                needed.add(name)
                if name in makers:
                    stack.extend(makers[name].read_names())
        nodes = tuple(node for node in self.nodes if needed.intersection(node.outputs))
        inputs = tuple(value for value in self.inputs if value.name in needed)
        return replace(self, nodes=nodes, inputs=inputs, outputs=tuple(outputs))


def read_net(path: Path) -> OnnxNet:
    """Reads a file. WeightsError if it is missing, ModelError if it is damaged or no net that can be explained."""
    package, damage = _package(path)
    data, digest = read_weights_file(path, "onnx")
    with name_damage(path, ADVICE, damage):
        model = package.load_model_from_string(data)
        if not model.graph.node:
            advice = "A Caffe net is named .caffemodel." if data[:1] == b"\n" else ADVICE
            raise ModelError(f"{str(path)!r} is not an ONNX net: it holds no nodes. {advice}")
        graph = _GraphReader(path, _opset(model, path))
        net = OnnxNet(
            path=path,
            sha256=digest,
            opset=graph.opset,
            tensors=graph.tensors(model.graph),
            nodes=graph.nodes(model.graph),
            inputs=tuple(_inputs(model.graph)),
            outputs=tuple(_text(output.name, path) for output in model.graph.output),
            facts=_facts(model),
            metadata={str(entry.key): str(entry.value) for entry in model.metadata_props},
        )
        _check_names(net)
        return replace(net, sha256=graph.reader.digest(digest))


def _package(path: Path) -> tuple[Any, type[Exception]]:
    """The onnx package, and what it raises on a damaged file."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise needs_package(f"The ONNX file {str(path)!r}", "onnx", "onnx") from error
    return onnx, DecodeError


def _opset(model: Any, path: Path) -> int:
    from onnx import defs

    versions = [int(entry.version) for entry in model.opset_import if entry.domain in DOMAINS]
    if not versions or max(versions) < 1:
        raise ModelError(f"{str(path)!r} does not say which version of the ONNX operators it uses. {ADVICE}")
    if max(versions) < OLDEST_OPSET:
        raise ModelError(
            f"{str(path)!r} uses version {max(versions)} of the ONNX operators, and {OLDEST_OPSET} is the oldest that "
            "is read. Convert it in Python: onnx.version_converter.convert_version(onnx.load(path), 13)."
        )
    if max(versions) > defs.onnx_opset_version():
        raise ModelError(
            f"{str(path)!r} uses version {max(versions)} of the ONNX operators, and the installed onnx package knows "
            f"those up to {defs.onnx_opset_version()}. Update onnx, or export the net for an earlier version."
        )
    return max(versions)


def _inputs(graph: Any) -> Iterator[OnnxInput]:
    """The inputs that are no fixed tensors; files before IR 4 list every fixed tensor as an input."""
    fixed = {proto.name for proto in graph.initializer}
    for value in graph.input:
        if value.name not in fixed:
            kind = value.type.tensor_type
            sizes = (size.dim_value if size.HasField("dim_value") else 0 for size in kind.shape.dim)
            shape = tuple(size if size > 0 else None for size in sizes)
            yield OnnxInput(value.name, shape, kind.elem_type in WHOLE, kind.elem_type in (*REAL, *WHOLE))


def _check_names(net: OnnxNet) -> None:
    """ModelError if a value is made twice: it could not be said which of them is read."""
    made = {*net.tensors, *(value.name for value in net.inputs)}
    if len(net.inputs) != len({value.name for value in net.inputs}):
        raise ModelError(f"{str(net.path)!r} has two inputs of one name. {ADVICE}")
    for node in net.nodes:
        for name in filter(None, node.outputs):
            if name in made:
                raise ModelError(
                    f"The node {node.name!r} of {str(net.path)!r} makes the value {name!r}, which there is already. "
                    f"{ADVICE}"
                )
            made.add(name)
    if not net.outputs or len(set(net.outputs)) != len(net.outputs):
        raise ModelError(f"{str(net.path)!r} has no output, or two of one name. {ADVICE}")


class _GraphReader:
    """Reads graphs and the graphs within them, all of which share the limits on nodes and memory."""

    def __init__(self, path: Path, opset: int) -> None:
        self.path, self.opset, self.reader = path, opset, TensorReader(path)
        self._count = 0
        self._names: Counter[str] = Counter()

    def tensors(self, graph: Any) -> dict[str, Tensor]:
        """The fixed tensors of a graph by name."""
        if graph.sparse_initializer:
            raise ModelError(
                f"{str(self.path)!r} holds sparse tensors, which are not known here. Store them as dense ones."
            )
        return self.reader.read_all(graph.initializer)

    def nodes(self, graph: Any, depth: int = 0) -> tuple[OnnxNode, ...]:
        """The nodes of a graph in their order, each with a name of its own."""
        self._count += len(graph.node)
        if self._count > MAXIMAL_NODES or depth > MAXIMAL_DEPTH:
            raise ModelError(
                f"{str(self.path)!r} has more than {MAXIMAL_NODES:,} nodes, or graphs within graphs more than "
                f"{MAXIMAL_DEPTH} deep, which no net has. {ADVICE}"
            )
        repeated = Counter(node.name for node in graph.node)
        return tuple(self._node(node, repeated[node.name] == 1, depth) for node in graph.node)

    def _node(self, node: Any, single: bool, depth: int) -> OnnxNode:
        if len(node.input) > MAXIMAL_NAMES or len(node.output) > MAXIMAL_NAMES:
            raise ModelError(f"A node of {str(self.path)!r} has more than {MAXIMAL_NAMES} inputs or outputs. {ADVICE}")
        inputs, outputs = (tuple(_text(name, self.path) for name in names) for names in (node.input, node.output))
        operator = _text(node.op_type, self.path)
        name = self._unique(_text(node.name, self.path) if single else "", operator, outputs)
        attributes = {entry.name: self._attribute(entry, depth) for entry in node.attribute}
        standard = node.domain in DOMAINS
        fault = find_fault(node, self.opset) if standard else "its operator is not one of the ONNX standard"
        return OnnxNode(name, operator if standard else f"{node.domain}.{operator}", inputs, outputs, attributes, fault)

    def _unique(self, name: str, operator: str, outputs: Sequence[str]) -> str:
        """The name of a node, or that of its first output where nodes have none or share one."""
        name = name or next(filter(None, outputs), operator)
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name} ({self._names[name]})"

    def _attribute(self, entry: Any, depth: int) -> Any:
        """The value of an attribute; None for the kinds that no operator here has."""
        from onnx import AttributeProto, helper

        if entry.type == AttributeProto.TENSOR:
            return self.reader.read(entry.t)
        if entry.type in (AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.FLOATS, AttributeProto.INTS):
            return helper.get_attribute_value(entry)
        if entry.type == AttributeProto.STRING:
            return entry.s.decode("utf-8", "replace")
        if entry.type == AttributeProto.GRAPH:
            outputs = tuple(_text(output.name, self.path) for output in entry.g.output)
            return Branch(self.nodes(entry.g, depth + 1), self.tensors(entry.g), outputs)
        return None


def _text(name: Any, path: Path) -> str:
    """A name as text: protobuf gives what is no UTF-8 as bytes."""
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
        raise ModelError(f"{str(path)!r} has the name {name[:80]!r}, which is too long or no UTF-8 text. {ADVICE}")
    return name


def _facts(model: Any) -> dict[str, str]:
    """What the file says of itself, for people."""
    made = " ".join(str(text) for text in (model.producer_name, model.producer_version) if text)
    facts = {"made by": made, "description": str(model.doc_string or model.graph.doc_string)}
    return {key: text[:LONGEST_FACT] for key, text in facts.items() if text}


def in_words(values: Iterable[str]) -> str:
    """Names for a message: the first few."""
    names = [repr(value) for value in values]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
