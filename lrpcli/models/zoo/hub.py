"""Files in repositories of Hugging Face's hub: fetched by its own client into its own cache, and checked there."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lrpcli.errors import ModelError, UsageError, WeightsError
from lrpcli.models.zoo.hashes import has_hash
from lrpcli.models.zoo.weights import State, Verified, WeightsFile, is_offline
from lrpcli.text_files import plain_reason

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""What timm calls its weights, the best first."""
LARGEST = 2**31
"""Bytes of a file that is fetched; no larger weights file can be read."""
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile(WeightsFile):
    """A file of a repository, in Hugging Face's cache: the first of `files` that the repository has.

    `revision` is a commit, a tag or a branch; the main branch where it is None. What the cache has of it is used as it
    is, without asking the server for a newer one. The name of a large file in the cache is its sha256, which is
    checked every time.
    """

    repository: str = ""
    revision: str | None = None
    files: tuple[str, ...] = WEIGHTS

    def path(self) -> Path:
        """The file in the cache, or the repository's folder there as long as nothing is fetched."""
        found = self.cached()
        if found is not None:
            return found
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE) / f"models--{self.repository.replace('/', '--')}"

    def cached(self) -> Path | None:
        """The file where the cache has it."""
        from huggingface_hub import try_to_load_from_cache

        with self._named_errors():
            for file in self.files:
                found = try_to_load_from_cache(self.repository, file, revision=self.revision)
                if isinstance(found, str):
                    return Path(found)
        return None

    def state(self) -> State:
        """Cached, or not fetched."""
        return "cached" if self.cached() is not None else "not fetched"

    def verify(self) -> Verified:
        """See WeightsFile.verify; a small file has no such hash in the cache."""
        found = self.cached()
        if found is None:
            return "not fetched"
        return self.compare(found)

    def compare(self, path: Path) -> Literal["ok", "wrong size", "wrong hash"]:
        """See WeightsFile.compare; the hash is the file's name in the cache."""
        name = path.resolve().name
        try:
            return "ok" if not SHA256.fullmatch(name) or has_hash(path, f"sha256:{name}") else "wrong hash"
        except OSError as error:
            raise WeightsError(f"The weights {str(path)!r} cannot be read ({error.strerror}). Check them.") from error

    def fetch(self, *, mirror: str | None = None, progress: bool = True) -> Path:
        """The file, see WeightsFile.fetch; by the hub's own client, which needs no LRP_MIRROR."""
        if mirror is not None:
            raise UsageError(
                f"{self.model!r} comes from Hugging Face's hub, of which --mirror cannot name a copy. Set HF_ENDPOINT."
            )
        found = self.cached()
        intact = found is not None and self.compare(found) == "ok"
        if found is not None and intact:
            return found
        if is_offline():
            problem = "are not in Hugging Face's cache" if found is None else "have the wrong hash"
            raise WeightsError(
                f"{self._what()} {problem} ({self.path()}), and LRP_OFFLINE forbids to fetch them. Unset it, or fetch "
                "them elsewhere and give --weights FILE."
            )
        path = self._download(progress and sys.stderr is not None and sys.stderr.isatty(), again=found is not None)
        if self.compare(path) != "ok":
            raise WeightsError(f"{self._what()} have the wrong hash ({path}). {self._advice()}")
        return path

    def _download(self, progress: bool, again: bool) -> Path:
        from huggingface_hub import errors, get_hf_file_metadata, hf_hub_download, hf_hub_url

        with self._named_errors(), _bars(progress):
            for file in self.files:
                try:
                    known = get_hf_file_metadata(hf_hub_url(self.repository, file, revision=self.revision))
                    self._check_size(known.size)
                    return Path(hf_hub_download(self.repository, file, revision=self.revision, force_download=again))
                except errors.LocalEntryNotFoundError:  # no network, which counts as no entry
                    raise
                except errors.EntryNotFoundError:
                    continue
        raise WeightsError(
            f"The repository {self.repository!r} on Hugging Face's hub has no {' or '.join(self.files)}. Give a "
            "repository of timm, or --weights FILE."
        )

    def _check_size(self, size: int | None) -> None:
        if size is not None and size >= LARGEST:
            raise WeightsError(f"{self._what()} have {size:,} bytes, and a file may have {LARGEST:,} (2 GiB) at most.")

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Turns what the hub's client raises into errors that name the repository."""
        from huggingface_hub import errors

        try:
            yield
        except errors.HFValidationError as error:
            raise ModelError(f"{self.repository!r} cannot be a repository of Hugging Face's hub.") from error
        except errors.RevisionNotFoundError as error:
            raise WeightsError(
                f"The repository {self.repository!r} on Hugging Face's hub has no revision {self.revision!r}."
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise WeightsError(
                f"There is no repository {self.repository!r} on Hugging Face's hub, or it is private or gated. Check "
                "the name, or log in with `hf auth login`."
            ) from error
        except errors.OfflineModeIsEnabled as error:
            raise WeightsError(
                f"{self._what()} are not in the cache, and HF_HUB_OFFLINE forbids to fetch them. Unset it, or give "
                "--weights FILE."
            ) from error
        except WeightsError:
            raise
        except Exception as error:  # of whatever the client is built on
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> WeightsError:
        return WeightsError(f"{self._what()} cannot be fetched ({plain_reason(error)}). {self._advice()}")

    def _what(self) -> str:
        at = "" if self.revision is None else f" at {self.revision}"
        return f"The files of {self.repository!r}{at} on Hugging Face's hub"

    def _advice(self) -> str:
        return "Try again later, or fetch the weights elsewhere and give --weights FILE."


def commit_of(path: Path) -> str:
    """The commit of a file in the cache, by the folder in which it lies there."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else "an unknown commit"


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Shows the client's progress bars, or none."""
    from huggingface_hub import utils

    bars: Any = utils
    hidden = not shown and not bars.are_progress_bars_disabled()
    if hidden:
        bars.disable_progress_bars()
    try:
        yield
    finally:
        if hidden:
            bars.enable_progress_bars()
