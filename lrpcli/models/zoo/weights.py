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
from lrpcli.models.zoo.hashes import has_hash
from lrpcli.models.zoo.mirrors import address_below, chosen_mirror, host_of, is_local
from lrpcli.records.text import one_line

NO = ("", "0", "false", "no", "off")

State = Literal["bundled", "missing", "cached", "not fetched", "own file"]
"""What is known of a weights file without reading it; a model whose state is "own file" needs one of the user's."""
Verified = State | Literal["ok", "wrong size", "wrong hash", "unknown"]


@dataclass(frozen=True)
class WeightsFile(ABC):
    """The weights file of the named model `model`.

    `hash` is "sha1:..." or "sha256:..." of the file, or the first digits of it where no more is known, and `size` its
    bytes, None if not known; `urls` are the addresses where it is fetched, in the order in which they are tried.
    """

    model: str
    hash: str | None = None
    urls: tuple[str, ...] = ()
    size: int | None = None

    @abstractmethod
    def path(self) -> Path:
        """Where the file lies, or would lie once fetched. WeightsError if there is none that can be had."""

    @abstractmethod
    def state(self) -> State:
        """In a word or two for lists. Looks, but computes no hash."""

    @abstractmethod
    def fetch(self, *, mirror: str | None = None, progress: bool = True) -> Path:
        """The file, downloaded if it is not there yet or not intact. WeightsError that says what to do if it fails.

        `mirror` is a web address or a folder that is tried before all others, LRP_MIRROR where none is given;
        UsageError if it cannot be one. The progress bar goes to stderr, and only to a terminal; so does a line for each
        source that is passed over, wherever it goes.
        """

    def obstacle(self) -> str | None:
        """Why the file cannot be fetched from anywhere, as a sentence that says what to do; None if it can be."""
        return None

    def is_called(self, name: str) -> bool:
        """Whether a file of that name may be meant for this one."""
        return False

    def verify(self) -> Verified:
        """Like state, but a file whose hash is known is read and found "ok", or of the wrong size or hash."""
        found = self.state()
        if found not in ("bundled", "cached") or self.hash is None:
            return found
        from lrpcli.models.reading import name_missing_weights

        with name_missing_weights(self.path()):
            return self.compare(self.path())

    def compare(self, path: Path) -> Literal["ok", "wrong size", "wrong hash"]:
        """Whether a file is this one, by its size and its hash, which must be known. OSError if it cannot be read."""
        assert self.hash is not None
        if self.size is not None and path.stat().st_size != self.size:
            return "wrong size"
        return "ok" if has_hash(path, self.hash) else "wrong hash"


