"""What a net is that code makes, as hashes: its numbers, and what it computes with them."""

import hashlib
import inspect
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lrpcli.errors import LrpError
from lrpcli.lrp.tracing.refusals import eval_mode, unmarked
from lrpcli.lrp.tracing.tracer import trace

PLAIN = (bool, int, float, str, tuple, type(None))
"""Types of attributes that say how a module computes."""


def hash_weights(module: nn.Module) -> str:
    """The sha256 of all parameters and buffers with their names, shapes and types."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_tensors(module)):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if not tensor.is_meta:
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def hash_net(module: nn.Module) -> str:
    """The sha256 of what a module computes beside its weights: its layers with their settings, and its calls.

    A net that torch.fx cannot trace is known by the code of its classes and their plain attributes.
    """
    digest = hashlib.sha256(repr(module).encode())
    try:
        with eval_mode(module), unmarked(module):
            graph = trace(module)
            digest.update(graph.python_code("self").src.encode())
            for name, value in sorted(vars(module).items()):
                if isinstance(value, Tensor):  # a constant of the forward function
                    digest.update(name.encode() + _bytes(value))
    except (LrpError, RuntimeError):
        for text in _code(module):
            digest.update(text.encode())
    return digest.hexdigest()


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _code(module: nn.Module) -> Iterator[str]:
    """The source of every class in a module that is not torch's, and the attributes of its parts."""
    for name, part in module.named_modules():
        kind = type(part)
        yield f"{name} {kind.__qualname__} " + repr(
            sorted((key, value) for key, value in vars(part).items() if isinstance(value, PLAIN))
        )
        if not kind.__module__.startswith("torch."):
            try:
                yield inspect.getsource(inspect.getmodule(kind) or kind)
            except (OSError, TypeError):  # made in a running program
                continue
