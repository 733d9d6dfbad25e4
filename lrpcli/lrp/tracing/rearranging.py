"""Views, attributes and joined tensors -> operations."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx

from lrpcli.lrp.layers.call import Call, Place
from lrpcli.lrp.layers.elementwise import Activation, Scalar, unchanged
from lrpcli.lrp.layers.layer_norm import LayerNorm
from lrpcli.lrp.layers.reductions import AnyMaxPool
from lrpcli.lrp.layers.views import Concat, View
from lrpcli.lrp.tracing.names import function_name
from lrpcli.lrp.tracing.node import Node, Reference, Translated

PART_OF = ("getitem", "getattr")
VIEW_ATTRIBUTES = {"T", "mT", "H", "mH", "data"}
SIZE_ATTRIBUTES = {"shape", "ndim", "dtype", "device"}
PARTED = {
    "chunk", "split", "unbind", "tensor_split", "hsplit", "vsplit", "dsplit", "unsafe_chunk", "unsafe_split",
    "split_with_sizes",
}  # fmt: skip


def read_by(node: Node) -> tuple[int, ...]:
    """All layers that a call reads."""
    return node.tensors() + node.scalars()


def is_part_of_pair(node: Node) -> bool:
    """Whether a call takes one of the results of a maximum that returns (values, indices), or of a norm (y, ...).

    What is taken of such a result is no part of the pair.
    """
    first = node.arguments[0] if node.arguments else None
    operation = node.layers[first.index].operation if isinstance(first, Reference) else None
    source = node.traced.args[0] if node.traced.args else None
    if node.label not in PART_OF or (isinstance(source, fx.Node) and function_name(source) in PART_OF):
        return False
    return (isinstance(operation, AnyMaxPool) and operation.returns_indices) or (
        isinstance(operation, LayerNorm) and operation.returns_more
    )


def values_of_pair(node: Node) -> Translated:
    """The values of a maximum that returns (values, indices), or of a norm; a further result is nothing if not read."""
    if not node.traced.users:
        return Translated(node.label)
    if node.arguments[1] not in (0, "values"):
        if isinstance(node.layers[node.first().index].operation, LayerNorm):
            raise node.unsupported("What a normalisation divides by carries no relevance; only its result can be used.")
        raise node.unsupported("The places of maxima carry no relevance; only their values can be used.")
    return Translated(node.label, value=node.arguments[0])


STRIDE_FREE: dict[str, Callable[..., Any]] = {
    "view": Tensor.reshape,
    "_unsafe_view": Tensor.reshape,
    "view_as": Tensor.reshape_as,
}
"""In place of views that depend on strides, which differ between the model's tensors and the engine's."""


def attribute(node: Node) -> Translated:
    """A size, a number type or a view that is written as an attribute of a tensor."""
    name = node.arguments[1]
    if name in SIZE_ATTRIBUTES or (name in VIEW_ATTRIBUTES and not node.tensors()):
        return Translated(node.label, Scalar(node.replay()), (), read_by(node))
    if name == "data" and node.tensors():
        return node.layer(Activation(unchanged), node.first())
    if name in VIEW_ATTRIBUTES:
        return node.layer(View(node.replay()))
    raise node.unsupported(f"It reads {name!r} of a tensor.")


def made(node: Node) -> Call:
    """A tensor of a number, in the engine's number type and on its device."""
    call = node.replay()
    kept = {
        key: value for key, value in call.keywords.items()
        if key != "device" and not (key == "dtype" and value is not None and value.is_floating_point)
    }  # fmt: skip
    return Call(call.function, call.arguments, kept)


def view(node: Node) -> Translated:
    """A view of its first argument; a part of a split is a view of what was split, so that parts are no layer."""
    first = node.arguments[0]
    if not isinstance(first, Reference) or node.is_scalar(first):
        if node.label in ("getitem", "index_select"):
            raise node.unsupported("Its index must be fixed.")
        return Translated(node.label, Scalar(node.replay()), (), read_by(node))
    parent = node.layers[first.index]
    if node.label == "getitem" and isinstance(parent.operation, View) and parent.operation.many:
        part, split = node.arguments[1], parent.operation.function
        operation = View(lambda x, *sizes: split(x, *sizes)[part], many=isinstance(part, slice))
        return Translated(node.label, operation, parent.inputs, parent.scalars)
    operation = View(
        node.replay(STRIDE_FREE.get(node.label)), many=node.label in PARTED, repeats=node.label in ("unfold", "im2col")
    )
    return Translated(node.label, operation, (first.index,), node.tensors()[1:] + node.scalars())


def join(node: Node, kind: type[Concat] = Concat) -> Translated:
    """Tensors behind each other, of which some may carry no relevance; or the parts of a split joined again."""
    parts, axis = node.get(0, "tensors"), node.get(1, "dim", node.keywords.get("axis", 0))
    if isinstance(parts, Reference):
        return _rejoined(node, parts)
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, (Reference, Tensor)) for part in parts):
        raise node.unsupported("It must join a list of layers or fixed tensors, and nothing else.")
    signals = [part for part in parts if isinstance(part, Reference) and not node.is_scalar(part)]
    if len(signals) == len(parts):
        return node.layer(kind(axis), *signals)
    scalars, found = node.scalars(), iter(range(len(signals)))

    def place(part: Reference | Tensor) -> Place | Tensor:
        if not isinstance(part, Reference):
            return part
        return Place(len(signals) + scalars.index(part.index) if node.is_scalar(part) else next(found))

    return node.layer(kind(axis, tuple(place(part) for part in parts)), *signals)


def _rejoined(node: Node, parts: Reference) -> Translated:
    """The parts of a split, all or some or in another order, as one view of what was split."""
    parent = node.layers[parts.index]
    if not isinstance(parent.operation, View) or not parent.operation.many:
        raise node.unsupported("It must join a list of layers or fixed tensors, and nothing else.")
    split, joined = parent.operation.function, node.replay()
    return Translated(node.label, View(lambda x, *sizes: joined(split(x, *sizes))), parent.inputs, parent.scalars)
