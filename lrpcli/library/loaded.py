"""Models that one call of explain leaves to the next, for as long as their files stay as they are."""

import mmap
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lrpcli.errors import LrpError, UsageError
from lrpcli.lrp.composites.composite import Composite
from lrpcli.lrp.explainer import Explainer
from lrpcli.models import is_name, load_model, names_code
from lrpcli.models.model import Model
from lrpcli.models.zoo import find_entry
from lrpcli.records.identity import stamp_of

MOST = 2
"""Models that are kept."""
SETTLED = 2.0
"""Seconds after which a file system's clock tells a later change of a file from an earlier one."""
Stamp = tuple[int, ...]
"""See stamp_of."""


@dataclass(frozen=True)
class How:
    """How an explainer of a model works: what can differ between two that share their weights, and what cannot."""

    composite: Composite
    lrn: str | None
    start: str | None
    dtype: torch.dtype
    device: str | torch.device


@dataclass(frozen=True)
class _Kept:
    model: Model
    explainer: Explainer
    stamps: tuple[Stamp, ...]


_kept: OrderedDict[tuple[Any, ...], _Kept] = OrderedDict()
_lock = threading.Lock()


def forget_models() -> None:
    """Lets go of the models that `explain` keeps from one call to the next, and of their memory.

    The last two models that were given by name or path are kept. They are read anew by themselves when a file of
    theirs has changed. Results that are still there hold on to the model that made them.

    >>> import lrpcli
    >>> result = lrpcli.explain("cat.jpg", "cifar10")
    >>> lrpcli.forget_models()
    """
    with _lock:
        _kept.clear()


def loaded(model: Any, description: Mapping[str, Any], how: How) -> tuple[Model, Explainer]:
    """The model and an explainer of it; `description` are the keywords of load_model that were given.

    A model by name or path may be one that an earlier call has left. A Model or a torch.nn.Module is read anew every
    time, as it may have been changed, and so is a net that code makes. Errors: those of load_model and Explainer, and
    UsageError for keywords beside a Model.
    """
    if isinstance(model, Model):
        if description:
            names = ", ".join(f"{name}=" for name in description)
            raise UsageError(f"The model is loaded already, so {names} cannot be given. Give that to load_model.")
        return model, _explainer(model, how)
    key = _key(model, description, how)
    if key is None:
        made = load_model(model, **description)
        return made, _explainer(made, how)
    with _lock:
        return _kept_or_loaded(key, model, description, how)


def _kept_or_loaded(
    key: tuple[Any, ...], name: str | Path, description: Mapping[str, Any], how: How
) -> tuple[Model, Explainer]:
    found, now = _kept.get(key), _stamps(name, description)
    if found is not None and found.stamps == now:
        _kept.move_to_end(key)
        return found.model, found.explainer.with_config(how.composite, lrn=how.lrn, start=how.start)
    _kept.pop(key, None)
    before = time.time()
    model = load_model(name, **description)
    explainer = _explainer(model, how)
    stamps = _stamps(name, description)
    if stamps is not None and all(max(stamp[3:]) / 1e9 < before - SETTLED for stamp in stamps):
        _kept[key] = _Kept(model, explainer, stamps)
        while len(_kept) > MOST:
            _kept.popitem(last=False)
    return model, explainer


def _explainer(model: Model, how: How) -> Explainer:
    return Explainer(model, how.composite, lrn=how.lrn, start=how.start, dtype=how.dtype, device=how.device)


def _key(model: Any, description: Mapping[str, Any], how: How) -> tuple[Any, ...] | None:
    """What a model is kept under; None for one that is not, as only its files can be watched."""
    if not isinstance(model, (str, Path)) or names_code(model):
        return None
    options: list[tuple[str, object]] = []
    for name, value in sorted(description.items()):
        if name == "labels" and not isinstance(value, (str, Path)) and isinstance(value, Sequence):
            options.append((name, tuple(value)))
        elif isinstance(value, (str, int, Path, tuple)):
            options.append((name, value))
        else:
            return None
    key = str(model), tuple(options), how.dtype, how.device
    try:
        hash(key)
    except TypeError:  # of something that cannot be right, which loading says
        return None
    return key


def _stamps(model: str | Path, description: Mapping[str, Any]) -> tuple[Stamp, ...] | None:
    """What tells whether the files of a model are those that they were; None where that cannot be told."""
    try:
        paths = [find_entry(str(model)).weights.path() if is_name(model) else Path(model)]
        if not _stands_alone(paths[0]):
            return None
        given = (description.get(name) for name in ("weights", "prototxt", "labels"))
        paths += [Path(path) for path in given if isinstance(path, (str, Path))]
        stamps = [stamp_of(path) for path in paths]
        return None if None in stamps else tuple(stamps)  # type: ignore[arg-type]
    except (LrpError, OSError, ValueError):
        return None


def _stands_alone(path: Path) -> bool:
    """Whether a file holds all its weights itself: one of ONNX may name files beside it as the "location" of some."""
    if path.suffix.lower() != ".onnx":
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"location") < 0
