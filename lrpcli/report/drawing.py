"""Small pictures for the page, drawn in processes of their own: what the files hold may hang or kill a decoder."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lrpcli.errors import ImageError, UsageError
from lrpcli.images.decode import decode
from lrpcli.images.formats import DecodePolicy
from lrpcli.pictures.picture import draw, picture_scale
from lrpcli.pictures.style import PictureStyle
from lrpcli.records.json_values import Fields
from lrpcli.records.map_values import load_array, restored, stored_shape
from lrpcli.records.packed import StoredFile
from lrpcli.report.rows import ReportedRun

QUALITY = {"quality": 75, "method": 1}
MOST_VALUES = 1 << 26
"""Values in a map that is drawn; one of a larger photo has no small picture."""
POLICY = DecodePolicy(truncated="accept")
"""Whether a photo is damaged was the business of the run that explained it."""
PLAIN = PictureStyle(style="heatmap")
File = str | StoredFile
"""A file by its path, or wherever a run has put it."""


@dataclass(frozen=True)
class MapLook:
    """How a map is drawn: its style, and the relevance per value that gets the full colour, None for its own."""

    style: PictureStyle
    scale: float | None


def picture_style(run: ReportedRun) -> PictureStyle:
    """The style of heatmaps in a run's own colours, or the usual one where its description does not hold one."""
    if run.description is None:
        return PLAIN
    try:
        values = Fields(run.description.settings).inner("output").inner("picture")
        return replace(PLAIN, cmap=values.text("cmap"), smooth=min(max(values.number("smooth"), 0), 50))
    except (ValueError, UsageError):
        return PLAIN


def small_picture(file: File, side: int) -> bytes:
    """The picture or photo in a file, small, as WEBP. ImageError if it cannot be decoded."""
    picture = decode(_opened(file), POLICY)
    picture.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return _webp(picture)


def _opened(file: File) -> str | io.BytesIO:
    """What is read of a file: its path, or the content of a member of a tar."""
    if isinstance(file, str):
        return file
    return io.BytesIO(file.read()) if file.tar else file.container


def small_map(file: File, look: MapLook, side: int) -> bytes:
    """The heatmap of a .npy file, small, as WEBP. ImageError if that does not hold a map."""
    return heatmap(read_map(file), look, side)


def heatmap(relevance: NDArray[np.float32], look: MapLook, side: int) -> bytes:
    """A map (h, w) in colours as WEBP, its longer side `side` pixels long."""
    height, width = relevance.shape
    stretch = side / max(height, width)
    size = (max(1, round(width * stretch)), max(1, round(height * stretch)))
    scale = picture_scale(relevance, look.style) if look.scale is None else look.scale
    ground = Image.new("RGB", size, "white")
    return _webp(draw(ground, relevance, (0, 0, *size), look.style, scale))


def mean_heatmap(files: Sequence[File], look: MapLook, side: int) -> bytes:
    """The mean of maps of one shape in colours, its scale its own. ImageError if one cannot be read, or differs."""
    return heatmap(mean_map(files), look, side)


def mean_map(files: Sequence[File]) -> NDArray[np.float32]:
    """The mean (h, w) of the maps in .npy files, summed in float64."""
    total: NDArray[np.float64] | None = None
    for file in files:
        relevance = read_map(file)
        if total is not None and total.shape != relevance.shape:
            raise ImageError("unsupported", "The maps have several sizes, so that they have no mean.")
        total = relevance.astype(np.float64) if total is None else total + relevance
    if total is None:
        raise ImageError("io", "There is no map.")
    return (total / len(files)).astype(np.float32)


def read_map(file: File) -> NDArray[np.float32]:
    """The relevance (h, w) in a .npy file, channels summed; ImageError if it holds anything else."""
    try:
        stored = load_array(_opened(file))  # a file that is too short is refused, not allocated
        if len(stored_shape(stored)) not in (2, 3):
            raise ValueError("it does not hold a map")
        if not 0 < math.prod(stored_shape(stored)) <= MOST_VALUES:
            raise ValueError("it is empty or too large")
        relevance = restored(stored)
        summed = relevance if relevance.ndim == 2 else relevance.sum(0, dtype=np.float64)
        return np.nan_to_num(np.asarray(summed, np.float32), posinf=0.0, neginf=0.0)
    except ValueError as error:
        shown = file if isinstance(file, str) else file.shown
        raise ImageError("decode", f"The map {Path(shown).name!r} cannot be read: {error}.") from error


def _webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", **QUALITY)
    return buffer.getvalue()
