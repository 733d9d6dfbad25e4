"""Inputs as the user names them -> the files to open, each with the name that its results get."""

import os
import posixpath
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lrpcli.errors import UsageError
from lrpcli.images.formats import IMAGE_SUFFIXES
from lrpcli.images.objects import HIDDEN, SUFFIX, UNUSABLE, Objects, require_no_results
from lrpcli.images.streams import stream_of
from lrpcli.paths import STDIN, is_url, shown_url
from lrpcli.remote import Remote, open_input

REPORT = ".lrp/report.json"
RESULTS = (".lrp/run.json", ".lrp/evaluate.json", ".lrp/compare.json", REPORT)
"""What a folder of results holds, REPORT the one with a report's small pictures."""

Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True, slots=True)
class Source:
    """One picture to explain.

    `path` is what to open ("-" is standard input). `name` is where its results go: a relative path under OUTPUT,
    with "/" between the parts, never with ".." in it and without the suffix of the result.
    Bytes of a path that are no text are kept as surrogate escapes (os.fsencode gives them back).
    """

    path: str
    name: str


class _Folder(NamedTuple):
    """A folder that is being walked: `entries` are its remaining names in byte order, those of folders end in "/"."""

    path: str
    prefix: str
    identity: Identity
    entries: Iterator[bytes]


