"""Well-known Caffe nets, as caffe.toml has them, with net descriptions and labels of our own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lrpcli.models.description import Description
from lrpcli.models.zoo import Entry, Zoo
from lrpcli.models.zoo.registry import PACKAGE, RegistryEntry, read_registry

if TYPE_CHECKING:
    from lrpcli.models.model import Model


@dataclass(frozen=True)
class CaffeEntry(RegistryEntry):
    """A Caffe net, whose layers are in architectures/."""

    @property
    def architecture(self) -> Path:
        """The net description."""
        return PACKAGE / "architectures" / f"{self.name}.prototxt"

    def description(self) -> Description:
        """What the registry knows beside the weights."""
        return replace(super().description(), prototxt=self.architecture)

    def load_architecture(self, description: Description) -> "Model":
        """The net with zeros that take no memory for weights; its `weights_sha256` is None."""
        from lrpcli.models.caffe.assemble import assemble
        from lrpcli.models.caffe.files import Weights

        geometry = Weights(self.architecture, None, None, None)
        return assemble(geometry, description.over(self.description()))


class CaffeZoo(Zoo):
    """The nets of caffe.toml."""

    def entries(self) -> Mapping[str, Entry]:
        """All of them, in the order of the file."""
        return registry()


@cache
def registry() -> dict[str, CaffeEntry]:
    """The entries of caffe.toml by name, in the order of the file."""
    return read_registry(CaffeEntry, "caffe.toml")
