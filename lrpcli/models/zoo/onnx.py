"""Nets with LRN of the ONNX model zoo, as onnx.toml has them: their layers stand in their weights files alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lrpcli.errors import WeightsError
from lrpcli.models.description import Description
from lrpcli.models.zoo import Entry, Zoo
from lrpcli.models.zoo.registry import RegistryEntry, read_registry

if TYPE_CHECKING:
    from lrpcli.models.model import Model


@dataclass(frozen=True)
class OnnxEntry(RegistryEntry):
    """A net of the ONNX model zoo."""

    def load_architecture(self, description: Description) -> "Model":
        """The model with its weights in the cache. WeightsError where they are not there; nothing is fetched."""
        found = self.weights.verify()
        if found != "ok":
            problem = "which is not in the cache yet" if found == "not fetched" else f"which has the {found}"
            raise WeightsError(
                f"The layers of {self.name!r} stand in its weights file alone, {problem}. Run "
                f"`lrp models fetch {self.name}` first, or give the file with --weights FILE."
            )
        return self.load(description, self.weights.path())


class OnnxZoo(Zoo):
    """The nets of onnx.toml."""

    def entries(self) -> Mapping[str, Entry]:
        """All of them, in the order of the file."""
        return registry()


@cache
def registry() -> dict[str, OnnxEntry]:
    """The entries of onnx.toml by name, in the order of the file."""
    return read_registry(OnnxEntry, "onnx.toml")
