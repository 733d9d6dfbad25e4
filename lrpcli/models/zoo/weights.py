"""Weights files of named models: where they lie, fetching them once, and checking them against their hash."""

import os
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lrpcli.errors import WeightsError

NO = ("", "0", "false", "no", "off")

State = Literal["bundled", "missing", "cached", "not fetched", "own file"]
"""What is known of a weights file without reading it; a model whose state is "own file" needs one of the user's."""
Verified = State | Literal["ok", "wrong hash"]


@dataclass(frozen=True)
class WeightsFile(ABC):
    """The weights file of the named model `model`.

    `hash` is "sha1:..." or "sha256:..." of the file and `size` its bytes, None if not known; `url` is where it is
    fetched, if it is.
    """

    model: str
    hash: str | None = None
    url: str | None = None
    size: int | None = None

    @abstractmethod
    def path(self) -> Path:
        """Where the file lies, or would lie once fetched. WeightsError if there is none that can be had."""

    @abstractmethod
    def state(self) -> State:
        """In a word or two for lists. Looks, but computes no hash."""

    @abstractmethod
    def fetch(self, *, progress: bool = True) -> Path:
        """The file, downloaded if it is not there yet or not intact. WeightsError that says what to do if it fails.

        The progress bar goes to stderr, and only to a terminal.
        """

    def verify(self) -> Verified:
        """Like state, but a file whose hash is known is read and found "ok" or of the "wrong hash"."""
        found = self.state()
        if found not in ("bundled", "cached") or self.hash is None:
            return found
        from lrpcli.models.reading import name_missing_weights

        with name_missing_weights(self.path()):
            return "ok" if has_hash(self.path(), self.hash) else "wrong hash"


@dataclass(frozen=True)
class CachedFile(WeightsFile):
    """A file that is fetched from `url` into the cache, and only used with the right hash.

    Without a hash a download could not be verified, and none is made; without a url there is no official file.
    """

    def path(self) -> Path:
        """The file's place in the cache, see WeightsFile.path."""
        if self.url is None:
            raise WeightsError(
                f"There is no official weights file for {self.model!r}. Give your own: --weights FILE on the command "
                "line, weights= in Python."
            )
        return cache_folder() / Path(urlsplit(self.url).path).name

    def state(self) -> State:
        """Cached, not fetched, or own file."""
        if self.url is None or self.hash is None:
            return "own file"
        try:
            return "cached" if self.path().is_file() else "not fetched"
        except (OSError, WeightsError):  # a cache folder that is not there, or may not be looked into
            return "not fetched"

    def fetch(self, *, progress: bool = True) -> Path:
        """The file in the cache, see WeightsFile.fetch; one that arrives with another hash is not kept."""
        path = self.path()
        if self.hash is None:
            raise WeightsError(
                f"No hash is known for the weights of {self.model!r}, so a download could not be verified and is not "
                f"made. Fetch {self.url} yourself, over a connection you trust, and give --weights FILE."
            )
        if self._is_intact(path, self.hash):
            return path
        if is_offline():
            problem = "have the wrong hash" if path.exists() else "are not in the cache"
            raise WeightsError(
                f"The weights of {self.model!r} {problem} ({path}), and LRP_OFFLINE forbids to fetch them. "
                f"Unset it, or fetch {self.url} elsewhere and give --weights FILE."
            )
        self._download(path, self.hash, progress and sys.stderr.isatty())
        return path

    def _is_intact(self, path: Path, known: str) -> bool:
        try:
            return path.is_file() and has_hash(path, known)
        except OSError as error:
            raise WeightsError(
                f"The weights {str(path)!r} cannot be read ({error.strerror}). {self._advice()}"
            ) from error

    def _download(self, path: Path, known: str, progress: bool) -> None:
        from lrpcli.models.zoo.download import DownloadError, Remote, WrongHashError, download

        assert self.url is not None
        try:
            download(Remote(self.url, known, self.size), path, progress=progress)
            return
        except WrongHashError as error:
            reason = f"what came from {self.url} {error} and was not kept"
        except DownloadError as error:
            reason = f"{self.url} could not be fetched: {error}"
        except OSError as error:
            folder = str(path.parent)
            raise WeightsError(
                f"The weights of {self.model!r} cannot be stored in {folder!r} ({error.strerror or error}). "
                "Choose another folder with LRP_CACHE_DIR."
            ) from error
        raise WeightsError(f"The weights of {self.model!r} cannot be had: {reason}. {self._advice()}")

    def _advice(self) -> str:
        return (
            "Try again later, or fetch the file elsewhere and give --weights FILE; "
            f"`lrp models path {self.model}` says where it would be cached."
        )


def cache_folder() -> Path:
    """Where fetched weights lie: LRP_CACHE_DIR, or else this user's cache folder of the platform.

    WeightsError if this user has none.
    """
    chosen = os.environ.get("LRP_CACHE_DIR")
    if chosen:
        return Path(chosen)
    import platformdirs

    with suppress(RuntimeError):  # or, before platformdirs 4.10, a path that begins with "~"
        folder = platformdirs.user_cache_path("lrpcli", appauthor=False) / "models"
        if folder.is_absolute():
            return folder
    raise WeightsError(
        "There is no home folder in which weights could be cached. Name a folder with LRP_CACHE_DIR, or give your own "
        "file with --weights FILE."
    )


def is_offline() -> bool:
    """Whether LRP_OFFLINE forbids the network."""
    return os.environ.get("LRP_OFFLINE", "").strip().lower() not in NO


def has_hash(path: Path, known: str) -> bool:
    """Whether a file has the hash "algorithm:hexadecimal digits"."""
    # Here, because lists are to be quick and only some of the callers compare hashes.
    import hashlib

    algorithm, _, digits = known.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest() == digits
