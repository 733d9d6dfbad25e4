"""What the files of a run will take on the disk: maps exactly, pictures by what photos usually take."""

import io
import math
from typing import NamedTuple

import numpy as np

from lrpcli.models.layer_table import layer_table
from lrpcli.models.model import Model
from lrpcli.pictures.style import FIGURE
from lrpcli.pipeline.kinds import KINDS, Kind
from lrpcli.pipeline.settings import OutputSettings
from lrpcli.records.map_values import stored_type

PHOTO = (500, 375)
"""Width and height that a photo is taken to have, where a map has its size; pictures have this shape."""
BYTES_A_PIXEL = {"png": 1.5, "webp": 0.25, "jpeg": 0.4}
"""Of overlays over photos, measured on 48 of them."""
FIGURE_BYTES_A_PIXEL = {"png": 3.6, "webp": 0.55, "jpeg": 0.9, "pdf": 3.1, "svg": 4.5}
"""Of figures, for each pixel of the overlay in them, measured on ten."""
ENTRY = 30 + 46 + 2 * len(".npy")
"""Bytes of a .npz file for each array beside its name, twice, and its content; and at the end of it:"""
NPZ_END = 22


class KindSize(NamedTuple):
    """The bytes of one file of a kind, and what an estimate goes by; nothing where they are known."""

    kind: str
    bytes: float
    estimated_by: str = ""


def kind_sizes(settings: OutputSettings, model: Model) -> list[KindSize]:
    """The sizes of the files of each map that a run writes."""
    return [_size(KINDS[name], settings, model) for name in settings.save]


def _size(kind: Kind, settings: OutputSettings, model: Model) -> KindSize:
    if kind.picture:
        return _picture(kind, settings, model)
    return _layers(kind, settings, model) if kind.layers else _map(kind, settings, model)


def _picture(kind: Kind, settings: OutputSettings, model: Model) -> KindSize:
    longest = settings.overlay_size or max(model.input_shape[1:])
    width, height = longest, round(longest * PHOTO[1] / PHOTO[0])
    figure = settings.picture.style == FIGURE and kind.name == "overlay"
    bytes_a_pixel = (FIGURE_BYTES_A_PIXEL if figure else BYTES_A_PIXEL)[settings.picture_format]
    by = f"at {bytes_a_pixel} bytes a pixel of {width} x {height}"
    return KindSize(kind.name, bytes_a_pixel * width * height, by)


def _map(kind: Kind, settings: OutputSettings, model: Model) -> KindSize:
    channels, height, width = model.input_shape
    by = ""
    if settings.map_space == "image":
        width, height = PHOTO
        by = f"for photos of {width} x {height}"
    shape = (channels, height, width) if settings.channels == "keep" else (height, width)
    return KindSize(kind.name, _npy_size(shape, settings.dtype), by)


def _layers(kind: Kind, settings: OutputSettings, model: Model) -> KindSize:
    entries = (_npy_size(row.output, settings.dtype) + ENTRY + 2 * len(row.name.encode()) for row in layer_table(model))
    return KindSize(kind.name, sum(entries) + NPZ_END)


def _npy_size(values: tuple[int, ...], dtype: str) -> int:
    """The bytes of a .npy file of relevance of a shape."""
    kind, shape = stored_type(dtype, values)
    header = {"shape": shape, "fortran_order": False, "descr": np.lib.format.dtype_to_descr(kind)}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return len(file.getvalue()) + math.prod(shape) * kind.itemsize
