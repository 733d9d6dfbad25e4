"""Blocks that torch.export keeps apart: what runs under `with torch.autocast(...)` or `with torch.no_grad()`.

They are made calls among the others again. The engine has its own number type and no gradients, so it needs neither.
"""

from typing import Any

from torch import fx

from lrpcli.lrp.tracing.names import function_name

BLOCKS = {"wrap_with_autocast": 4, "wrap_with_set_grad_enabled": 1}
"""Calls of blocks, and how many settings come before the block in their arguments."""


def without_blocks(module: fx.GraphModule) -> fx.Graph:
    """The graph of a module with the calls of its blocks in their places; the graph itself if there are none."""
    blocks = {node: body for node in module.graph.nodes if (body := _body(module, node)) is not None}
    if not blocks:
        return module.graph
    made: dict[fx.Node, Any] = {}
    result = fx.Graph()
    for node in module.graph.nodes:
        source: Any = node.args[0] if node.args else None
        if node in blocks:
            made[node] = _opened(result, without_blocks(blocks[node]), [made[each] for each in _operands(node)])
        elif source in blocks and function_name(node) == "getitem":
            made[node] = made[source][node.args[1]]
        elif node.op != "get_attr" or not all(
            user in blocks and user.args[_place(user)] is node for user in node.users
        ):
            made[node] = result.node_copy(node, made.__getitem__)
    result.set_codegen(module.graph._codegen)
    return result


def _place(node: fx.Node) -> int:
    return BLOCKS[function_name(node)]


def _operands(node: fx.Node) -> list[Any]:
    return list(node.args[_place(node) + 1 :])


def _body(module: fx.GraphModule, node: fx.Node) -> fx.GraphModule | None:
    """The block that a node calls; None if it calls none, or one with tensors of its own."""
    if node.op != "call_function" or function_name(node) not in BLOCKS:
        return None
    held = node.args[_place(node)]
    body = getattr(module, str(held.target), None) if isinstance(held, fx.Node) else None
    if (
        not isinstance(body, fx.GraphModule)
        or any(True for _ in body.parameters())
        or any(True for _ in body.buffers())
    ):
        return None
    return body if all(isinstance(each, fx.Node) for each in _operands(node)) else None


def _opened(result: fx.Graph, block: fx.Graph, operands: list[Any]) -> Any:
    """Copies the calls of a block behind those of a graph; what the block returns."""
    inputs = [node for node in block.nodes if node.op == "placeholder"]
    return result.graph_copy(block, dict(zip(inputs, operands, strict=True)))
