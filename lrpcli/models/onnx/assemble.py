"""An ONNX file -> Model: input shape, preprocessing, nodes in a graph."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import fx

from lrpcli.errors import ModelError, UnsupportedLayer, suggestion
from lrpcli.images.preprocess import Preprocessing
from lrpcli.models.description import Description
from lrpcli.models.model import Model, check_input_shape, make_model
from lrpcli.models.onnx.builder import OnnxBuilder, Symbol
from lrpcli.models.onnx.net import Branch, OnnxNet, OnnxNode, in_words, read_net
from lrpcli.models.onnx.operators import OPERATORS


def import_onnx(path: Path, description: Description) -> Model:
    """The importer of .onnx files; `description` overrules what the file says."""
    net = read_net(path)
    shape, last = _input_shape(net, description.input_shape)
    module, outputs = build_module(net, shape, channels_last=last)
    default = Preprocessing(size=shape[1:], pixel_scale=1 / 255, channels=shape[0])
    return make_model(
        module, shape, default, description, name=path.stem, source=str(path), outputs=outputs,
        weights_sha256=net.sha256,
    )  # fmt: skip


def build_module(net: OnnxNet, shape: tuple[int, int, int], *, channels_last: bool = False) -> tuple[fx.GraphModule, int]:
    """The net in eval mode: (N, C, H, W) -> (N, classes); and `classes`. `channels_last`: the file wants (N, H, W, C)."""
    builder = OnnxBuilder(net, (1, *shape))
    if channels_last:
        builder.permute_input((0, 2, 3, 1))
    add_nodes(builder)
    output = _chosen_output(net)
    scores = builder.values.get(output)
    if not isinstance(scores, Symbol):
        raise ModelError(f"The output {output!r} of {str(net.path)!r} does not depend on the image.")
    builder.nodes[output], builder.shapes[output] = scores.node, scores.shape[1:]
    builder.flatten_scores(output)
    return builder.build(output, "OnnxNet"), builder.shapes[output][0]


def add_nodes(builder: OnnxBuilder) -> None:
    """Adds every node that the outputs need, in the order of the file, which is that of execution."""
    for node in _chosen(builder, builder.net.nodes):
        handler = OPERATORS.get(node.operator)
        if handler is None:
            raise builder.unsupported(node, f"the operator is not known{suggestion(node.operator, OPERATORS)}")
        builder.check_numbers(node)
        handler(builder, node)


def _chosen(builder: OnnxBuilder, nodes: Iterable[OnnxNode]) -> Iterator[OnnxNode]:
    """The nodes in order, those of an If from the branch that its condition chooses, which must be fixed."""
    for node in nodes:
        if node.operator != "If":
            yield node
            continue
        condition = builder.fixed(node, 0)
        branch = node.get("else_branch" if condition is None or not bool(condition.all()) else "then_branch")
        if not isinstance(branch, Branch):
            raise builder.unsupported(node, "it lacks the branch that it chooses")
        builder.values.update(branch.tensors)
        yield from _chosen(builder, branch.nodes)
        for inner, outer in zip(branch.outputs, node.outputs, strict=False):
            yield OnnxNode(node.name, "Identity", (inner,), (outer,), {})


def _chosen_output(net: OnnxNet) -> str:
    if len(net.outputs) != 1:
        raise UnsupportedLayer(f"{str(net.path)!r} has the outputs {in_words(net.outputs)}; nets with one are read.")
    return net.outputs[0]


def _input_shape(net: OnnxNet, given: tuple[int, int, int] | None) -> tuple[tuple[int, int, int], bool]:
    """(C, H, W), and whether the file has the channels last."""
    sizes = net.shape[1:]
    last = len(sizes) == 3 and sizes[-1] in (1, 3) and sizes[0] not in (1, 3)
    if given is None:
        if len(sizes) != 3 or None in sizes:
            raise ModelError(
                f"{str(net.path)!r} does not say how large an image it reads. Give its input shape as channels, height, "
                "width, for example 3,224,224 (--input-shape on the command line)."
            )
        height, width, channels = sizes if last else (*sizes[1:], sizes[0])
        given = (int(channels or 0), int(height or 0), int(width or 0))
    return check_input_shape(given, str(net.path)), last
