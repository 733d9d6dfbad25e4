"""What a net is that code makes, as hashes: its numbers, and what it computes with them."""

import hashlib
import inspect
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lrpcli.errors import LrpError
from lrpcli.lrp.shared_state import ONE_AT_A_TIME
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
    with ONE_AT_A_TIME, eval_mode(module), unmarked(module):
        try:
            texts = [trace(module).python_code("self").src]
        except (LrpError, RuntimeError):
            texts = list(_code(module))
        for text in texts:
            digest.update(text.encode())
        for name, value in _constants(module):  # those of the trace too, while it lasts
            digest.update(name.encode() + _bytes(value))
    return digest.hexdigest()


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _constants(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors that belong to the code: no state dict has them."""
    stored = module.state_dict().keys()
    yield from (item for item in module.named_buffers() if item[0] not in stored)
    for name, part in module.named_modules():
        yield from ((f"{name}.{key}", value) for key, value in vars(part).items() if isinstance(value, Tensor))


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
