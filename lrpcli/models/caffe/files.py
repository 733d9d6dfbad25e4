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
from lrpcli.models.caffe.blobs import blob_array, holds_numbers
from lrpcli.models.caffe.fields import SOLVER, outline, unread_in_message
from lrpcli.models.caffe.hdf5 import hdf5_blobs
from lrpcli.models.caffe.network import Network, SourceLayer, network_from_message
from lrpcli.models.caffe.schema import messages
from lrpcli.models.reading import LONGEST_TEXT, Allowance, name_damage, read_text_file, read_weights_file
from lrpcli.models.recognise import HDF5_MAGIC

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
    data, digest = read_weights_file(path, "hdf5")
    if data.startswith(HDF5_MAGIC):
        return Weights(path, hdf5_blobs(io.BytesIO(data), len(data), path), digest, None)
    with _name_damage(path, HELP):
        message, raw = _parse_net(data, path)
        del data
        network = network_from_message(message, path)
        blobs = _blobs(network.layers, raw, path)
    if not blobs:
        raise ModelError(f"{str(path)!r} holds no weights. {HELP}")
    return Weights(path, blobs, digest, network.without_blobs())


def _blobs(layers: Iterable[SourceLayer], raw: bool, path: Path) -> dict[str, tuple[np.ndarray, ...]]:
    """The numbers of all layers by name. ModelError for a name that two layers with numbers have."""
    allowance = Allowance(path, "its weights")
    found: dict[str, tuple[np.ndarray, ...]] = {}
    for layer in layers:
        where = f"layer {layer.name!r} of {str(path)!r}"
        if layer.blobs and layer.name in found:
            raise ModelError(f"{str(path)!r} holds weights for two layers named {layer.name!r}. Give each its name.")
        if layer.blobs:
            found[layer.name] = tuple(blob_array(blob, raw, where, allowance) for blob in layer.blobs)
    return found


def read_prototxt(path: str | Path) -> Network:
    """Reads a net description, V1 or V2; see parse_prototxt for fields that are not known. Raises ModelError."""
    path = Path(path)
    # Comments in other encodings are common, and harmless.
    return parse_prototxt(read_text_file(path, "net description", "replace"), path)


def parse_prototxt(text: str, path: Path) -> Network:
    """The Network in the text of a net description; messages name `path`.

    Fields that are not known are kept by name with their layer, and refused where it is used. Raises ModelError.
    """
    if len(text) > LONGEST_TEXT:
        raise ModelError(f"The net description in {str(path)!r} is too long to be one. Give the deploy .prototxt.")
    text = text.removeprefix("\ufeff")
    message = messages()["NetParameter"]()
    with _name_damage(path, "Give the deploy .prototxt that belongs to the weights."):
        text_format.Parse(text, message, allow_unknown_field=True)
        items = outline(text)
        if not message.layer and not message.layers and SOLVER.intersection(item.name for item in items):
            raise ModelError(
                f"{str(path)!r} describes a solver, which trains a net, and not the net. Give the net description, "
                "such as deploy.prototxt; a solver names one in its field 'net'."
            )
        return network_from_message(message, path, items)


def parse_mean(data: bytes, path: Path, advice: str) -> np.ndarray:
    """The mean image in the bytes of a .binaryproto file, float32 in the shape that it claims. Raises ModelError."""
    where = f"the mean image {str(path)!r}"
    with _name_damage(path, advice):
        blob, raw = _parse(data, "BlobProto", lambda message: [message])
        if unread_in_message(blob, None):
            raise ModelError(f"{str(path)!r} is no mean image; it may be the weights of a net. {advice}")
        return np.asarray(blob_array(blob, raw, where, Allowance(path, "a mean image")), dtype=np.float32)


def _parse_net(data: bytes, path: Path) -> tuple[Any, bool]:
    message, raw = _parse(data, "NetParameter", _blobs_of)
    if not message.layer and not message.layers:
        raise ModelError(f"{str(path)!r} is no Caffe model: it holds {_what_else(data)}. {HELP}")
    return message, raw


def _what_else(data: bytes) -> str:
    """What a file without layers holds, for people."""
    try:
        blob, _ = _parse(data, "BlobProto", lambda message: [message])
        if blob.data and not unread_in_message(blob, None):
            return "one array of numbers, as mean images do, which go with --mean FILE"
    except DecodeError:
        pass
    return "no layers"


def _blobs_of(net: Any) -> Iterator[Any]:
    for layer in (*net.layer, *net.layers):
        yield from layer.blobs


def _parse(data: bytes, name: str, blobs: Callable[[Any], Iterable[Any]]) -> tuple[Any, bool]:
    """The message, and whether its numbers are raw bytes; unpacked numbers are no bytes and need the second schema."""
    message = messages(raw=True)[name]()
    message.ParseFromString(data)
    if all(map(holds_numbers, blobs(message))):
        return message, True
    message = messages(raw=False)[name]()
    message.ParseFromString(data)
    return message, False


def _name_damage(path: Path, advice: str) -> AbstractContextManager[None]:
    return name_damage(path, advice, DecodeError, text_format.ParseError)
