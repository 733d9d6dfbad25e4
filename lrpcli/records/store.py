"""Whole files or none: built in memory, written beside their place, renamed into it."""

import contextlib
import errno
import io
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lrpcli.errors import ImageError, OutputError, UsageError
from lrpcli.paths import kind_of
from lrpcli.records.folder import RunFolder, names_in, opened_folder
from lrpcli.remote import Remote

OF_ONE_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.EEXIST, errno.ENOTDIR, errno.ELOOP}
"""Failures that come from one file's name or place; any other means that nothing can be written there."""
ADVICE: dict[int | None, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, None), "Free some space"),
    errno.EFBIG: "Allow larger files (ulimit -f)",
    errno.EBUSY: "Let one run work on it at a time",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "Allow more open files (ulimit -n), or choose fewer --jobs"),
}
"""What to do about failures that have nothing to do with the place; NumPy's have no number on a full disk."""
TEMPORARY = ".lrp-{owner}-{unique}.tmp"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_whole(path: Path, data: bytes, owner: str = "0", root: Path | None = None) -> None:
    """Writes a file that is whole or not there, making its folders.

    `owner` is part of the temporary name, by which remove_leftovers finds what a killed run left. `root` is the output
    folder: of the folders between it and the file, none may be a link. ImageError of kind io if this one name cannot
    be used; OutputError if the disk is full or the folder not writable.
    """
    root = path.parent if root is None else root
    try:
        with opened_folder(root, str(path.parent.relative_to(root)), make=True) as folder:
            _write_whole(folder, path.name, data, TEMPORARY.format(owner=owner, unique=secrets.token_hex(8)))
    except OSError as error:
        raise translate_os_error(error, path) from error


def put_whole(root: RunFolder, files: Mapping[str, bytes], owner: str = "0") -> None:
    """Writes files at paths below an output folder, each whole or not at all; errors as those of write_whole."""
    if not isinstance(root, Remote):
        for path, data in files.items():
            write_whole(root / path, data, owner, root)
        return
    try:
        root.put(files)
    except OSError as error:
        raise translate_remote_error(error, root.url_of(next(iter(files)) if len(files) == 1 else "")) from error


def _write_whole(folder: int, name: str, data: bytes, temporary: str) -> None:
    try:
        with os.fdopen(os.open(temporary, _NEW, 0o666, dir_fd=folder), "wb") as file:
            file.write(data)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


@contextlib.contextmanager
def whole_file(path: Path, owner: str = "0", *, follow: bool = True) -> Iterator[BinaryIO]:
    """A file to be written piece by piece, which has its name only once the block ends without an error.

    Its folders are made; what a link leads to is replaced, or the link itself without `follow`. UsageError for anything
    else than a regular file, OutputError if it cannot be written.
    """
    path = Path(os.path.realpath(path)) if follow else path
    if path.exists() and not path.is_file():
        raise UsageError(f"{os.fspath(path)!r} is {kind_of(path.stat().st_mode)}. Name a file to be written.")
    temporary = TEMPORARY.format(owner=owner, unique=secrets.token_hex(8))
    try:
        with opened_folder(path.parent, make=True) as folder:
            try:
                with os.fdopen(os.open(temporary, _NEW, 0o666, dir_fd=folder), "wb") as file:
                    yield file
                os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
    except OSError as error:
        translated = translate_os_error(error, path)
        raise translated if isinstance(translated, OutputError) else OutputError(str(translated)) from error


def remove_leftovers(root: Path, owner: str, inner: str = "") -> int:
    """Removes the temporary files that runs of this owner left in a folder; none of them may be running. How many.

    `inner` is the folder's path below `root`. One that cannot be looked into, whatever the reason, holds none.
    """
    name_of = re.escape(TEMPORARY.format(owner=owner, unique="UNIQUE")).replace("UNIQUE", "[0-9a-f]{16}")
    pattern, removed = re.compile(name_of), 0
    with contextlib.suppress(OSError, ValueError):
        for name in filter(pattern.fullmatch, names_in(root, inner)):
            with contextlib.suppress(OSError), opened_folder(root, inner) as folder:
                os.unlink(name, dir_fd=folder)
                removed += 1
    return removed


def translate_os_error(error: OSError, path: Path) -> ImageError | OutputError:
    """The error of this package for an OSError while writing `path`."""
    reason = error.strerror or str(error) or "the write failed"
    if error.errno in OF_ONE_NAME:
        return ImageError("io", f"The output file {os.fspath(path)!r} cannot be written: {reason}.")
    advice = ADVICE.get(error.errno, "Name an output folder that can be made and written to")
    return OutputError(
        f"The output file {os.fspath(path)!r} cannot be written: {reason}. {advice}, then run the same command again."
    )


def translate_remote_error(error: OSError, url: str) -> ImageError | OutputError:
    """The error of this package for an OSError while writing to a URL."""
    reason = error.strerror or str(error)
    if error.errno == errno.ENAMETOOLONG:
        return ImageError("io", f"The output {url!r} cannot be written: {reason}.")
    return OutputError(
        f"The output {url!r} cannot be written: {reason}. See that its bucket is there and may be written to, then run "
        "the same command again."
    )


def npy_bytes(array: NDArray[Any]) -> bytes:
    """An array as the content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npz_bytes(arrays: dict[str, NDArray[Any]]) -> bytes:
    """Arrays by name as the content of a .npz file; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    # Not numpy.savez, which takes names such as "file" for its own arguments.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # with a date that is always the same
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, npy_bytes(array))
    return buffer.getvalue()
