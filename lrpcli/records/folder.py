"""Files below an output folder, or a URL. On a disk no links are followed that somebody may have laid there."""

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lrpcli.paths import kind_of, local_path
from lrpcli.remote import Remote

FOLDER = ".lrp"
"""Where an output folder holds what a run remembers."""
RunFolder = Path | Remote
"""The output folder of a run: on a disk, or what lies below a URL."""
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def leads_inside(path: str) -> bool:
    """Whether a relative path stays below the folder that it is taken from, and is one that can exist."""
    return bool(path) and not path.startswith("/") and "\0" not in path and ".." not in path.split("/")


@contextmanager
def opened_folder(root: Path, inner: str = "", *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder `inner`, a path below `root`, of which no part may be a link; `root` may be one.

    With `make`, folders that are missing are made. OSError if it cannot be opened.
    """
    if inner and not leads_inside(inner):
        raise OSError(errno.EINVAL, "Its path leads out of the output folder")
    folder = _root(root, make=make)
    try:
        for part in (part for part in inner.split("/") if part not in ("", ".")):
            outer, folder = folder, _entered(folder, part, make=make)
            os.close(outer)
        yield folder
    finally:
        os.close(folder)


def _root(root: Path, *, make: bool) -> int:
    try:
        return os.open(root, _FOLDER)
    except FileNotFoundError:
        if not make:
            raise
    root.mkdir(parents=True, exist_ok=True)
    return os.open(root, _FOLDER)


def _entered(folder: int, name: str, *, make: bool) -> int:
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    except OSError:
        if stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode):
            raise _link(name) from None
        raise
    with contextlib.suppress(FileExistsError):  # made by another process just now
        os.mkdir(name, dir_fd=folder)
    return _entered(folder, name, make=False)


def run_folder(text: str) -> RunFolder:
    """The output folder that a text names; file:///out is the folder /out. UsageError for a URL that cannot be used."""
    path = local_path(text)
    return Remote(text) if path is None else Path(path)


def shown(root: RunFolder, path: str = "") -> str:
    """An output folder, or a file in it, for people: its path or URL."""
    return root.url_of(path) if isinstance(root, Remote) else os.fspath(root / path)


def without_journal(root: RunFolder, of: str = "") -> str:
    """What is wrong with an output folder that has no journal, or none `of` something."""
    if isinstance(root, Path) and not root.exists():
        return f"The folder {shown(root)!r} does not exist"
    return f"{shown(root)!r} holds no journal{of} ({FOLDER}/journal-*.jsonl)"


def read_file(root: RunFolder, path: str, count: int | None = None) -> bytes:
    """The content of the file at a path below an output folder, or so much of it. OSError as of open_regular."""
    if isinstance(root, Remote):
        return root.read(path, 0, count)
    inner, name = posixpath.split(path)
    with os.fdopen(open_regular(root, inner, name, os.O_RDONLY), "rb") as file:
        return file.read(count)


def is_file(root: RunFolder, path: str) -> bool:
    """Whether there is a file at a path below an output folder; below a URL, when its folder was listed last."""
    if isinstance(root, Remote):
        return root.entry(path) is not None
    return os.path.isfile(os.path.join(root, path))  # noqa: PTH113, PTH118


def names_in(root: RunFolder, inner: str = "") -> list[str]:
    """What lies in a folder, sorted by bytes; OSError if it cannot be listed. A URL without objects is empty."""
    if isinstance(root, Remote):  # the names of results, which may be many, are asked for again one by one
        return sorted(root.list(inner) if inner else root.listing(), key=os.fsencode)
    with opened_folder(root, inner) as folder:
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return sorted(os.listdir(readable), key=os.fsencode)  # noqa: PTH208
    finally:
        os.close(readable)


def open_regular(root: Path, inner: str, name: str, flags: int) -> int:
    """A descriptor of the file `name` in the folder `inner` below `root`; with O_CREAT, both are made where missing.

    OSError if it cannot be opened, or is a link, a pipe, a device or anything else than a regular file.
    """
    with opened_folder(root, inner, make=bool(flags & os.O_CREAT)) as folder:
        with contextlib.suppress(FileNotFoundError):  # opening some devices does something to them
            _require_regular(os.lstat(name, dir_fd=folder), name)
        descriptor = os.open(name, flags | _FILE, 0o666, dir_fd=folder)
    try:
        _require_regular(os.fstat(descriptor), name)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(status: os.stat_result, name: str) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _link(name)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"{name!r} is {kind_of(status.st_mode)}, where a regular file should be")


def _link(name: str) -> OSError:
    return OSError(errno.ELOOP, f"{name!r} is a link, and links inside an output folder are not followed")
