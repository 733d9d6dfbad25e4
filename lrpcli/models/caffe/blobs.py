"""Arrays of numbers in Caffe's files, with their claimed shapes checked against what is really there."""

import math
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lrpcli.errors import ModelError

MAXIMAL_AXES = 32
HDF5_RATIO = 64
"""HDF5 may compress: a data set of more than this many times the file's size is taken for a lie."""


def blob_array(blob: Any, raw: bool, where: str) -> np.ndarray:
    """The numbers of a BlobProto in its shape; float32, or float64 if stored so. `raw`: see schema.messages.

    Raises ModelError that names `where` if the numbers do not fill the shape.
    """
    field, kind = ("data", "<f4") if blob.data or not blob.double_data else ("double_data", "<f8")
    values = getattr(blob, field)
    array = _from_bytes(values, np.dtype(kind), where) if raw else np.array(values, dtype=kind)
    shape = blob_shape(blob, array.size)
    if len(shape) > MAXIMAL_AXES or min(shape, default=0) < 0 or math.prod(shape) != array.size:
        raise ModelError(
            f"A blob of {where} holds {array.size} numbers but claims the shape {' x '.join(map(str, shape))}. "
            "The file is damaged; fetch it again."
        )
    return array.reshape(shape)


def blob_shape(blob: Any, count: int) -> tuple[int, ...]:
    """The shape a BlobProto claims: the four legacy numbers, BlobShape, or else a plain list of `count` numbers."""
    if any(blob.HasField(axis) for axis in ("num", "channels", "height", "width")):
        return blob.num, blob.channels, blob.height, blob.width
    return tuple(blob.shape.dim) if blob.HasField("shape") else (count,)


def _from_bytes(parts: Any, kind: np.dtype[Any], where: str) -> np.ndarray:
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(data) % kind.itemsize:
        raise ModelError(f"The numbers of {where} are cut off in the middle of one. Fetch the file again.")
    array = np.frombuffer(data, dtype=kind)
    return array if sys.byteorder == "little" else array.astype(kind.newbyteorder("="))


def hdf5_blobs(file: BinaryIO, size: int, path: Path) -> dict[str, tuple[np.ndarray, ...]]:
    """Blobs by layer name from Caffe's HDF5 layout, data/<layer>/<index>; a layer name may hold slashes.

    `size` is the file's size in bytes. Raises ModelError if h5py is missing or the file is damaged.
    """
    try:
        import h5py
    except ImportError as error:
        raise ModelError(
            f"{str(path)!r} is an HDF5 file, and the package h5py, which reads it, is missing. "
            "Install lrpcli[hdf5] (pip install 'lrpcli[hdf5]')."
        ) from error
    found: dict[str, dict[int, np.ndarray]] = {}

    def visit(name: str, entry: Any) -> None:
        layer, _, index = name.rpartition("/")
        if isinstance(entry, h5py.Dataset) and index.isdecimal():
            found.setdefault(layer, {})[int(index)] = _dataset(entry, size, f"layer {layer!r} of {str(path)!r}")

    try:
        with h5py.File(file, "r") as opened:
            if isinstance(opened.get("data"), h5py.Group):
                opened["data"].visititems(visit)
    # h5py raises whatever the damage happens to trip over; ModelErrors of our own pass.
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{str(path)!r} is a damaged HDF5 file ({error}). Fetch it again.") from error
    if not found:
        raise ModelError(f"{str(path)!r} holds no weights of a Caffe net: it has no data sets 'data/<layer>/<index>'.")
    return {layer: _in_order(blobs, layer, path) for layer, blobs in found.items()}


def _dataset(entry: Any, size: int, where: str) -> np.ndarray:
    if entry.dtype.kind not in "fiu" or entry.external or entry.is_virtual or entry.shape is None:
        raise ModelError(f"A blob of {where} is no plain array of numbers. Fetch the file again.")
    if entry.nbytes > HDF5_RATIO * size:
        raise ModelError(
            f"A blob of {where} claims the shape {' x '.join(map(str, entry.shape))}, far more than the file holds. "
            "The file is damaged; fetch it again."
        )
    return np.asarray(entry[()], dtype=np.float64 if entry.dtype == np.float64 else np.float32)


def _in_order(blobs: dict[int, np.ndarray], layer: str, path: Path) -> tuple[np.ndarray, ...]:
    if sorted(blobs) != list(range(len(blobs))):
        raise ModelError(f"Layer {layer!r} of {str(path)!r} lacks one of its blobs. Fetch the file again.")
    return tuple(blobs[index] for index in range(len(blobs)))
