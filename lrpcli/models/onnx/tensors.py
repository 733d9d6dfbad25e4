"""The tensors of an ONNX file, in it or beside it, as the importer computes with them.

What a file claims is compared with what it holds, and counted, before memory is set aside.
"""

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrpcli.errors import ModelError
from lrpcli.models.reading import MEMORY_LIMIT, Allowance, name_missing_weights, regular_size

ADVICE = "Give an undamaged .onnx file."
REAL = {1: "float", 10: "float16", 11: "double", 16: "bfloat16"}
"""TensorProto's numbers for types that are read as float32."""
WHOLE = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 12: "uint32", 13: "uint64"}
"""And for types that are read as int64."""
BOOL = 9
SHARED_AXES = 64
"""How many axes a tensor may have, as in NumPy."""


class TensorReader:
    """Reads the tensors of one file, all of which together may take MEMORY_LIMIT bytes.

    `used` are the files beside it that were read. Its methods raise ModelError where the file is wrong, WeightsError
    where a file beside it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.used: set[Path] = set()
        self._allowance = Allowance(path, "its tensors")

    def read_all(self, protos: Iterable[Any]) -> dict[str, Tensor]:
        """TensorProtos by name; ModelError if two have the same."""
        tensors: dict[str, Tensor] = {}
        for proto in protos:
            if proto.name in tensors:
                raise ModelError(f"{str(self.path)!r} has two tensors named {proto.name!r}. {ADVICE}")
            tensors[proto.name] = self.read(proto)
        return tensors

    def read(self, proto: Any) -> Tensor:
        """Floating-point numbers as float32, whole ones as int64, truth values as bool."""
        from onnx import TensorProto, helper, numpy_helper

        what = f"tensor {proto.name!r} of {str(self.path)!r}"
        kind, shape = proto.data_type, tuple(proto.dims)
        if kind not in (*REAL, *WHOLE, BOOL):
            raise ModelError(f"The {what} holds {_name_type(kind)}, which is no type of numbers that is known here.")
        if min(shape, default=0) < 0 or len(shape) > SHARED_AXES or proto.HasField("segment"):
            raise ModelError(f"The {what} has the shape {shape} or comes in segments, which cannot be read. {ADVICE}")
        self._allowance.take(shape, f"tensor {proto.name!r}", 8 if kind in WHOLE else 4)
        stored = helper.tensor_dtype_to_np_dtype(kind)
        size = math.prod(shape) * stored.itemsize
        if proto.data_location == TensorProto.EXTERNAL:
            data = self._external(proto, size)
            return as_tensor(np.frombuffer(data, stored.newbyteorder("<")).reshape(shape), what)
        if proto.HasField("raw_data") and len(proto.raw_data) != size:
            raise ModelError(f"The {what} claims {size} bytes and holds {len(proto.raw_data)}. {ADVICE}")
        try:
            return as_tensor(numpy_helper.to_array(proto), what)
        except (ValueError, TypeError, OverflowError) as error:
            raise ModelError(
                f"The {what} does not hold as many numbers as its shape {shape} claims. {ADVICE}"
            ) from error

    def digest(self, own: str) -> str:
        """The sha256 of the file, `own`, or if others were read that of all of them, one behind the other by name."""
        if not self.used:
            return own
        total = hashlib.sha256()
        for place in (self.path, *sorted(self.used)):
            with name_missing_weights(place), place.open("rb") as file:
                while block := file.read(2**20):
                    total.update(block)
        return total.hexdigest()

    def _external(self, proto: Any, size: int) -> bytes:
        """What a file in the folder of the net holds of a tensor."""
        fields = {entry.key: entry.value for entry in proto.external_data}
        location = fields.get("location", "")
        place = self._place(proto.name, location)
        offset, length = (
            self._number(proto.name, fields, key, usual) for key, usual in (("offset", 0), ("length", size))
        )
        with name_missing_weights(place):
            held = place.stat().st_size
        if length != size or offset + size > held:
            raise ModelError(
                f"The tensor {proto.name!r} of {str(self.path)!r} takes {size:,} bytes, for which it claims {length:,} "
                f"at {offset:,} of {location!r}, which has {held:,}. Fetch both files again."
            )
        with name_missing_weights(place), place.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def _place(self, name: str, location: str) -> Path:
        """Where a file beside the net lies: in its folder or below it, not through '..', and not behind a link."""
        inner, folder = PurePosixPath(location), self.path.parent
        outside = not inner.parts or inner.is_absolute() or ".." in inner.parts or "\0" in location or "\\" in location
        if outside or any((folder / part).is_symlink() for part in (inner, *inner.parents)):
            raise ModelError(
                f"The tensor {name!r} of {str(self.path)!r} lies in {location!r}. Only files in the folder of the net "
                "are read, and no links: put the data beside the .onnx file, under the name that it was exported with."
            )
        place = folder / inner
        with name_missing_weights(place):
            size = regular_size(place)
        if size > MEMORY_LIMIT:
            raise ModelError(f"{str(place)!r} has {size:,} bytes, and at most {MEMORY_LIMIT:,} (2 GiB) are read.")
        self.used.add(place)
        return place

    def _number(self, name: str, fields: dict[str, str], key: str, usual: int) -> int:
        text = fields.get(key, str(usual))
        if not (text.isascii() and text.isdecimal() and len(text) < 20):
            raise ModelError(
                f"The tensor {name!r} of {str(self.path)!r} has the {key} {text[:40]!r}, which is no number of bytes. "
                f"{ADVICE}"
            )
        return int(text)


def as_tensor(array: np.ndarray, what: str) -> Tensor:
    """A copy of numbers as the importer computes with them. ModelError if whole ones are larger than int64 holds."""
    if array.dtype.kind == "b":
        return torch.from_numpy(array.astype(np.bool_))
    if array.dtype.kind in "iu":
        if array.size and int(array.max()) >= 2**63:
            raise ModelError(f"The {what} holds whole numbers of 2^63 and more. {ADVICE}")
        return torch.from_numpy(array.astype(np.int64))
    with np.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(array.astype(np.float32))


def _name_type(kind: int) -> str:
    from onnx import TensorProto

    try:
        return f"numbers of the type {TensorProto.DataType.Name(kind)}"
    except ValueError:
        return f"the type {kind}"
