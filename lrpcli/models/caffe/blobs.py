"""Arrays of numbers in Caffe's binary files, with their claimed shapes checked against what is really there."""

import math
import sys
from typing import Any

import numpy as np

from lrpcli.errors import ModelError
from lrpcli.models.caffe.fields import unread_in_message
from lrpcli.models.caffe.schema import ENUMS
from lrpcli.models.reading import Allowance

MAXIMAL_AXES = 32
RAW_TYPES = {"DOUBLE": "<f8", "FLOAT": "<f4", "FLOAT16": "<f2"}
"""NVIDIA's types of numbers that weights have, as NumPy calls them."""


def blob_array(blob: Any, raw: bool, where: str, allowance: Allowance) -> np.ndarray:
    """The numbers of a BlobProto in its shape; float16, float32 or float64 as stored. `raw`: see schema.messages.

    Raises ModelError that names `where` if the numbers do not fill the shape, or are not of a kind that is known.
    """
    unread = unread_in_message(blob, None)
    if unread:
        raise ModelError(
            f"A blob of {where} has {unread[0]}, which is not known here, so that its numbers cannot be read. Save it "
            "with BVLC's Caffe, or fetch it again."
        )
    array = _numbers(blob, raw, where)
    allowance.take(array.shape, where)
    shape = blob_shape(blob, array.size)
    if len(shape) > MAXIMAL_AXES or min(shape, default=0) < 0 or math.prod(shape) != array.size:
        raise ModelError(
            f"A blob of {where} holds {array.size} numbers but claims the shape {' x '.join(map(str, shape))}. "
            "The file is damaged; fetch it again."
        )
    return array.reshape(shape)


def holds_numbers(blob: Any) -> bool:
    """Whether a BlobProto with raw bytes for numbers holds all of them so: packed, or in NVIDIA's raw_data."""
    if not (blob.data or blob.double_data or blob.raw_data):
        return False  # asked first: each number that is not packed is an unknown field
    return not any(name.endswith("data") for name in unread_in_message(blob, None))


def _numbers(blob: Any, raw: bool, where: str) -> np.ndarray:
    if blob.HasField("raw_data"):
        return _raw_numbers(blob, where)
    # Caffe, too, prefers doubles where there are both.
    field, kind = ("double_data", "<f8") if blob.double_data else ("data", "<f4")
    values = getattr(blob, field)
    return _from_bytes(values, np.dtype(kind), where) if raw else np.array(values, dtype=kind)


def _raw_numbers(blob: Any, where: str) -> np.ndarray:
    """NVIDIA's form: one run of bytes, and the type of its numbers."""
    names = {number: name for name, number in ENUMS["NumberType"].items()}
    name = names[blob.raw_data_type] if blob.HasField("raw_data_type") else "no type"
    if name not in RAW_TYPES or blob.data or blob.double_data:
        what = f"raw numbers of {name}" if name not in RAW_TYPES else "its numbers twice, raw and plain"
        raise ModelError(f"A blob of {where} holds {what}, which is not known here. Save it as float32.")
    return _from_bytes([blob.raw_data], np.dtype(RAW_TYPES[name]), where)


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
