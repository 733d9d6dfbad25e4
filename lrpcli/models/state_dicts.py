"""Weights that PyTorch saved into the module that they belong to: strictly, or not at all."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lrpcli.errors import ModelError
from lrpcli.models.state_files import listed, read_state_dict
from lrpcli.text_files import plain_reason

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What DataParallel, torch.compile and Lightning put before every name."""
INNER = ("_orig_mod.", "module.")
"""What they put into names where they wrap a part of a net."""
COUNTER = "num_batches_tracked"
"""A count of training steps that old files lack; nothing is computed with it in eval mode."""


def load_weights(module: nn.Module, path: str | Path, name: str) -> str:
    """Puts the weights in a file into a module, which messages call `name`; gives the sha256 of the file.

    Numbers take the types that the module has; a module on the meta device gets memory. Every tensor of the module must
    be there, in its shape, and nothing else: ModelError names the first that are missing, left over or of another
    shape. Errors of read_state_dict.

    >>> import torch
    >>> from lrpcli.models.state_dicts import load_weights
    >>> torch.save({"state_dict": torch.nn.Linear(4, 2).state_dict()}, "linear.pt")
    >>> len(load_weights(torch.nn.Linear(4, 2), "linear.pt", "my net"))
    64
    >>> load_weights(torch.nn.Linear(4, 3), "linear.pt", "my net")
    Traceback (most recent call last):
        ...
    lrpcli.errors.ModelError: 'linear.pt' does not fit my net: weight is 2 x 4 in the file and 3 x 4 in the net, ...
    """
    found = read_state_dict(path)
    expected = {key: value for key, value in module.state_dict().items() if isinstance(value, Tensor)}
    tensors = _fitted(found.tensors, expected)
    _require_shapes(tensors, expected, found.path, name)
    converted = {key: _converted(tensor, expected.get(key), key, found.path) for key, tensor in tensors.items()}
    on_meta = any(tensor.is_meta for tensor in expected.values())
    try:
        keys = module.load_state_dict(converted, strict=False, assign=on_meta)
    except RuntimeError as error:
        raise ModelError(f"{str(path)!r} does not fit {name}: {plain_reason(error)}. {_advice(name)}") from error
    missing = [key for key in keys.missing_keys if not _is_counter(key)]
    unexpected = [key for key in keys.unexpected_keys if not _is_counter(key) or _variance(key) not in expected]
    if missing or unexpected:
        raise ModelError(_misfit(missing, unexpected, found.path, name))
    _require_kept(module, converted, found.path, name)
    if on_meta:
        _start_counters(module)
    return found.sha256


def _fitted(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the first form of their names that fits, or else the form that fits best."""
    forms = list(_renamed(tensors))
    wanted = {key for key in expected if not _is_counter(key)}
    return max(forms, key=lambda form: len(wanted & form.keys()))


def _renamed(tensors: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors by their own names, then without what wrappers put before or into them, one after the other."""
    yield tensors
    prefix = next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in tensors)), None)
    if prefix is not None:
        yield from _renamed({key.removeprefix(prefix): tensor for key, tensor in tensors.items()})
        return
    for inner in INNER:
        shorter = {re.sub(rf"(^|\.){re.escape(inner)}", r"\1", key): tensor for key, tensor in tensors.items()}
        if shorter.keys() != tensors.keys() and len(shorter) == len(tensors):
            yield from _renamed(shorter)


def _is_counter(key: str) -> bool:
    return key.rpartition(".")[2] == COUNTER


def _variance(counter: str) -> str:
    """What the norm is sure to have that counts its training steps under this name."""
    return counter.removesuffix(COUNTER) + "running_var"


def _require_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path, name: str) -> None:
    """ModelError for tensors of other shapes than the net's; those of lazy modules take any."""
    wrong = [
        f"{key} is {_shape(tensor)} in the file and {_shape(expected[key])} in the net"
        for key, tensor in tensors.items()
        if key in expected and not is_lazy(expected[key]) and tensor.shape != expected[key].shape
    ]
    if wrong:
        raise ModelError(f"{str(path)!r} does not fit {name}: {listed(wrong)}. {_advice(name)}")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"


def _converted(tensor: Tensor, wanted: Tensor | None, key: str, path: Path) -> Tensor:
    """The tensor in the type that the net has. ModelError if that makes other numbers of it, or if some are no numbers.

    Fewer digits are no other numbers.
    """
    if wanted is None:
        return tensor
    if tensor.is_floating_point() != wanted.is_floating_point():
        raise ModelError(
            f"Tensor {key!r} of {str(path)!r} holds {_type(tensor)}, and the net has {_type(wanted)} there. Save the "
            "weights as the net has them."
        )
    result = tensor.to(wanted.dtype)
    if not (result.isfinite().all() if result.is_floating_point() else torch.equal(result.to(tensor.dtype), tensor)):
        raise ModelError(
            f"Tensor {key!r} of {str(path)!r} holds values that are not finite as {_type(wanted)}. Fetch it again, or "
            "save the weights anew."
        )
    return result


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _require_kept(module: nn.Module, tensors: Mapping[str, Tensor], path: Path, name: str) -> None:
    """ModelError if a tensor is not in the net as the file has it: two names of one tensor, each with other numbers."""
    now = module.state_dict()
    changed = [
        key for key, tensor in tensors.items() if isinstance(now.get(key), Tensor) and not torch.equal(now[key], tensor)
    ]
    if changed:
        raise ModelError(
            f"{str(path)!r} does not fit {name}: {listed(changed)} cannot be what the file says, as the net has one "
            f"tensor under several names, or changes what it is given. {_advice(name)}"
        )


def _start_counters(module: nn.Module) -> None:
    """Counters that a file lacked, in a module that was on the meta device, become 0."""
    for part in module.modules():
        counter = part._buffers.get(COUNTER)
        if counter is not None and counter.is_meta:
            part._buffers[COUNTER] = torch.zeros_like(counter, device="cpu")


def _misfit(missing: list[str], unexpected: list[str], path: Path, name: str) -> str:
    parts = [f"it lacks {listed(missing)}"] if missing else []
    parts += [f"it has {listed(unexpected)}, which the net has not"] if unexpected else []
    return f"{str(path)!r} does not fit {name}: {', and '.join(parts)}. {_advice(name)}"


def _advice(name: str) -> str:
    return f"Give the weights that belong to {name}."
