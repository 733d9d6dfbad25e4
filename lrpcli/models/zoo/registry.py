"""Models by name, as registry.toml has them. Imports nothing heavy, so that lists are quick."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lrpcli.errors import ModelError, suggestion
from lrpcli.models.description import Description

PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class NamedModel:
    """One entry of the registry. `hash` is "sha1:..." or "sha256:..." of the weights file, None if not known.

    A bundled model's weights file comes with the package and describes itself: net, preprocessing and labels.
    """

    name: str
    title: str
    bundled: bool = False
    input: tuple[int, int, int] | None = None
    outputs: int | None = None
    url: str | None = None
    hash: str | None = None
    licence: str | None = None
    labels: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    note: str | None = None

    @property
    def architecture(self) -> Path | None:
        """The net description; a bundled model holds its own."""
        return None if self.bundled else PACKAGE / "architectures" / f"{self.name}.prototxt"

    def details(self) -> Description:
        """What the registry knows beside the weights."""
        labels = None if self.labels is None else PACKAGE / "data" / self.labels
        return Description(self.name, self.architecture, None, self.preprocessing, labels)


@cache
def named_models() -> dict[str, NamedModel]:
    """Every named model, in the order of the file."""
    entries = tomllib.loads((PACKAGE / "registry.toml").read_text(encoding="utf-8"))
    return {name: NamedModel(name, **{**entry, "input": _shape(entry)}) for name, entry in entries.items()}


def named_model(name: str) -> NamedModel:
    """The model of that name. ModelError with a suggestion if there is none."""
    models = named_models()
    if name in models:
        return models[name]
    raise ModelError(
        f"There is no model named {name!r}.{suggestion(name.lower(), models)} `lrp models list` shows all names; a "
        "model file is given by its path."
    )


def _shape(entry: Mapping[str, Any]) -> tuple[int, int, int] | None:
    return tuple(entry["input"]) if "input" in entry else None
