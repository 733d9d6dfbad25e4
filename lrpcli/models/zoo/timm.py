"""The nets of timm, and of repositories of Hugging Face's hub that timm can build, with what timm knows of them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrpcli.errors import ModelError, needs_package, suggestion
from lrpcli.models.description import Description
from lrpcli.models.zoo import Entry, Zoo, unknown_name
from lrpcli.models.zoo.hub import WEIGHTS, HubFile, commit_of
from lrpcli.models.zoo.libraries import checkpoint, require_own_layers
from lrpcli.models.zoo.weights import CachedFile, WeightsFile

if TYPE_CHECKING:
    from lrpcli.models.model import Model
    from lrpcli.models.zoo.timm_nets import TimmNet

PREFIX, HUB = "timm:", "hf-hub:"
REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)
"""Owner and name of a repository, and a commit, tag or branch."""


@dataclass(frozen=True)
class TimmEntry(Entry):
    """A net of timm by its name there, with a tag or without."""

    @property
    def net(self) -> "TimmNet":
        """What timm knows of the net."""
        from lrpcli.models.zoo.timm_nets import registered

        return registered(self.name.removeprefix(PREFIX))

    @property
    def weights(self) -> WeightsFile:
        """The file in Hugging Face's cache, or in torch.hub's folder where timm names an address alone."""
        config = self.net.config
        if config.hf_hub_id:
            files = (config.hf_hub_filename,) if config.hf_hub_filename else WEIGHTS
            return _hub_file(self.name, config.hf_hub_id, files=files)
        if not config.url or config.custom_load:
            return CachedFile(self.name)
        return checkpoint(self.name, *([config.url] if isinstance(config.url, str) else config.url))

    def load(self, description: Description, weights: str | Path | None = None) -> "Model":
        """The model, see Entry.load; a file of the user's own may have another number of classes."""
        require_own_layers(self.name, description)
        net = self.net
        if weights is not None:
            return net.load(self.name, description, Path(weights), f"{weights}", own=True)
        net.require_fit(self.name, description)
        known = self.weights
        path = known.fetch(mirror=description.mirror)
        commit = f"commit {commit_of(path)}, " if isinstance(known, HubFile) else ""
        return net.load(self._resolved(path), description, path, f"{commit}{path}", own=False)

    def load_architecture(self, description: Description) -> "Model":
        """The net with zeros that take no memory for weights; its `weights_sha256` is None."""
        require_own_layers(self.name, description)
        return self.net.without_weights(self.name, description)

    def details(self) -> "TimmEntry":
        """The entry with its input and number of classes."""
        config = self.net.config
        return replace(self, input=config.input_size, outputs=config.num_classes or None)

    def facts(self) -> dict[str, str]:
        """See Entry.facts."""
        return {**super().facts(), **self.net.facts()}

    def _resolved(self, path: Path) -> str:
        """The name that says which weights these are."""
        return self.name


@dataclass(frozen=True)
class HubEntry(TimmEntry):
    """A net of timm in a repository of the hub, whose config.json says which; nothing in it is ever run."""

    repository: str = ""
    revision: str | None = None

    @property
    def net(self) -> "TimmNet":
        """What config.json says; it is fetched where the cache lacks it."""
        from lrpcli.models.zoo.timm_config import described

        return described(self._config().fetch(progress=False), self.repository)

    @property
    def weights(self) -> WeightsFile:
        """The file in Hugging Face's cache, of the commit that config.json is from where that is known."""
        found = self._config().cached()
        return _hub_file(self.name, self.repository, self.revision if found is None else commit_of(found))

    def facts(self) -> dict[str, str]:
        """See Entry.facts; config.json adds to them once it is here."""
        return super().facts() if self._config().cached() is not None else Entry.facts(self)

    def _config(self) -> HubFile:
        return _hub_file(self.name, self.repository, self.revision, files=("config.json",))

    def _resolved(self, path: Path) -> str:
        return f"{HUB}{self.repository}@{commit_of(path)}"


class TimmZoo(Zoo):
    """All nets of timm, by the names that timm has for them."""

    prefix = PREFIX
    summary = f"{PREFIX}NAME[.TAG]: more than 1,000 nets of timm"

    def entries(self) -> Mapping[str, Entry]:
        """None: they would bury the others in every list."""
        return {}

    def catalogue(self) -> Iterable[Entry]:
        """All nets that timm has weights for, with their tags; imports timm."""
        names = require_timm("lrp models list timm").list_pretrained()
        return (TimmEntry(PREFIX + name, f"{name} of timm").details() for name in names)

    def has_bare(self, name: str) -> bool:
        """See Zoo.has_bare; no name is known where timm is not installed."""
        return find_spec("timm") is not None and require_timm(name).models.is_model(name.partition(".")[0])

    def find(self, name: str) -> Entry:
        """See Zoo.find; imports timm."""
        bare = name.removeprefix(PREFIX)
        timm = require_timm(name)
        net, _, tag = bare.partition(".")
        if not timm.models.is_model(net):
            raise unknown_name(name, [PREFIX + known for known in timm.list_models()])
        tags = [known.partition(".")[2] for known in timm.list_models(f"{net}.*", pretrained=True)]
        if "." in bare and tag not in tags:
            has = f"there are {', '.join(tags)}" if tags else "there are none"
            raise ModelError(f"timm has no weights named {tag!r} for {net!r}; {has}.{suggestion(tag, tags)}")
        return TimmEntry(name, f"{bare} of timm")


class HubZoo(Zoo):
    """Repositories of Hugging Face's hub, by owner and name."""

    prefix = HUB
    summary = f"{HUB}OWNER/NAME[@COMMIT]: the same on Hugging Face's hub, of which there is no list here"

    def entries(self) -> Mapping[str, Entry]:
        """None: nobody knows them all."""
        return {}

    def catalogue(self) -> Iterable[Entry]:
        """ModelError."""
        raise ModelError("Hugging Face's hub has no list here. Look for nets of timm at https://huggingface.co/models.")

    def has_bare(self, name: str) -> bool:
        """See Zoo.has_bare: a name that could be one, in no folder that is here."""
        return REPOSITORY.fullmatch(name) is not None and not Path(name).parent.exists()

    def find(self, name: str) -> Entry:
        """See Zoo.find; whether there is such a repository is found out when it is used."""
        found = REPOSITORY.fullmatch(name.removeprefix(HUB))
        if found is None or ".." in name:  # names of files are made of it
            raise ModelError(
                f"{name!r} is not {HUB}OWNER/NAME, with @COMMIT behind it or not, such as {HUB}timm/resnet18.a1_in1k."
            )
        require_timm(name)
        return HubEntry(name, f"{found[1]} on Hugging Face's hub", repository=found[1], revision=found[2])


def require_timm(name: str) -> Any:
    """The package timm. ModelError where it is missing."""
    try:
        import timm
    except ImportError as error:
        raise needs_package(f"{name!r}", "timm", "timm") from error
    return timm


def _hub_file(name: str, repository: str, revision: str | None = None, files: tuple[str, ...] = WEIGHTS) -> HubFile:
    repository, _, within = repository.partition("@")
    page = f"https://huggingface.co/{repository}"
    return HubFile(name, urls=(page,), repository=repository, revision=revision or within or None, files=files)