class Discovery:
    """The pictures that INPUTs stand for, in byte order of their paths within each INPUT.

    An INPUT is a file of any kind, a folder (searched with all its subfolders), "-", a stream such as "/dev/fd/3", or a
    URL, below which objects are what files are in a folder. Iterating walks the folders anew and counts what it skips:
    `hidden` entries, files with another suffix (`other_suffix`), pipes, sockets and devices (`special`), links to
    folders (`linked`, unless `follow`), folders of `results`, and objects whose keys no file can have (`unusable`).
    With `all_files` every regular file counts, hidden ones too. The folder `output` is never entered. A folder that
    cannot be listed is given as a Source, which then fails to decode, and so is a link to nothing.
    UsageError if an INPUT is missing, is `output`, or holds results.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        *,
        output: str | None = None,
        all_files: bool = False,
        follow: bool = False,
        suffixes: Collection[str] = IMAGE_SUFFIXES,
    ) -> None:
        self.inputs, self.output = tuple(inputs), output
        self.all_files, self.follow, self.suffixes = all_files, follow, suffixes
        self.hidden = self.other_suffix = self.special = self.linked = self.results = self.unusable = 0
        self._remotes: dict[str, Remote] = {}
        for path in self.inputs:
            self._check_input(path)

    def __iter__(self) -> Iterator[Source]:
        self.hidden = self.other_suffix = self.special = self.linked = self.results = self.unusable = 0
        for path in self.inputs:
            if is_url(path):
                yield from self._below_url(path)
            elif path != STDIN and os.path.isdir(path):  # noqa: PTH112 - a Path would drop what the user typed
                yield from self._walk(path)
            else:
                stream = stream_of(path) or path
                yield Source(stream, "stdin" if stream == STDIN else posixpath.basename(stream))

    def skipped(self) -> str:
        """What was skipped, counted, for people; to be asked after iterating. Empty if nothing was."""
        counts = (
            (self.other_suffix, "file with another suffix", "files with other suffixes"),
            (self.hidden, "hidden entry", "hidden entries"),
            (self.linked, "link to a folder", "links to folders"),
            (self.special, "pipe, socket or device", "pipes, sockets or devices"),
            (self.results, "folder of results", "folders of results"),
            (self.unusable, "object that no file can be called like", "objects that no file can be called like"),
        )
        return ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts if count)

    def empty_reason(self) -> str:
        """Why nothing was found, for people; to be asked after iterating."""
        places = ", ".join(repr(shown_url(path)) for path in self.inputs)
        skipped = self.skipped()
        if not skipped:
            return f"There are no files in {places}."
        hints = [
            hint
            for hint, helps in (
                ("--all-files tries every file", self.other_suffix or self.hidden),
                ("--follow enters links to folders", self.linked),
            )
            if helps
        ]
        advice = f" {', '.join(hints)}." if hints else ""
        return f"There is no image in {places}; skipped: {skipped}.{advice}"

    def _check_input(self, path: str) -> None:
        if stream_of(path) == STDIN:
            return
        if is_url(path):
            self._remotes[path] = open_input(path)
            require_no_results(self._remotes[path], self.output, RESULTS)
            return
        try:
            status = os.stat(path)  # noqa: PTH116 - Path("") would be the current folder
        except FileNotFoundError as error:
            raise UsageError(f"The input {path!r} does not exist.") from error
        except (OSError, ValueError) as error:
            raise UsageError(f"The input {path!r} cannot be used: {error}.") from error
        if stat.S_ISDIR(status.st_mode) and _identity(status) == self._output_identity():
            raise UsageError(
                f"The folder {path!r} is input and output at once, so the next run would take the results for photos. "
                "Choose another output folder."
            )
        if stat.S_ISDIR(status.st_mode) and _holds_results(path):
            raise UsageError(
                f"The folder {path!r} holds results of an earlier run (.lrp/), not photos. Name the photos' own folder."
            )

    def _below_url(self, url: str) -> Iterator[Source]:
        remote = self._remotes[url]
        found = Objects(remote, RESULTS, self.output, self.all_files, self.suffixes)
        for key in found:
            yield Source(remote.url_of(key), key or posixpath.basename(remote.url))
        self.hidden += len(found.passed[HIDDEN])
        self.other_suffix += len(found.passed[SUFFIX])
        self.unusable += len(found.passed[UNUSABLE])
        self.results += found.folders

    def _walk(self, root: str) -> Iterator[Source]:
        opened = self._open(root, "", set())
        if isinstance(opened, Source):
            raise UsageError(f"The folder {root!r} cannot be listed; check its permissions.")
        stack = [] if opened is None else [opened]
        while stack:
            folder = stack[-1]
            entry = next(folder.entries, None)
            if entry is None:
                stack.pop()
                continue
            name = os.fsdecode(entry)
            path = os.path.join(folder.path, name)  # noqa: PTH118 - a Path would drop "./" and cost more
            if not name.endswith("/"):
                yield Source(path, folder.prefix + name)
                continue
            opened = self._open(path.rstrip("/"), folder.prefix + name, {above.identity for above in stack})
            if isinstance(opened, Source):
                yield opened
            elif opened is not None:
                stack.append(opened)

    def _open(self, path: str, prefix: str, above: Collection[Identity]) -> "_Folder | Source | None":
        """A folder ready to be walked; None for OUTPUT, results and a loop; a Source where it cannot be listed."""
        try:
            identity = _identity(os.stat(path))  # noqa: PTH116 - as in _walk
            if identity in above or identity == self._output_identity():
                return None
            if _holds_results(path):
                self.results += 1
                return None
            return _Folder(path, prefix, identity, iter(self._entries(path)))
        except OSError:
            return Source(path, prefix.rstrip("/"))

    def _entries(self, path: str) -> list[bytes]:
        """Names to look at, sorted so that the walk is in byte order of whole paths: "a-b", "a.jpg", "a/"."""
        with os.scandir(path) as entries:
            return sorted(name for entry in entries if (name := self._wanted(entry)) is not None)

    def _wanted(self, entry: "os.DirEntry[str]") -> bytes | None:
        kind = _kind(entry)
        if entry.name.startswith(".") and not self.all_files:
            self.hidden += 1
        elif kind == "special":
            self.special += 1
        elif kind == "link to folder" and not self.follow:
            self.linked += 1
        elif kind != "file":
            return os.fsencode(entry.name) + b"/"
        elif not self.all_files and posixpath.splitext(entry.name)[1].lower() not in self.suffixes:
            self.other_suffix += 1
        else:
            return os.fsencode(entry.name)
        return None

    def _output_identity(self) -> Identity | None:
        """Asked anew each time: a run may make OUTPUT while its inputs are still being found."""
        try:
            return None if self.output is None else _identity(os.stat(self.output))  # noqa: PTH116 - as in _walk
        except OSError:
            return None


def _holds_results(folder: str) -> bool:
    return any(os.path.lexists(os.path.join(folder, name)) for name in RESULTS)  # noqa: PTH118 - as in _walk


def _kind(entry: "os.DirEntry[str]") -> Literal["file", "folder", "link to folder", "special"]:
    """What an entry is; a link is what it points to. What cannot be told is a file, so that it fails by name."""
    try:
        if entry.is_dir():
            return "link to folder" if entry.is_symlink() else "folder"
        if entry.is_file():
            return "file"
        entry.stat()
    except OSError:  # a link to nothing or to itself
        return "file"
    return "special"


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
