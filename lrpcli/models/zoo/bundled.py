"""The models that come with the package: .safetensors files that describe themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lrpcli.errors import WeightsError
from lrpcli.models.description import Description
from lrpcli.models.importers import import_file
from lrpcli.models.zoo import Entry, Zoo
from lrpcli.models.zoo.weights import State, WeightsFile

if TYPE_CHECKING:
    from lrpcli.models.model import Model

FOLDER = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class BundledFile(WeightsFile):
    """A weights file in the package itself."""

    def path(self) -> Path:
        """Where the file lies if the installation is whole."""
        return FOLDER / f"{self.model}.safetensors"

    def state(self) -> State:
        """Bundled, or missing."""
        return "bundled" if self.path().is_file() else "missing"

    def fetch(self, *, mirror: str | None = None, progress: bool = True) -> Path:
        """The file, which nothing is fetched for. WeightsError if it is missing."""
        path = self.path()
        if not path.is_file():
            raise WeightsError(f"The weights of {self.model!r} belong to the package but {str(path)!r} is missing. "
                               "Install the package again.")  # fmt: skip
        return path


@dataclass(frozen=True)
class BundledEntry(Entry):
    """A model whose file holds its net, preprocessing, labels and facts."""

    @property
    def weights(self) -> BundledFile:
        """The file in the package."""
        return BundledFile(self.name)

    def load(self, description: Description, weights: str | Path | None = None) -> "Model":
        """The model, see Entry.load."""
        named = replace(description, name=description.name or self.name)
        return import_file(self.weights.fetch() if weights is None else weights, named)


ENTRIES = (
    BundledEntry("caffenet-small", "CaffeNet, small", (3, 128, 128), 128),
    BundledEntry("cifar10", "CIFAR-10 net", (3, 32, 32), 10),
)


class BundledZoo(Zoo):
    """The models in the folder bundled/ beside this module."""

    def entries(self) -> Mapping[str, Entry]:
        """All of them."""
        return {entry.name: entry for entry in ENTRIES}
