"""Well-known Caffe nets, as registry.toml has them, with net descriptions and labels of our own."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrpcli.models.description import Description, PreprocessingFields
from lrpcli.models.importers import import_file
from lrpcli.models.zoo import Entry, Zoo
from lrpcli.models.zoo.weights import CachedFile

if TYPE_CHECKING:
    from lrpcli.models.model import Model

PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class CaffeEntry(Entry):
    """One entry of the registry. `hash` is "sha1:..." or "sha256:..." of the weights file, `size` its bytes.

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

    @property
    def architecture(self) -> Path:
        """The net description."""
        return PACKAGE / "architectures" / f"{self.name}.prototxt"

    def description(self) -> Description:
        """What the registry knows beside the weights."""
        labels = None if self.labels is None else PACKAGE / "data" / self.labels
        return Description(self.name, self.architecture, None, self.preprocessing, labels, stated_by="lrp models list")

    def load(self, description: Description, weights: str | Path | None = None) -> "Model":
        """The model, see Entry.load."""
        path = self.weights.fetch(mirror=description.mirror) if weights is None else weights
        return import_file(path, description.over(self.description()))

    def load_architecture(self, description: Description) -> "Model":
        """The net with zeros that take no memory for weights; its `weights_sha256` is None."""
        from lrpcli.models.caffe.assemble import assemble
        from lrpcli.models.caffe.files import Weights

        geometry = Weights(self.architecture, None, None, None)
        return assemble(geometry, description.over(self.description()))


class CaffeZoo(Zoo):
    """The nets of registry.toml."""

    def entries(self) -> Mapping[str, Entry]:
        """All of them, in the order of the file."""
        return registry()


@cache
def registry() -> dict[str, CaffeEntry]:
    """The entries of registry.toml by name, in the order of the file."""
    tables = tomllib.loads((PACKAGE / "registry.toml").read_text(encoding="utf-8"))
    return {name: _entry(name, table) for name, table in tables.items()}


def _entry(name: str, table: dict[str, Any]) -> CaffeEntry:
    return CaffeEntry(name=name, **{**table, "input": tuple(table["input"]), "urls": tuple(table.get("urls", ()))})
