"""Models that go by name: families of them, a zoo each, behind one door.

A new zoo is a module of its own and one line in TABLE. Importing this, listing models and looking at the state of their
weights are cheap: nothing heavy is imported before an entry is loaded.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from lrpcli.errors import ModelError, suggestion
from lrpcli.models.description import Description
from lrpcli.models.zoo.hashes import algorithm_of, fits, hash_of
from lrpcli.models.zoo.weights import Verified, WeightsFile

if TYPE_CHECKING:
    from lrpcli.models.model import Model

TABLE = (
    "lrpcli.models.zoo.bundled:BundledZoo",
    "lrpcli.models.zoo.caffe:CaffeZoo",
    "lrpcli.models.zoo.onnx:OnnxZoo",
    "lrpcli.models.zoo.torchvision:TorchvisionZoo",
    "lrpcli.models.zoo.timm:TimmZoo",
    "lrpcli.models.zoo.timm:HubZoo",
)
"""The zoos as "module:class", in the order in which lists show their models."""


@dataclass(frozen=True)
class Entry(ABC):
    """One named model. `input` (C, H, W) and `outputs` are None where only loading it would tell."""

    name: str
    title: str
    input: tuple[int, int, int] | None = None
    outputs: int | None = None
    licence: str | None = None
    note: str | None = None

    @property
    @abstractmethod
    def weights(self) -> WeightsFile:
        """Where the weights lie, and how they are fetched and checked."""

    @abstractmethod
    def load(self, description: Description, weights: str | Path | None = None) -> "Model":
        """The model, with everything in `description` overruling what the zoo says.

        Its weights are fetched on first use, from `description.mirror` before all other sources, unless `weights`
        names a file. Raises ModelError, UnsupportedLayer or
        WeightsError.
        """

    def load_architecture(self, description: Description) -> "Model":
        """The model without fetching anything, its parameters zeros without memory where weights are not here.

        A zoo whose weights are always here need not say more than `load`.
        """
        return self.load(description)

    def facts(self) -> dict[str, str]:
        """What people should know, by heading; nothing that is not known."""
        sources = ", ".join(self.weights.urls) or None
        known = {"title": self.title, "weights": self.weights.state(), "sources": sources,
                 "hash": self.weights.hash, "licence": self.licence, "note": self.note}  # fmt: skip
        return {heading: text for heading, text in known.items() if text is not None}


class Zoo(ABC):
    """A family of named models. Names that begin with `prefix`, where there is one, belong to this zoo.

    `summary` is the line by which lists name a zoo whose models they do not show.
    """

    prefix = ""
    summary = ""

    @abstractmethod
    def entries(self) -> Mapping[str, Entry]:
        """The models that lists show, by their whole name and in order. Must be cheap."""

    def catalogue(self) -> Iterable[Entry]:
        """All its models, for a list of this zoo alone; may import a library. ModelError if there is no such list."""
        return self.entries().values()

    def bare_names(self) -> tuple[str, ...]:
        """Names of its models without the prefix, as far as they are known without importing anything."""
        return ()

    def has_bare(self, name: str) -> bool:
        """Whether a name would be one of its models if it had the prefix; may import a library."""
        return name in self.bare_names()

    def claims(self, name: str) -> bool:
        """Whether a name is meant for this zoo, misspelt or not."""
        return bool(self.prefix and name.startswith(self.prefix)) or name in self.entries()

    def find(self, name: str) -> Entry:
        """The model of a name that the zoo claims. ModelError with a suggestion if there is none."""
        entries = self.entries()
        if name not in entries:
            raise unknown_name(name, entries)
        return entries[name]


def list_entries() -> list[Entry]:
    """Every named model of every zoo."""
    return [entry for zoo in _zoos() for entry in zoo.entries().values()]


def list_fetched() -> list[Entry]:
    """The named models whose weights do not come with the package; of the zoos without a prefix, as others are large.

    `lrp models fetch --all` is about these.
    """
    named = (entry for zoo in _zoos() if not zoo.prefix for entry in zoo.entries().values())
    return [entry for entry in named if entry.weights.state() not in ("bundled", "missing")]


def recognise_weights(path: Path) -> tuple[str | None, Verified]:
    """Whose weights a file holds, by its hash; or whose they should be, by its name, and what is wrong with them.

    The name of the model, or None with "unknown". WeightsError if the file cannot be read.
    """
    from lrpcli.models.reading import name_missing_weights

    known = [entry.weights for entry in list_entries() if entry.weights.hash is not None]
    hashes = [weights.hash or "" for weights in known]
    with name_missing_weights(path):
        found = {algorithm: hash_of(path, algorithm) for algorithm in {algorithm_of(one) for one in hashes}}
        ours = [weights for weights, one in zip(known, hashes, strict=True) if fits(found[algorithm_of(one)], one)]
        if ours:
            return ours[0].model, "ok"
        called = [weights for weights in known if weights.is_called(path.name)]
        return (called[0].model, called[0].compare(path)) if called else (None, "unknown")


def find_entry(name: str) -> Entry:
    """The model of that name. ModelError with a suggestion if there is none."""
    zoo = _claiming(name)
    if zoo is None:
        raise unknown_name(name, [entry.name for entry in list_entries()], meant_names(name))
    return zoo.find(name)


def list_zoo(name: str) -> list[Entry]:
    """All models of the zoo with that prefix. ModelError with a suggestion if there is none, or no list of it."""
    prefix = name.lower().rstrip(":") + ":"
    zoos = {zoo.prefix: zoo for zoo in _zoos() if zoo.prefix}
    if prefix not in zoos:
        raise ModelError(f"There is no zoo named {name!r}; there are {', '.join(known.rstrip(':') for known in zoos)}.")
    return list(zoos[prefix].catalogue())


def summaries() -> list[str]:
    """A line for each zoo whose models lists do not show."""
    return [zoo.summary for zoo in _zoos() if zoo.summary]


def bare_names() -> list[str]:
    """Names, with the prefix, of models that lists do not show, as far as they are known without importing anything."""
    return [zoo.prefix + name for zoo in _zoos() if zoo.prefix for name in zoo.bare_names()]


def meant_names(name: str) -> list[str]:
    """Whole names that a name without its prefix, or with a misspelt one, may stand for, or one that is spelt alike."""
    if ":" in name:
        return with_prefix(name)
    misspelt = bool(suggestion(name.lower(), [entry.name for entry in list_entries()]))
    # Only what is quick is asked for a name that is rather misspelt than elsewhere.
    zoos = [zoo for zoo in _zoos() if zoo.prefix and (zoo.bare_names() or not misspelt)]
    exact = [zoo.prefix + name for zoo in zoos if zoo.has_bare(name)]
    if exact or misspelt:
        return exact
    known = {bare: zoo.prefix + bare for zoo in zoos for bare in zoo.bare_names()}
    return [known[close] for close in get_close_matches(name.lower(), known, n=1, cutoff=0.8)]


def with_prefix(name: str) -> list[str]:
    """A name with the prefix of a zoo in place of the one that it has, if that is spelt alike; else nothing."""
    prefix, _, rest = name.partition(":")
    known = [zoo.prefix for zoo in _zoos() if zoo.prefix]
    return [close + rest for close in get_close_matches(f"{prefix.lower()}:", known, n=1, cutoff=0.75)]


def is_claimed(name: str) -> bool:
    """Whether a zoo takes a text for the name of one of its models, even one that it does not have."""
    return _claiming(name) is not None


def unknown_name(name: str, known: Iterable[str], meant: Sequence[str] = ()) -> ModelError:
    """The error for a name that no model has; `meant` are what it stands for, where that is known."""
    prefix, colon, _ = name.partition(":")
    listed = any(zoo.prefix == prefix + colon for zoo in _zoos() if zoo.prefix)
    listing = f"lrp models list {prefix}" if listed else "lrp models list"
    offer = f" Did you mean {' or '.join(meant)}?" if meant else suggestion(name.lower(), known)
    return ModelError(
        f"There is no model named {name!r}.{offer} `{listing}` shows all names; a model file is given by its path."
    )


def _zoos() -> list[Zoo]:
    return [resolve_name(home)() for home in TABLE]


def _claiming(name: str) -> Zoo | None:
    return next((zoo for zoo in _zoos() if zoo.claims(name)), None)
