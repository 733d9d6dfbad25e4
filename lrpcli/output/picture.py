"""A photo and its relevance as one picture: overlay, heatmap, side by side or contours."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lrpcli.errors import UsageError, suggestion
from lrpcli.output.colours import Floats, colourise, lookup_table

STYLES = ("overlay", "heatmap", "side-by-side", "contour")
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the picture: the part that the model saw."""

SEEN, UNSEEN = 0.8, 0.3
"""Brightness of the photo under a map, and of what the model did not see."""
BEND = 0.75
"""Exponent of the opacity: below one, so that half the scale is more than half visible."""
FULL = 99.5
"""Percentile of the sizes in a map that gets the full colour: a handful of pixels must not darken all others."""
LEVELS = (0.2, 0.4, 0.7)
"""Shares of the scale at which contour lines run."""


@dataclass(frozen=True)
class PictureStyle:
    """How relevance becomes a picture; docs/pictures.md shows the choices and says why these are the defaults.

    `smooth` is the standard deviation of a Gaussian in per cent of the map's longer side; it touches the picture
    alone, never the map. `alpha` is the opacity of the strongest relevance. UsageError for a style or colour map that
    is not known.
    """

    style: str = "overlay"
    cmap: str = "bwr"
    alpha: float = 0.9
    smooth: float = 1.0

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            hint = suggestion(self.style, STYLES)
            raise UsageError(f"The style {self.style!r} is not known.{hint} Choose one of {', '.join(STYLES)}.")
        lookup_table(self.cmap)


def smoothed(relevance: Floats, percent: float) -> Floats:
    """Relevance (h, w) blurred by a Gaussian, see PictureStyle; the total stays the same, also at the borders."""
    sigma = percent / 100 * max(relevance.shape)
    if sigma <= 0:
        return relevance
    down, across = (_gaussian(side, sigma) for side in relevance.shape)
    blurred: Floats = (down @ relevance.astype(np.float64) @ across.T).astype(np.float32)
    return blurred


def _gaussian(side: int, sigma: float) -> NDArray[np.float64]:
    """A matrix (side, side) each of whose columns spreads one pixel over its neighbours and sums to one."""
    distance = np.arange(side)[:, None] - np.arange(side)[None, :]
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    spread: NDArray[np.float64] = weights / weights.sum(0)
    return spread


def picture_scale(relevance: Floats, style: PictureStyle) -> float:
    """The relevance per pixel of the model's grid that gets the full colour; 0 for a map of zeros.

    The 99.5th percentile of the sizes in the smoothed map (h, w), or the largest where that is zero.
    """
    sizes = np.abs(np.nan_to_num(smoothed(relevance, style.smooth)))
    return float(np.percentile(sizes, FULL)) or float(sizes.max(initial=0.0))


def draw(photo: Image.Image, relevance: Floats, box: Box, style: PictureStyle, scale: float) -> Image.Image:
    """The picture, RGB, of the photo's size (twice as wide side by side).

    `photo` is RGB at picture size; `relevance` (h, w) covers `box` of it; `scale` as picture_scale gives it.
    """
    pixels = np.asarray(photo, np.float32)
    seen = np.zeros(pixels.shape[:2], bool)
    field = np.zeros(pixels.shape[:2], np.float32)
    rows, columns = _span(box[1], box[3], photo.height), _span(box[0], box[2], photo.width)
    seen[rows, columns] = True
    field[rows, columns] = _enlarged(smoothed(relevance, style.smooth), seen[rows, columns].shape)
    drawn = DRAWERS[style.style](pixels, field, seen, style, scale)
    return Image.fromarray(np.rint(drawn).clip(0, 255).astype(np.uint8))


def _span(start: float, end: float, side: int) -> slice:
    """The whole pixels nearest to a stretch of a side, at least one."""
    first = min(max(round(start), 0), side - 1)
    return slice(first, max(min(round(end), side), first + 1))


def _enlarged(relevance: Floats, shape: tuple[int, ...]) -> Floats:
    """Relevance per pixel of the model's grid, read off between its pixels at (H, W) places."""
    grid = Image.fromarray(np.nan_to_num(relevance).astype(np.float32))
    return np.asarray(grid.resize((shape[1], shape[0]), Image.Resampling.BILINEAR), np.float32)


def _base(pixels: Floats, seen: NDArray[np.bool_]) -> Floats:
    """The photo in grey, so that none of its colours is taken for relevance; dark where the model did not look."""
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    grey *= np.where(seen, np.float32(SEEN), np.float32(UNSEEN))
    return np.repeat(grey[..., None], 3, axis=2)


def _overlay(pixels: Floats, field: Floats, seen: NDArray[np.bool_], style: PictureStyle, scale: float) -> Floats:
    """The colour says the sign, the opacity the size: pale colours of small values would only veil the photo."""
    sizes = np.clip(np.abs(field) / scale, 0, 1) if scale > 0 else np.zeros_like(field)
    opacity = (style.alpha * sizes**BEND)[..., None]
    negative, positive = lookup_table(style.cmap)[[0, -1]].astype(np.float32)
    blended: Floats = (1 - opacity) * _base(pixels, seen) + opacity * np.where(field[..., None] > 0, positive, negative)
    return blended


def _heatmap(pixels: Floats, field: Floats, seen: NDArray[np.bool_], style: PictureStyle, scale: float) -> Floats:
    coloured = colourise(field, scale, style.cmap).astype(np.float32)
    coloured[~seen] *= UNSEEN
    return coloured


def _side_by_side(pixels: Floats, field: Floats, seen: NDArray[np.bool_], style: PictureStyle, scale: float) -> Floats:
    heatmap = _heatmap(pixels, field, seen, style, scale)
    return np.concatenate([pixels, heatmap], axis=1)


def _contour(pixels: Floats, field: Floats, seen: NDArray[np.bool_], style: PictureStyle, scale: float) -> Floats:
    lines = _base(pixels, seen)
    ends = lookup_table(style.cmap)[[0, -1]].astype(np.float32)
    for sign, colour in zip((-1, 1), ends, strict=True):
        for level in LEVELS if scale > 0 else ():
            lines[_edge(sign * field >= level * scale)] = colour
    return lines


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a region that touch its outside."""
    wide = np.pad(inside, 1, mode="edge")
    return inside & ~(wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:])


DRAWERS: dict[str, Callable[[Floats, Floats, NDArray[np.bool_], PictureStyle, float], Floats]] = {
    "overlay": _overlay,
    "heatmap": _heatmap,
    "side-by-side": _side_by_side,
    "contour": _contour,
}


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as the content of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
