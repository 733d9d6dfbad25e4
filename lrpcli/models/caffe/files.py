"""Caffe's files -> plain Python: a net description, weights by layer name, a mean image.

What a file claims is checked against what it holds before any memory is set aside for it, and whatever is wrong with
it comes out as a ModelError that names the file.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from lrpcli.errors import ModelError, WeightsError
from lrpcli.models.caffe.blobs import blob_array, hdf5_blobs
from lrpcli.models.caffe.network import Network, network_from_message
from lrpcli.models.caffe.schema import messages

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
MAXIMAL_TEXT = 2**22
"""Bytes of a net description; the largest known nets need a tenth of it."""
HELP = "Give an undamaged .caffemodel or .caffemodel.h5 file."


@dataclass(frozen=True)
class Weights:
    """What a weights file holds: numbers by layer name, and the net's own description where there is one.

    Without `blobs` every layer gets zeros that take no memory: enough for a net's geometry.
    """

    path: Path
    blobs: dict[str, tuple[np.ndarray, ...]] | None
    sha256: str | None
    network: Network | None


def read_weights(path: str | Path) -> Weights:
    """Reads a .caffemodel, binary V1 or V2 or HDF5; the format is told by content, not by name.

    Raises WeightsError if the file is missing, ModelError if it is damaged or no Caffe model.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"The weights file {str(path)!r} cannot be read ({error.strerror or error}). Check the path."
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if data.startswith(HDF5_MAGIC):
        return Weights(path, hdf5_blobs(io.BytesIO(data), len(data), path), digest, None)
    with name_damage(path, HELP):
        message, raw = _parse_net(data, path)
        del data
        network = network_from_message(message, path)
        blobs = {
            layer.name: tuple(blob_array(blob, raw, f"layer {layer.name!r} of {str(path)!r}") for blob in layer.blobs)
            for layer in network.layers
            if layer.blobs
        }
    if not blobs:
        raise ModelError(f"{str(path)!r} holds no weights. {HELP}")
    return Weights(path, blobs, digest, network.without_blobs())


def read_prototxt(path: str | Path) -> Network:
    """Reads a net description, V1 or V2; fields that do not matter for importing are skipped. Raises ModelError."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = file.read(MAXIMAL_TEXT + 1)
    except OSError as error:
        raise ModelError(
            f"The net description {str(path)!r} cannot be read ({error.strerror or error}). Check the path."
        ) from error
    return parse_prototxt(text.decode("utf-8", errors="replace"), path)


def parse_prototxt(text: str, path: Path) -> Network:
    """The Network in the text of a net description; messages name `path`. Raises ModelError."""
    if len(text) > MAXIMAL_TEXT:
        raise ModelError(f"The net description in {str(path)!r} is too long to be one. Give the deploy .prototxt.")
    message = messages()["NetParameter"]()
    with name_damage(path, "Give the deploy .prototxt that belongs to the weights."):
        # Caffe ignores nothing, but its forks add fields: what is not known here cannot change a supported layer.
        text_format.Parse(text, message, allow_unknown_field=True)
        return network_from_message(message, path)


def read_mean(path: str | Path) -> np.ndarray:
    """Reads a mean image, .binaryproto or .npy, as float32 (C, h, w), channels as the net sees them (usually BGR)."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The mean image {str(path)!r} cannot be read ({error.strerror or error}).") from error
    with name_damage(path, "Give a mean image as .binaryproto or .npy."):
        mean = np.load(io.BytesIO(data), allow_pickle=False) if data[:6] == b"\x93NUMPY" else _binaryproto(data, path)
        mean = np.asarray(mean, dtype=np.float32)
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3 or mean.shape[0] not in (1, 3) or not np.isfinite(mean).all():
        raise ModelError(
            f"The mean image {str(path)!r} has the shape {mean.shape}; expected are finite numbers in the shape "
            "(3, height, width) or (1, height, width)."
        )
    return mean


def _binaryproto(data: bytes, path: Path) -> np.ndarray:
    blob, raw = _parse(data, "BlobProto", lambda message: [message])
    return blob_array(blob, raw, f"the mean image {str(path)!r}")


def _parse_net(data: bytes, path: Path) -> tuple[Any, bool]:
    message, raw = _parse(data, "NetParameter", _blobs_of)
    if not message.layer and not message.layers:
        raise ModelError(f"{str(path)!r} is no Caffe model: it holds no layers. {HELP}")
    return message, raw


def _blobs_of(net: Any) -> Iterator[Any]:
    for layer in (*net.layer, *net.layers):
        yield from layer.blobs


def _parse(data: bytes, name: str, blobs: Callable[[Any], Any]) -> tuple[Any, bool]:
    """The message, and whether its numbers are raw bytes; unpacked numbers are no bytes and need the second schema."""
    message = messages(raw=True)[name]()
    message.ParseFromString(data)
    if all(blob.data or blob.double_data for blob in blobs(message)):
        return message, True
    message = messages(raw=False)[name]()
    message.ParseFromString(data)
    return message, False


@contextmanager
def name_damage(path: Path, advice: str) -> Iterator[None]:
    """Turns what parsers raise on a damaged file into a ModelError that names the file."""
    try:
        yield
    except (
        DecodeError,
        text_format.ParseError,
        ValueError,
        TypeError,
        RecursionError,
        EOFError,
        MemoryError,
        SyntaxError,
        TokenError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{str(path)!r} cannot be read: {reason.rstrip('.')}. {advice}") from error
