"""Pictures that lie below a URL, such as s3://bucket/photos: which there are, and their bytes."""

import posixpath
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from lrpcli.errors import ImageError, LrpError, UsageError
from lrpcli.images.streams import too_long
from lrpcli.remote import Entry, Remote, is_usable, object_at

HIDDEN, SUFFIX, UNUSABLE = range(3)
"""Why an object is passed over: a part of its key begins with a dot, it has another suffix, its key names no file."""


@dataclass
class Objects:
    """The pictures below a URL, found as those in a folder are; what is passed over is counted while iterating.

    `results` are the names in a folder of results, `output` is the URL of the output folder. Gives keys. UsageError if
    the objects cannot be listed, or if there are none at all.
    """

    remote: Remote
    results: Collection[str]
    output: str | None
    all_files: bool
    suffixes: Collection[str]
    passed: dict[int, set[str]] = field(default_factory=dict)
    folders: int = 0

    def __iter__(self) -> Iterator[str]:
        self.passed = {HIDDEN: set(), SUFFIX: set(), UNUSABLE: set()}
        found = dict(self._listed())
        closed = self._folders_of_results(found)
        self.folders = len(closed)
        own = self._own_output()
        for key in found:
            if any(key.startswith(folder) for folder in closed) or (own and key.startswith(own)):
                continue
            if key == "" or self._is_wanted(key):
                yield key

    def _listed(self) -> Iterator[tuple[str, Entry]]:
        try:
            yield from self.remote.find()
        except FileNotFoundError as error:
            raise UsageError(f"The input {self.remote.url!r} does not exist: {error.strerror}.") from error
        except OSError as error:
            raise UsageError(
                f"The input {self.remote.url!r} cannot be listed: {error.strerror}. See that it can be reached."
            ) from error

    def _folders_of_results(self, found: Collection[str]) -> tuple[str, ...]:
        """The folders of results, each with the "/" behind it."""
        return tuple({key.removesuffix(name) for key in found for name in self.results if key.endswith(f"/{name}")})

    def _own_output(self) -> str:
        """Where the output folder lies below this URL, with a "/" behind it; empty if it lies elsewhere."""
        start = self.remote.url_of("x")[:-1]
        inside = self.output is not None and self.output.startswith(start)
        return f"{(self.output or '').removeprefix(start)}/" if inside else ""

    def _is_wanted(self, key: str) -> bool:
        parts = key.split("/")
        hidden = next((place for place, part in enumerate(parts) if part.startswith(".")), None)
        if not is_usable(key):
            self.passed[UNUSABLE].add(key)
        elif hidden is not None and not self.all_files:
            self.passed[HIDDEN].add("/".join(parts[: hidden + 1]))
        elif not self.all_files and posixpath.splitext(key)[1].lower() not in self.suffixes:
            self.passed[SUFFIX].add(key)
        else:
            return True
        return False


def require_no_results(remote: Remote, output: str | None, results: Collection[str]) -> None:
    """UsageError if a URL of inputs is that of the output folder, or that of results."""
    if output == remote.url:
        raise UsageError(
            f"The URL {remote.url!r} is input and output at once, so the next run would take the results for photos. "
            "Choose another output folder."
        )
    try:
        remembered = {} if remote.protocol in ("http", "https") else remote.list(".lrp")
    except OSError:  # what is wrong is said when it is listed
        return
    if any(posixpath.join(".lrp", name) in results for name in remembered):
        raise UsageError(
            f"The URL {remote.url!r} holds results of an earlier run (.lrp/), not photos. Name the photos' own folder."
        )


def read_object(url: str, limit: int) -> bytes:
    """The bytes of the object at a URL. ImageError io if it cannot be read, too_large beyond the limit."""
    what = f"The image {url!r}"
    try:
        remote, key = object_at(url)
        entry = remote.entry(key)
        if entry is not None and entry.size > limit:
            raise too_long(what, limit)
        content = remote.read(key, 0, limit + 1) if entry is None or entry.size else remote.read(key)
    except FileNotFoundError as error:
        raise ImageError("io", f"{what} does not exist.") from error
    except OSError as error:
        raise ImageError("io", f"{what} cannot be read: {error.strerror}.") from error
    except ImageError:
        raise
    except LrpError as error:
        raise ImageError("io", f"{what} cannot be read: {error}") from error
    if len(content) > limit:
        raise too_long(what, limit)
    return content
