"""Caffe's files -> plain Python: a net description, weights by layer name, a mean image.

What a file claims is checked against what it holds before any memory is set aside for it, and whatever is wrong with
it comes out as a ModelError that names the file.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from lrpcli.errors import ModelError
from lrpcli.models.caffe.blobs import blob_array, hdf5_blobs
from lrpcli.models.caffe.network import Network, network_from_message
from lrpcli.models.caffe.schema import messages
from lrpcli.models.reading import name_damage, read_weights_file

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
    """Reads a .caffemodel, binary V1 or V2 or HDF5; the format is recognised by content, not by name.

    Raises WeightsError if the file is missing, ModelError if it is damaged or something else.
    """
    path = Path(path)
    data, digest = read_weights_file(path)
    if data.startswith(HDF5_MAGIC):
        return Weights(path, hdf5_blobs(io.BytesIO(data), len(data), path), digest, None)
    with _name_damage(path, HELP):
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
    with _name_damage(path, "Give the deploy .prototxt that belongs to the weights."):
        # Caffe ignores nothing, but its forks add fields: what is not known here cannot change a supported layer.
        text_format.Parse(text, message, allow_unknown_field=True)
        return network_from_message(message, path)


def parse_mean(data: bytes, path: Path, advice: str) -> np.ndarray:
    """The mean image in the bytes of a .binaryproto file, float32 in the shape that it claims. Raises ModelError."""
    with _name_damage(path, advice):
        blob, raw = _parse(data, "BlobProto", lambda message: [message])
        return np.asarray(blob_array(blob, raw, f"the mean image {str(path)!r}"), dtype=np.float32)


def _parse_net(data: bytes, path: Path) -> tuple[Any, bool]:
    message, raw = _parse(data, "NetParameter", _blobs_of)
    if not message.layer and not message.layers:
        raise ModelError(f"{str(path)!r} is no Caffe model: it holds no layers. {HELP}")
    return message, raw


def _blobs_of(net: Any) -> Iterator[Any]:
    for layer in (*net.layer, *net.layers):
        yield from layer.blobs


def _parse(data: bytes, name: str, blobs: Callable[[Any], Iterable[Any]]) -> tuple[Any, bool]:
    """The message, and whether its numbers are raw bytes; unpacked numbers are no bytes and need the second schema."""
    message = messages(raw=True)[name]()
    message.ParseFromString(data)
    if all(blob.data or blob.double_data for blob in blobs(message)):
        return message, True
    message = messages(raw=False)[name]()
    message.ParseFromString(data)
    return message, False


def _name_damage(path: Path, advice: str) -> AbstractContextManager[None]:
    return name_damage(path, advice, DecodeError, text_format.ParseError)
