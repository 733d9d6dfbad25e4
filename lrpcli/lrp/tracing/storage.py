"""Which values of a traced net lie in the same memory, so that all who read one later see what was written over it."""

from torch import fx

from lrpcli.errors import UnsupportedLayer
from lrpcli.lrp.layers.elementwise import is_unchanged
from lrpcli.lrp.layers.views import View
from lrpcli.lrp.tracing.functions import CASTS, SIZES
from lrpcli.lrp.tracing.node import Translated
from lrpcli.lrp.tracing.rearranging import VIEW_ATTRIBUTES


class Storage:
    """The nodes of a graph by the tensor that they are, and by the memory that it lies in."""

    def __init__(self, graph: fx.Graph) -> None:
        self._place = {node: place for place, node in enumerate(graph.nodes)}
        self._tensor: dict[fx.Node, fx.Node] = {}
        """The first node that is the same tensor."""
        self._memory: dict[fx.Node, fx.Node] = {}
        """The first node in the same memory."""

    def add(self, node: fx.Node, translated: Translated) -> None:
        """Notes what a node that became a layer shares with its first input; a view may share or copy."""
        shares = isinstance(translated.operation, View) or translated.type in CASTS  # or copies
        same = translated.in_place or (is_unchanged(translated.operation) and translated.type not in {"clone", *CASTS})
        source = _first_input(node)
        if source is not None and (same or shares):
            self._memory[node] = self._memory.get(source, source)
            self._tensor[node] = self._tensor.get(source, source) if same else node

    def written_over(self, node: fx.Node, name: str) -> list[fx.Node]:
        """The nodes that are the tensor which `node` writes over, itself left out.

        UnsupportedLayer if another view of that memory is read later: it holds a part of what was written.
        """
        tensor, memory = self._tensor.get(node, node), self._memory.get(node, node)
        relatives = [other for other in self._place if self._memory.get(other, other) is memory and other is not node]
        same = [other for other in relatives if self._tensor.get(other, other) is tensor]
        for other in relatives:
            if other not in same and self._is_read_after(other, node):
                raise UnsupportedLayer(
                    f"Layer {name!r} writes over its input, and {other.name!r}, another view of the same memory, is "
                    "read afterwards; no rule is known for that. Compute it out of place (inplace=False)."
                )
        return same

    def _is_read_after(self, node: fx.Node, writer: fx.Node) -> bool:
        return any(self._place[user] > self._place[writer] and _reads_values(user) for user in node.users)


def _first_input(node: fx.Node) -> fx.Node | None:
    first = node.args[0] if node.args else node.kwargs.get("input")
    return first if isinstance(first, fx.Node) else None


def _reads_values(node: fx.Node) -> bool:
    if node.op in ("call_module", "output"):
        return True
    name = getattr(node.target, "__name__", node.target)
    return name not in SIZES or (name == "getattr" and node.args[1] in VIEW_ATTRIBUTES)
