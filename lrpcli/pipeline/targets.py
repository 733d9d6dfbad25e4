"""Which classes are explained for an image, from what --target says."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import torch
from torch import Tensor

from lrpcli.errors import ImageError, ModelError, UsageError
from lrpcli.images.find import Source
from lrpcli.lrp.targets import top_count
from lrpcli.models.model import Model

FROM_FOLDER = "from-folder"


@dataclass(frozen=True)
class Targets:
    """`count` classes per image: the best-scoring ones, the one the image's folder names, or always the same."""

    model: Model
    text: str = "top"
    classes: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Maps per image."""
        return len(self.classes) or (1 if self.text == FROM_FOLDER else top_count(self.text) or 1)

    def of(self, source: Source) -> tuple[int, ...] | None:
        """Classes of one image, or None where its scores decide. ImageError if its folder is the name of no class."""
        if self.text != FROM_FOLDER:
            return self.classes or None
        folder = _folder(source.path)
        try:
            return (self.model.find_class(folder),)
        except ModelError as error:
            raise ImageError(
                "unsupported", f"{source.path!r} lies in no folder named after a class: {error}"
            ) from error

    def fit(self, found: Sequence[int], before: str, now: str) -> bool:
        """Whether classes that an image got at the path `before` are those that it would get at the path `now`."""
        same = self.text != FROM_FOLDER or _folder(before) == _folder(now)
        count = len(found) == self.count
        return same and count and self.known(found) and (not self.classes or tuple(found) == self.classes)

    def known(self, found: Sequence[int]) -> bool:
        """Whether the model has these classes."""
        return all(0 <= index < (self.model.outputs or sys.maxsize) for index in found)

    def batch(self, classes: Sequence[tuple[int, ...] | None]) -> str | Tensor:
        """What the Explainer takes for a batch: "topK", or indices (N, K)."""
        known = [chosen for chosen in classes if chosen is not None]
        return torch.tensor(known) if known else self.text

    def suffix(self, place: int, index: int) -> str:
        """What tells the files of one image's several maps apart: ".top2", ".281", or nothing for a single map."""
        if self.count == 1:
            return ""
        return f".{index}" if self.classes else f".top{place + 1}"


def _folder(path: str) -> str:
    return PurePath(path).parent.name


def choose_targets(model: Model, wanted: Sequence[str], default: str) -> Targets:
    """Targets from --target, given once or several times; `default` is the config's own.

    UsageError for topK or from-folder beside other targets; ModelError for a class that the model does not have.
    """
    texts = tuple(wanted) or (default,)
    special = [text for text in texts if text == FROM_FOLDER or _is_top(text)]
    if special and len(texts) > 1:
        raise UsageError(f"--target {special[0]} stands alone; it cannot be given together with other targets.")
    count = top_count(special[0]) if special and special[0] != FROM_FOLDER else None
    if count is not None and model.outputs is not None and count > model.outputs:
        raise UsageError(f"--target {special[0]} asks for more classes than the {model.outputs} of {model.name!r}.")
    if special:
        return Targets(model, special[0])
    classes = tuple(model.find_class(text) for text in texts)
    if len(set(classes)) < len(classes):
        raise UsageError("--target names the same class twice.")
    return Targets(model, "", classes)


def _is_top(text: str) -> bool:
    return text == "top" or (text.startswith("top") and text[3:].isdecimal())
