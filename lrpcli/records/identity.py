"""How a later run knows an input again: where it lies, its size and time of change, and what is in it."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from lrpcli.errors import LrpError
from lrpcli.paths import STDIN, is_stream, is_url, shown_url
from lrpcli.records.json_values import Fields, json_path
from lrpcli.remote import object_at

SAME, CHANGED, OTHER, UNKNOWN = range(4)
"""What an input is to one of an earlier run: the same, other content at the same path, another one, or it depends."""
_HASH_BYTES = 16
_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileState:
    """Absolute path, size in bytes and time of change in nanoseconds: a file with the same three is the same.

    An object at a URL has a `version` in place of the time, such as its ETag; an empty one says nothing.
    """

    path: str
    size: int
    mtime_ns: int
    version: str | None = None

    @classmethod
    def of(cls, path: str) -> "FileState | None":
        """The state of a file; None where there is none, and for a stream, which a file may be called like."""
        if is_stream(path):
            return None
        if is_url(path):
            return cls._of_object(path)
        try:
            state = os.stat(path)  # noqa: PTH116 - a Path costs more, and there may be millions
        except (OSError, ValueError):
            return None
        return cls(absolute(path), state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else None

    @classmethod
    def from_json(cls, fields: Fields) -> "FileState | None":
        """The state in a journal's line; None where it holds none."""
        if fields.get("size") is None:
            return None
        version = None if fields.get("version") is None else fields.text("version")
        return cls(recorded_path(fields), fields.whole("size"), fields.whole("mtime_ns"), version)

    def as_json(self) -> dict[str, object]:
        """A path and two whole numbers; of an object its version too."""
        values: dict[str, object] = {"path": json_path(self.path), "size": self.size, "mtime_ns": self.mtime_ns}
        return values if self.version is None else {**values, "version": self.version}

    @classmethod
    def _of_object(cls, url: str) -> "FileState | None":
        """By the listing of its folder, which is older than the content that is read afterwards."""
        try:
            remote, key = object_at(url)
            entry = remote.entry(key)
        except (OSError, LrpError):
            return None
        return None if entry is None else cls(url, entry.size, 0, entry.version)


class Content(NamedTuple):
    """What is in an input: the hash of its bytes, and the state of the file before they were read, None for a stream.

    Where the file changed since, its state says so.
    """

    hash: str
    state: FileState | None = None


def compare(fields: Fields, path: str, content: Content | None = None) -> int:
    """What the input at `path` is to the one of a journal's line: SAME, CHANGED, OTHER, or UNKNOWN without its content.

    One with the same path, size and time is the same, and otherwise one with the same content. ValueError if the line
    is damaged.
    """
    known, state, recorded = FileState.from_json(fields), FileState.of(path), fields.get("content")
    if state is not None and state == known and state.version != "":
        return SAME
    if state is None and not is_stream(path):  # whatever it was, it is gone
        return CHANGED
    # Whatever comes through a stream next time is another image.
    otherwise = CHANGED if recorded_path(fields) == absolute(path) and not is_stream(path) else OTHER
    if recorded is None or (known is not None and state is not None and known.size != state.size):
        return otherwise
    if content is None:
        return UNKNOWN
    return SAME if content.hash == recorded else otherwise


def relation(fields: Fields, path: str) -> int:
    """What compare says, where needed after reading the file at `path`; one that cannot be read is CHANGED.

    A stream, which only one process can read, is taken for the one that was measured.
    """
    if is_stream(path) and recorded_path(fields) == absolute(path):
        return SAME
    found = compare(fields, path)
    if found != UNKNOWN:
        return found
    content = read_content(path)
    return CHANGED if content is None else compare(fields, path, content)


def recorded_path(fields: Fields) -> str:
    """The absolute path of the input in a journal's line, "-" for standard input; ValueError for anything else.

    Lines of early versions hold the path as it was given; it counts as one from the current folder.
    """
    return absolute(fields.path("input")) if fields.get("path") is None else fields.path("path")


def absolute(path: str) -> str:
    """A path from the root, without "." and ".."; standard input stays "-". Links in it stay, but before a "..".

    Of a URL, what is shown of it.
    """
    if path == STDIN or is_url(path):
        return shown_url(path)
    folder, name = os.path.split(path)
    try:
        return os.path.join(_folder(os.getcwd(), folder), name)  # noqa: PTH109, PTH118
    except OSError:  # the current folder is gone
        return path


@lru_cache(maxsize=4096)
def _folder(current: str, folder: str) -> str:
    """A folder below the current one. What ".." means depends on the links before it."""
    whole = os.path.join(current, folder)  # noqa: PTH118
    return os.path.realpath(whole) if ".." in folder.split("/") else os.path.normpath(whole)


def recorded_content(fields: Fields) -> str | None:
    """The content hash in a journal's line, None where it holds none; ValueError for anything else."""
    if fields.get("content") is None:
        return None
    text = fields.text("content")
    if len(bytes.fromhex(text)) != _HASH_BYTES:
        raise ValueError("'content' is not a hash")
    return text


def hash_bytes(data: bytes) -> str:
    """The content hash of an input's bytes: BLAKE2b of 16 bytes, hexadecimal."""
    return blake2b(data, digest_size=_HASH_BYTES).hexdigest()


def read_content(path: str) -> Content | None:
    """The content of a file; None if it is no regular file, or cannot be read, as objects at URLs cannot be here."""
    if is_url(path):
        return None
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            return None
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return None
            found = blake2b(digest_size=_HASH_BYTES)
            for chunk in _chunks(file.fileno(), status.st_size):
                found.update(chunk)
    except (OSError, ValueError):
        return None
    return Content(found.hexdigest(), FileState(absolute(path), status.st_size, status.st_mtime_ns))


def _chunks(descriptor: int, size: int) -> Iterator[bytes]:
    """A file up to the size that it had, in case somebody writes on and on."""
    place = 0
    while place < size and (chunk := os.pread(descriptor, min(_CHUNK, size - place), place)):
        yield chunk
        place += len(chunk)


class Unchanged:
    """Finds the hash of a file that something else reads meanwhile, and whether they saw the same bytes."""

    def __init__(self, path: str) -> None:
        self.path, self._before = path, stamp_of(path)

    def hash(self) -> str | None:
        """The content hash; None if the file changed since, was replaced or cannot be read."""
        content = read_content(self.path)
        same = content is not None and self._before is not None and stamp_of(self.path) == self._before
        return content.hash if content is not None and same else None


def stamp_of(path: str | os.PathLike[str]) -> tuple[int, ...] | None:
    """What changes with a file: device, inode, size, times of the content and of the file; None if it is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