@dataclass(frozen=True)
class CachedFile(WeightsFile):
    """A file that is fetched from one of `urls` into a folder, and only used with the right hash.

    It is called `file`, or as the first of `urls` calls it, and lies in `folder`, or in the cache. Without a hash a
    download could not be verified, and none is made; without urls there is no official file.

    >>> from pathlib import Path
    >>> from lrpcli.models.zoo.weights import CachedFile
    >>> urls = ("https://one.example/net-3b29a8c1.pth", "https://two.example/x/1")
    >>> file = CachedFile("some-net", "sha256:3b29a8c1", urls, folder=Path("/tmp/checkpoints"))
    >>> file.path()
    PosixPath('/tmp/checkpoints/net-3b29a8c1.pth')
    """

    file: str | None = None
    folder: Path | None = None

    def path(self) -> Path:
        """The file's place, see WeightsFile.path."""
        if not self.urls:
            raise WeightsError(self.obstacle())
        return (self.folder or cache_folder()) / self._name()

    def _name(self) -> str:
        return self.file or Path(urlsplit(self.urls[0]).path).name

    def is_called(self, name: str) -> bool:
        """See WeightsFile.is_called."""
        return bool(self.urls) and name == self._name()

    def state(self) -> State:
        """Cached, not fetched, or own file."""
        if not self.urls or self.hash is None:
            return "own file"
        try:
            return "cached" if self.path().is_file() else "not fetched"
        except (OSError, WeightsError):  # a cache folder that is not there, or may not be looked into
            return "not fetched"

    def obstacle(self) -> str | None:
        """See WeightsFile.obstacle: there is no official file, or nothing to verify it by."""
        if not self.urls:
            return (
                f"There is no official weights file for {self.model!r}. Give your own: --weights FILE on the command "
                "line, weights= in Python."
            )
        if self.hash is None:
            return (
                f"No hash is known for the weights of {self.model!r}, so a download could not be verified and is not "
                f"made. Fetch {self.urls[0]} yourself, over a connection you trust, and give --weights FILE."
            )
        return None

    def fetch(self, *, mirror: str | None = None, progress: bool = True) -> Path:
        """The file, see WeightsFile.fetch; one that arrives with another size or hash is not kept."""
        path = self.path()
        if self.hash is None:
            raise WeightsError(self.obstacle())
        if self._is_intact(path):
            return path
        sources = self._sources(chosen_mirror(mirror))
        if is_offline():
            sources = tuple(source for source in sources if is_local(source))
            if not sources:
                raise self._forbidden(path)
        self._fetch_from(sources, path, self.hash, progress and sys.stderr is not None and sys.stderr.isatty())
        return path

    def _sources(self, mirror: str | None) -> tuple[str, ...]:
        """The addresses in the order in which they are tried."""
        return self.urls if mirror is None else (address_below(mirror, self._name()), *self.urls)

    def _is_intact(self, path: Path) -> bool:
        try:
            return path.is_file() and self.compare(path) == "ok"
        except OSError as error:
            raise WeightsError(
                f"The weights {str(path)!r} cannot be read ({error.strerror}). {self._advice()}"
            ) from error

    def _forbidden(self, path: Path) -> WeightsError:
        problem = "have the wrong size or hash" if path.exists() else "are not in the cache"
        return WeightsError(
            f"The weights of {self.model!r} {problem} ({path}), and LRP_OFFLINE forbids to fetch them. Unset it, name "
            f"a folder that has the file with --mirror FOLDER, or fetch {self.urls[0]} elsewhere and give "
            "--weights FILE."
        )

    def _fetch_from(self, sources: tuple[str, ...], path: Path, known: str, progress: bool) -> None:
        """Fetches the file from the first source that has it; the others are remembered with their reasons."""
        from lrpcli.models.zoo.download import DownloadError, Remote, download

        failed: list[str] = []
        for number, source in enumerate(sources, 1):
            try:
                download(Remote(source, known, self.size), path, progress=progress)
                return
            except DownloadError as error:
                failed.append(f"{host_of(source)}: {error}")
            except OSError as error:
                raise self._unstorable(path.parent, error) from error
            if number < len(sources):
                following = host_of(sources[number])
                _warn(f"Warning: {path.name} could not be fetched from {failed[-1]}. Trying {following} next.")
        reasons = "; from ".join(failed)
        raise WeightsError(f"The weights of {self.model!r} could not be fetched from {reasons}. {self._advice()}")

    def _unstorable(self, folder: Path, error: OSError) -> WeightsError:
        advice = "Choose another folder with LRP_CACHE_DIR." if self.folder is None else "See that it can be written."
        reason = error.strerror or error
        return WeightsError(f"The weights of {self.model!r} cannot be stored in {str(folder)!r} ({reason}). {advice}")

    def _advice(self) -> str:
        return (
            "Try again later, name a mirror with --mirror, or fetch the file elsewhere and give --weights FILE; "
            f"`lrp models path {self.model}` says where it would be cached."
        )


def _warn(text: str) -> None:
    """A line on standard error, harmless for a terminal whatever a server sent."""
    with suppress(OSError, ValueError, AttributeError):  # closed, or none
        print(one_line(text), file=sys.stderr, flush=True)


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
