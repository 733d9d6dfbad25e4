"""Entries of named models as TOML files beside this module have them: sources, hash, labels and preprocessing."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lrpcli.models.description import Description, PreprocessingFields
from lrpcli.models.importers import import_file
from lrpcli.models.zoo import Entry
from lrpcli.models.zoo.weights import CachedFile

if TYPE_CHECKING:
    from lrpcli.models.model import Model

PACKAGE = Path(__file__).parent
E = TypeVar("E", bound="RegistryEntry")


@dataclass(frozen=True)
class RegistryEntry(Entry):
    """One entry of a registry. `hash` is "sha1:..." or "sha256:..." of the weights file, `size` its bytes.

    Both are None if not known. `urls` are where the weights file is fetched, none if there is no official one; the
    first of them says what it is called. `labels` is a file in data/.
    """

    urls: tuple[str, ...] = ()
    hash: str | None = None
    size: int | None = None
    labels: str | None = None
    preprocessing: PreprocessingFields | None = None

    @property
    def weights(self) -> CachedFile:
        """The official weights file in the cache."""
        return CachedFile(self.name, self.hash, self.urls, self.size)

    def description(self) -> Description:
        """What the registry knows beside the weights."""
        labels = None if self.labels is None else PACKAGE / "data" / self.labels
        return Description(self.name, preprocessing=self.preprocessing, labels=labels, stated_by="lrp models list")

    def load(self, description: Description, weights: str | Path | None = None) -> "Model":
        """The model, see Entry.load."""
        path = self.weights.fetch(mirror=description.mirror) if weights is None else weights
        return import_file(path, description.over(self.description()))


def read_registry(kind: type[E], file: str) -> dict[str, E]:
    """The entries of a TOML file by name, in the order of the file."""
    tables = tomllib.loads((PACKAGE / file).read_text(encoding="utf-8"))
    return {name: _entry(kind, name, table) for name, table in tables.items()}


def _entry(kind: type[E], name: str, table: dict[str, Any]) -> E:
    return kind(name=name, **{**table, "input": tuple(table["input"]), "urls": tuple(table.get("urls", ()))})
