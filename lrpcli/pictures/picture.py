"""A photo and its relevance as one picture: overlay, heatmap, photo and overlay side by side, or contours."""

from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lrpcli.pictures.colours import STEPS, Floats, colour_index, end_colours, lookup_table
from lrpcli.pictures.style import CROP, PLAIN, SIDE_BY_SIDE, PictureStyle

Packed = NDArray[np.uint32]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the picture: what the model saw, and where it saw more than the photo, that."""

SEEN, UNSEEN = 0.8, 0.3
"""Brightness of the photo under a map, and of what the model did not see."""
SHADE = 0.82
"""What the model did not see, in a heatmap: brightness of a light zero, or darkness of a dark one."""
BEND = 0.75
"""Exponent of the opacity: below one, so that half the scale is more than half visible."""
FULL = 99.5
"""Percentile of the sizes in a map that gets the full colour: a handful of pixels must not darken all others."""
UNSEEN_INDEX = 2 * STEPS + 1
"""Where a colour index (see colours.colour_index) goes on: what the model did not see."""
GROUNDS = [0, 32, 64, 96, 128, 160, 191, 223, 255]
"""Grey of the grounds that a colour bar shows."""
LEVELS = (0.2, 0.4, 0.7)
"""Shares of the scale at which contour lines run."""


def smoothed(relevance: Floats, percent: float) -> Floats:
    """Relevance (h, w) blurred by a Gaussian, see PictureStyle; the total stays the same, also at the borders."""
    sigma = percent / 100 * max(relevance.shape)
    if sigma <= 0:
        return relevance
    down, across = (_gaussian(side, sigma) for side in relevance.shape)
    blurred: Floats = down @ relevance.astype(np.float32) @ across.T
    return blurred


@lru_cache(16)
def _gaussian(side: int, sigma: float) -> Floats:
    """A matrix (side, side) each of whose columns spreads one pixel over its neighbours and sums to one."""
    distance = np.arange(side)[:, None] - np.arange(side)[None, :]
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    spread: Floats = (weights / weights.sum(0)).astype(np.float32)
    return spread


def picture_scale(relevance: Floats, style: PictureStyle) -> float:
    """The relevance per pixel of the model's grid that gets the full colour; 0 for a map of zeros.

    The 99.5th percentile of the sizes in the smoothed map (h, w), or the largest where that is zero.
    """
    sizes = np.abs(np.nan_to_num(smoothed(relevance, style.smooth)))
    return float(np.percentile(sizes, FULL)) or float(sizes.max(initial=0.0))


def draw(photo: Image.Image, relevance: Floats, box: Box, style: PictureStyle, scale: float) -> Image.Image:
    """The picture, RGB, of the photo's size (twice as wide side by side); of a figure, that of its overlay.

    `photo` is RGB at picture size; `relevance` (h, w) covers `box` of it; `scale` as picture_scale gives it. Where
    what lies outside the box is cropped, the picture is that much smaller than the photo.
    """
    if style.outside == CROP:
        photo, box = cropped(photo, box)
    columns, rows = spans(box, photo.size)
    index = np.full((photo.height, photo.width), UNSEEN_INDEX, np.intp)
    field = _enlarged(smoothed(relevance, style.smooth), index[rows, columns].shape, _cells(box, photo.size, relevance))
    index[rows, columns] = colour_index(field, scale)
    drawn = DRAWERS[style.style](photo, index, style)
    if style.outside == PLAIN:
        seen = (columns.start, rows.start, columns.stop, rows.stop)
        drawn, inner = photo.copy(), drawn.crop(seen)
        drawn.paste(inner, seen)
    return beside(photo, drawn) if style.style == SIDE_BY_SIDE else drawn


def cropped(photo: Image.Image, box: Box) -> tuple[Image.Image, Box]:
    """The part of a photo that lies in a box, to whole pixels, and the box in pixels of that part.

    >>> from PIL import Image
    >>> from lrpcli.pictures.picture import cropped
    >>> part, box = cropped(Image.new("RGB", (60, 40)), (10.25, -5.0, 50.0, 45.0))
    >>> part.size, box
    ((40, 40), (0.25, -5.0, 40.0, 45.0))
    """
    columns, rows = spans(box, photo.size)
    left, top = columns.start, rows.start
    part = photo.crop((left, top, columns.stop, rows.stop))
    return part, (box[0] - left, box[1] - top, box[2] - left, box[3] - top)


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures of one height as one."""
    both = Image.new("RGB", (left.width + right.width, left.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    return both


def spans(box: Box, size: tuple[int, int]) -> tuple[slice, slice]:
    """The columns and the rows of a picture (W, H) that lie in a box."""
    return _span(box[0], box[2], size[0]), _span(box[1], box[3], size[1])


def _span(start: float, end: float, side: int) -> slice:
    """The whole pixels nearest to a stretch of a side, at least one."""
    first = min(max(round(start), 0), side - 1)
    return slice(first, max(min(round(end), side), first + 1))


def _cells(box: Box, size: tuple[int, int], relevance: Floats) -> Box:
    """The part of a map that lies on the picture (W, H), in pixels of the map: all of it, but for what was put around.

    Edges that are off by rounding only count as those of the map.
    """
    (left, top, right, bottom), (rows, columns) = box, relevance.shape
    x = [round((edge - left) / (right - left) * columns, 3) for edge in (max(left, 0), min(right, size[0]))]
    y = [round((edge - top) / (bottom - top) * rows, 3) for edge in (max(top, 0), min(bottom, size[1]))]
    return x[0], y[0], x[1], y[1]


def _enlarged(relevance: Floats, shape: tuple[int, ...], cells: Box) -> Floats:
    """Relevance per pixel in a part of the model's grid, read off between its pixels at (H, W) places."""
    grid = Image.fromarray(np.nan_to_num(relevance).astype(np.float32))
    return np.asarray(grid.resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=cells), np.float32)


@cache
def _overlay_table(cmap: str, alpha: float) -> Packed:
    """Colours (2 STEPS + 2, 256) by index and grey: what relevance makes of the photo.

    The photo is grey, so that none of its colours is taken for relevance, and dark where the model did not look. The
    colour says the sign, the opacity the size: pale colours of small values would only veil the photo.
    """
    shares = np.arange(-STEPS, STEPS + 1) / STEPS
    opacity = (alpha * np.abs(shares) ** BEND)[:, None, None]
    negative, positive = end_colours(cmap).astype(np.float64)
    colours = np.where(shares[:, None] > 0, positive, negative)[:, None, :]
    grey = np.arange(256.0)[None, :, None].repeat(3, axis=2)
    return _packed(np.concatenate([(1 - opacity) * SEEN * grey + opacity * colours, UNSEEN * grey]))


@cache
def _heatmap_table(cmap: str) -> Packed:
    """Colours (2 STEPS + 2) by index; what the model did not see is a shade of zero: of white, a light grey."""
    colours = lookup_table(cmap).astype(np.float64)
    zero = colours[STEPS : STEPS + 1]
    return _packed(np.concatenate([colours, SHADE * zero if zero.mean() > 127 else 255 - SHADE * (255 - zero)]))


def bar_colours(style: PictureStyle) -> NDArray[np.uint8]:
    """RGB colours (2 STEPS + 1, W, 3) of a colour bar, the most positive relevance on top.

    W is 1 for a heatmap; else 9 kinds of ground from black to white, as what relevance makes of a photo depends on it.

    >>> from lrpcli.pictures.picture import bar_colours
    >>> from lrpcli.pictures.style import PictureStyle
    >>> bar_colours(PictureStyle(style="heatmap"))[[0, 255, -1], 0].tolist()
    [[255, 0, 0], [255, 255, 255], [0, 0, 255]]
    """
    if style.style == "heatmap":
        return lookup_table(style.cmap)[::-1, None]
    table = np.ascontiguousarray(_overlay_table(style.cmap, style.alpha)[2 * STEPS :: -1, GROUNDS])
    return table.view(np.uint8).reshape(*table.shape, 4)[..., :3]


def _packed(colours: NDArray[np.float64]) -> Packed:
    """RGB colours (..., 3) as one number each (...), which is looked up faster than three."""
    words = np.zeros((*colours.shape[:-1], 4), np.uint8)
    words[..., :3] = np.rint(colours).clip(0, 255)
    packed: Packed = words.view(np.uint32)[..., 0]
    return packed


def _unpacked(packed: Packed) -> Image.Image:
    """The picture (H, W) of packed colours."""
    height, width = packed.shape
    return Image.frombytes("RGB", (width, height), packed.tobytes(), "raw", "RGBX")


def _overlay(photo: Image.Image, index: NDArray[np.intp], style: PictureStyle) -> Image.Image:
    table = _overlay_table(style.cmap, style.alpha)
    return _unpacked(table.ravel().take(index * 256 + np.asarray(photo.convert("L"))))


def _heatmap(photo: Image.Image, index: NDArray[np.intp], style: PictureStyle) -> Image.Image:
    return _unpacked(_heatmap_table(style.cmap).take(index))


def _contour(photo: Image.Image, index: NDArray[np.intp], style: PictureStyle) -> Image.Image:
    seen = index != UNSEEN_INDEX
    lines = np.array(_overlay(photo, np.where(seen, STEPS, UNSEEN_INDEX), style))
    shares = np.where(seen, index - STEPS, 0)
    for sign, colour in zip((-1, 1), end_colours(style.cmap), strict=True):
        for level in LEVELS:
            lines[_edge(sign * shares >= level * STEPS)] = colour
    return Image.fromarray(lines)


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a region that touch its outside."""
    wide = np.pad(inside, 1, mode="edge")
    return inside & ~(wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:])


Drawer = Callable[[Image.Image, NDArray[np.intp], PictureStyle], Image.Image]
DRAWERS: dict[str, Drawer] = {
    "overlay": _overlay,
    "heatmap": _heatmap,
    "side-by-side": _overlay,
    "contour": _contour,
    "figure": _overlay,
}
"""What each of style.STYLES makes of a photo: photo, colour index (H, W) and style in, the picture out."""
