"""Caffe's weights in HDF5: data/<layer>/<index>, where a layer's name may hold slashes.

HDF5 may refer to other files, refer in circles, and compress a great deal into little. Only plain data sets in the file
itself are read, after the sum of what they claim has been compared with the file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lrpcli.errors import ModelError, needs_package
from lrpcli.models.reading import Allowance
from lrpcli.text_files import plain_reason

RATIO = 64
"""Data sets of more than this many times the file's size, which compression could make of it, are taken for a lie."""
SMALL = 2**20
"""Bytes that a file of any size may claim: small data sets of zeros compress to nothing."""
DEEPEST = 32
"""Groups within groups, which slashes in layer names make."""
MOST_ENTRIES = 20_000


def hdf5_blobs(file: BinaryIO, size: int, path: Path) -> dict[str, tuple[np.ndarray, ...]]:
    """Blobs by layer name; `size` is the file's size in bytes.

    Raises ModelError if h5py is missing, the file is damaged, refers to others, or claims far more than it holds.
    """
    try:
        import h5py
    except ImportError as error:
        raise needs_package(f"The HDF5 file {str(path)!r}", "h5py", "hdf5") from error
    found: dict[str, dict[int, np.ndarray]] = {}
    try:
        with h5py.File(file, "r") as opened:
            entries = list(_blobs_in(opened, path))
            _compare_claims([entry for _, _, entry in entries], size, path)
            for layer, index, entry in entries:
                array = np.asarray(entry[()], dtype=np.float64 if entry.dtype == np.float64 else np.float32)
                found.setdefault(layer, {})[index] = array
    # h5py raises whatever the damage happens to trip over; ModelErrors of our own pass.
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{str(path)!r} is a damaged HDF5 file ({plain_reason(error)}). Fetch it again.") from error
    if not found:
        raise ModelError(f"{str(path)!r} holds no weights of a Caffe net: it has no data sets 'data/<layer>/<index>'.")
    return {layer: _in_order(blobs, layer, path) for layer, blobs in found.items()}


def _blobs_in(opened: Any, path: Path) -> Iterator[tuple[str, int, Any]]:
    """Layer, index and data set of every blob, without following links; ModelError for what cannot be one."""
    import h5py

    waiting, seen = [("data", 0)], 0
    while waiting:
        name, depth = waiting.pop()
        seen += 1
        if depth > DEEPEST or seen + len(waiting) > MOST_ENTRIES:
            raise ModelError(
                f"{str(path)!r} has more than {MOST_ENTRIES:,} entries, or groups nested more than {DEEPEST} deep, "
                "which weights never have. Fetch it again."
            )
        link = opened.get(name, getlink=True)
        if link is None:
            continue
        if not isinstance(link, h5py.HardLink):
            raise ModelError(
                f"The entry {name!r} of {str(path)!r} is a link, which could lead to another file, and no array of "
                "numbers. Save the weights in one file."
            )
        entry = opened[name]
        layer, _, index = name.removeprefix("data").lstrip("/").rpartition("/")
        if isinstance(entry, h5py.Group):
            waiting += [(f"{name}/{child}", depth + 1) for child in reversed(list(entry))]
        elif isinstance(entry, h5py.Dataset) and index.isdecimal():
            yield layer, int(index), entry


def _compare_claims(entries: list[Any], size: int, path: Path) -> None:
    """ModelError if a data set is no plain array, or all of them claim more than a file of this size can hold."""
    allowance, claimed = Allowance(path, "its weights"), 0
    for entry in entries:
        where = f"{entry.name!r} of {str(path)!r}"
        if entry.dtype.kind not in "fiu" or entry.external or entry.is_virtual or entry.shape is None:
            raise ModelError(f"The data set {where} is no plain array of numbers. Fetch the file again.")
        allowance.take(entry.shape, where, max(4, entry.dtype.itemsize))
        # One chunk is read whole, however little of it the data set uses.
        allowance.take(entry.chunks or (), where, entry.dtype.itemsize)
        claimed += entry.nbytes
        if claimed > max(RATIO * size, SMALL):
            raise ModelError(
                f"The data sets of {str(path)!r} up to {entry.name!r} claim {claimed:,} bytes (this one the shape "
                f"{' x '.join(map(str, entry.shape))}), far more than the file holds. It is damaged; fetch it again."
            )


def _in_order(blobs: dict[int, np.ndarray], layer: str, path: Path) -> tuple[np.ndarray, ...]:
    if sorted(blobs) != list(range(len(blobs))):
        raise ModelError(f"Layer {layer!r} of {str(path)!r} lacks one of its blobs. Fetch the file again.")
    return tuple(blobs[index] for index in range(len(blobs)))
