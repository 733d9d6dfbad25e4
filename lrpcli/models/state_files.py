"""Files of weights that PyTorch saved, .safetensors, .pt or .pth, read as data: no code of theirs is run."""

import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lrpcli.errors import ModelError
from lrpcli.models.reading import Allowance, check_weights_file, hash_weights_file
from lrpcli.models.recognise import recognise
from lrpcli.text_files import plain_reason

WRAPPINGS = ("state_dict", "model_state_dict", "model", "net", "weights",
             "state_dict_ema", "model_ema", "ema_state_dict")  # fmt: skip
"""Under which key a checkpoint holds its state dict, beside the optimiser's and other things."""
SHOWN = 3
"""Names that a message lists."""
NEEDS_CODE = re.compile(r"GLOBAL ([\w.]+) (?:was not an allowed|whose module)")
"""What torch says of a file that asks for a class or function."""
SAVE = "torch.save(module.state_dict(), 'weights.pt')"
AGAIN = f"Fetch it again, or save the weights anew: {SAVE}."


@dataclass(frozen=True)
class StateDict:
    """The tensors of a file by name, as they are stored, and the sha256 of the file."""

    path: Path
    tensors: dict[str, Tensor]
    sha256: str


def read_state_dict(path: str | Path) -> StateDict:
    """The tensors in a file, out of whatever a checkpoint wraps them in.

    Which of the formats it is decides its content. WeightsError if it cannot be read; ModelError if it is damaged, too
    large, would have to run code to be read, or holds anything but the weights of one net.
    """
    path = Path(path)
    check_weights_file(path, "safetensors", "pickle")
    digest = hash_weights_file(path)
    found = recognise(_beginning(path), path.stat().st_size)
    of_numbers = found is not None and found.name == "safetensors"
    tensors = _read_safetensors(path) if of_numbers else _unwrapped(_read_pickle(path), path)
    if not tensors:
        raise ModelError(f"{str(path)!r} holds no weights. Save them: {SAVE}.")
    allowance = Allowance(path, "its weights")
    for key, tensor in tensors.items():
        _require_plain(tensor, key, path)
        allowance.take(tuple(tensor.shape), f"tensor {key!r}", max(4, tensor.element_size()))
    return StateDict(path, tensors, digest)


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (it is no mapping)
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise ModelError(
            f"{str(path)!r} is no undamaged safetensors file ({plain_reason(error)}). Fetch it again."
        ) from error


def _read_pickle(path: Path) -> Any:
    zipped = _beginning(path).startswith(b"PK")
    if zipped:
        _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a damaged pickle may raise any
        raise ModelError(_unreadable(path, error)) from error


def _check_archive(path: Path) -> None:
    """ModelError for a zip file that torch.save has not made so: squeezed, damaged, or another thing than weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            _require_weights(names, path)
            # torch maps the file into memory: what is squeezed would be taken for numbers as it is.
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("it is compressed, which torch.save never does")
            if len(set(names)) < len(names) or sum(each.file_size for each in members) > path.stat().st_size:
                raise ValueError("its parts lie over each other")
            damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"the checksum of {damaged!r} is wrong")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise ModelError(f"{str(path)!r} is no undamaged file of PyTorch ({plain_reason(error)}). {AGAIN}") from error


def _require_weights(names: list[str], path: Path) -> None:
    """ModelError that says what an archive is that holds a program."""
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        raise ModelError(
            f"{str(path)!r} is TorchScript, a program with its weights, and programs in files are never run. Save the "
            f"weights of the module it was made from: {SAVE}."
        )
    if any(name.startswith(("models/", "serialized_exported_program")) or name == "archive_format" for name in inner):
        raise ModelError(
            f"{str(path)!r} is a program that torch.export saved, net and weights in one. Name it .pt2 and give it as "
            "the model itself."
        )


def _unreadable(path: Path, error: Exception) -> str:
    text = str(error)
    asked = NEEDS_CODE.search(text)
    if asked:
        return (
            f"{str(path)!r} is more than weights: to read it would run code (it asks for {asked[1]}), and code from a "
            f"file is never run. Where you trust it, load it in Python and save the weights alone: {SAVE}."
        )
    reason = (
        "it holds a pickle that torch.save does not write" if "Unsupported operand" in text else plain_reason(error)
    )
    return f"{str(path)!r} is no undamaged file of PyTorch ({reason}). {AGAIN}"


def _unwrapped(found: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what a file holds. ModelError if there is none, or if there are several."""
    if isinstance(found, Mapping) and not _is_state_dict(found):
        inside = [key for key in WRAPPINGS if isinstance(found.get(key), Mapping)]
        if len(inside) > 1:
            raise ModelError(
                f"{str(path)!r} holds the weights of several nets: {', '.join(map(repr, inside))}. Save the one that "
                f"you mean alone: torch.save(torch.load({path.name!r})[{inside[0]!r}], 'weights.pt')."
            )
        found = found[inside[0]] if inside else found
    if isinstance(found, Mapping) and _is_state_dict(found):
        return {key: value for key, value in found.items() if isinstance(value, Tensor)}
    raise ModelError(f"{str(path)!r} holds {_contents(found)} and no state dict. Save one: {SAVE}.")


def _is_state_dict(found: Mapping[Any, Any]) -> bool:
    """Names to tensors; a module may add state of its own under "_extra_state", which is no weight."""
    return bool(found) and all(
        isinstance(key, str) and (isinstance(value, Tensor) or key.endswith("_extra_state"))
        for key, value in found.items()
    )


def _contents(found: Any) -> str:
    if isinstance(found, Mapping):
        return f"a dictionary of {listed([str(key)[:40] for key in found])}" if found else "an empty dictionary"
    return f"an object of type {type(found).__name__}"


def _require_plain(tensor: Tensor, key: str, path: Path) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        what = "complex" if tensor.is_complex() else "quantised" if tensor.is_quantized else "sparse"
        raise ModelError(f"Tensor {key!r} of {str(path)!r} is {what}. Save the weights as plain float32.")
    if tensor.is_meta or tensor.is_nested:
        raise ModelError(f"Tensor {key!r} of {str(path)!r} has no values of its own. Save the weights as float32.")


def listed(names: list[str]) -> str:
    """The first few, and how many there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
