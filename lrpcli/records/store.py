"""Whole files or none: built in memory, written beside their place, renamed into it."""

import contextlib
import errno
import glob
import io
import os
import secrets
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrpcli.errors import ImageError, OutputError

OF_ONE_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.EEXIST, errno.ENOTDIR, errno.ELOOP}
"""Failures that come from one file's name or place; any other means that nothing can be written there."""
TEMPORARY = ".lrp-{owner}-{unique}.tmp"


def write_whole(path: Path, data: bytes, owner: str = "0") -> None:
    """Writes a file that is whole or not there, making its folders.

    `owner` is part of the temporary name, by which remove_leftovers finds what a killed run left. ImageError of kind io
    if this one name cannot be used; OutputError if the disk is full or the folder not writable.
    """
    temporary = path.parent / TEMPORARY.format(owner=owner, unique=secrets.token_hex(8))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise translate_os_error(error, path) from error


def remove_leftovers(folder: Path, owner: str) -> int:
    """Removes the temporary files that runs of this owner left in a folder; none of them may be running. How many."""
    pattern, removed = TEMPORARY.format(owner=glob.escape(owner), unique="[0-9a-f]" * 16), 0
    for path in list(folder.glob(pattern)):
        with contextlib.suppress(OSError):
            path.unlink()
            removed += 1
    return removed


def translate_os_error(error: OSError, path: Path) -> ImageError | OutputError:
    """The error of this package for an OSError while writing `path`."""
    reason = error.strerror or str(error) or "the write failed"
    if error.errno in OF_ONE_NAME:
        return ImageError("io", f"The output file {os.fspath(path)!r} cannot be written: {reason}.")
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)
    advice = "Free some space" if full else "Name an output folder that can be made and written to"
    return OutputError(
        f"The output file {os.fspath(path)!r} cannot be written: {reason}. {advice}, then run the same command again."
    )


def npy_bytes(array: NDArray[Any]) -> bytes:
    """An array as the content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npz_bytes(arrays: dict[str, NDArray[Any]]) -> bytes:
    """Arrays by name as the content of a .npz file."""
    buffer = io.BytesIO()
    # Not numpy.savez, which takes names such as "file" for its own arguments.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", npy_bytes(array))
    return buffer.getvalue()
