"""Relevance as it is stored in .npy files, in the types of --dtype, and back."""

import io
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lrpcli.errors import ImageError

STEPS = 32767
"""The largest of the whole numbers that stand for relevance; the map's largest value has it."""
SCALE, VALUES = "scale", "values"
"""Fields of what is stored as int16: the relevance of one step, and how many steps each value has."""


def stored_type(dtype: str, shape: tuple[int, ...]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The type and shape of the array that holds relevance of a shape, where --dtype is `dtype`."""
    if dtype != "int16":
        return np.dtype(dtype), shape
    return np.dtype([(SCALE, "<f8"), (VALUES, "<i2", shape)]), ()


def stored(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Relevance of any shape as an array for a .npy file.

    float32 and float16 are the values themselves. int16 is one record of a scale and whole numbers, so that no program
    takes the numbers for relevance: relevance = scale * values, off by at most half a step, which is 1/65534 (1.53e-5)
    of the largest absolute value. Zero stays zero. OverflowError for values that the type has no room for, or that are
    not finite.

    >>> import numpy as np
    >>> from lrpcli.records.map_values import restored, stored
    >>> array = stored(np.array([[0.0, -2.0], [1.0, 0.5]], np.float32), "int16")
    >>> array["values"].tolist(), float(array["scale"]) == 2 / 32767
    ([[0, -32767], [16384, 8192]], True)
    >>> restored(array).round(3).tolist()
    [[0.0, -2.0], [1.0, 0.5]]
    """
    with np.errstate(over="ignore"):
        result = values if dtype == "int16" else values.astype(dtype)
    if not np.isfinite(result).all():
        raise OverflowError(f"there are values that {dtype} has no room for")
    return _in_steps(values) if dtype == "int16" else result


def _in_steps(values: NDArray[np.float32]) -> NDArray[Any]:
    kind, shape = stored_type("int16", values.shape)
    result = np.zeros(shape, kind)
    largest = float(np.abs(values).max(initial=0))
    if largest:
        result[SCALE] = largest / STEPS
        result[VALUES] = np.rint(values / np.float64(largest / STEPS)).clip(-STEPS, STEPS)
    return result


def restored(array: NDArray[Any]) -> NDArray[np.float32]:
    """The relevance in an array that `stored` made, float32, an array of its own. ValueError for any other array."""
    if array.dtype.names is None and array.dtype.kind == "f":
        return np.array(array, np.float32)
    shape = array.dtype[VALUES].shape if array.dtype.names == (SCALE, VALUES) else ()
    if array.dtype != stored_type("int16", shape)[0] or array.shape != ():
        raise ValueError("it does not hold a map")
    scale = float(array[SCALE])
    if not 0 <= scale < np.inf:
        raise ValueError("its scale is not a finite number")
    values: NDArray[np.float32] = (array[VALUES] * scale).astype(np.float32)
    return values


def stored_shape(array: NDArray[Any]) -> tuple[int, ...]:
    """The shape of the relevance in an array, before any of it is read."""
    shape = array.dtype[VALUES].shape if array.dtype.names == (SCALE, VALUES) else array.shape
    return tuple(shape)


def load_array(file: str | BinaryIO) -> NDArray[Any]:
    """The array in a .npy file, which stays on the disk if it is a path. ValueError if there is none, whatever is."""
    try:
        array = np.load(file, mmap_mode="r" if isinstance(file, str) else None, allow_pickle=False)
    except Exception as error:  # numpy parses a header, and may raise anything of a damaged one
        raise ValueError(str(error) or type(error).__name__) from error
    if not isinstance(array, np.ndarray):
        raise ValueError("it does not hold a map")
    return array


def read_values(data: bytes, what: str) -> NDArray[np.float32]:
    """The relevance in the bytes of a .npy file. ImageError of kind decode, which names `what`, if they hold no map."""
    try:
        return restored(load_array(io.BytesIO(data)))
    except ValueError as error:
        raise ImageError("decode", f"The map {what!r} cannot be read: {str(error).rstrip('.')}.") from error
