"""Does the relevance lie on the object? Pointing game and shares of relevance inside given boxes or masks."""

import csv
import hashlib
import io
import math
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrpcli.errors import UsageError
from lrpcli.images.placement import Placement
from lrpcli.pictures.picture import smoothed
from lrpcli.small_files import UnusableFile, read_small
from lrpcli.text_files import decode_text

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the upright photo."""

SIDES = ("x1", "y1", "x2", "y2")
MOST = 1 << 28
"""Bytes of a file of boxes."""
SMOOTH = 2.0
"""Gaussian under which the largest relevance is looked for: per cent of the map's longer side (4.5 pixels at 224)."""


@dataclass(frozen=True)
class Boxes:
    """Boxes by the last part of their file's name; an image may have several. `sha256` is that of the file."""

    by_name: dict[str, list[tuple[str, Box]]]
    sha256: str

    def of(self, path: str) -> list[Box]:
        """The boxes of an image: those whose file is its path or the end of it, from a "/" on."""
        whole = "/" + posixpath.normpath(path).lstrip("/")
        entries = self.by_name.get(posixpath.basename(path), [])
        return [box for file, box in entries if whole.endswith("/" + file)]

    def require_any(self, paths: Iterable[str], source: str) -> None:
        """UsageError if no image at all has a box."""
        if not any(self.of(path) for path in paths):
            raise UsageError(
                f"None of the images is named in {source!r}. Its column 'file' must hold their names, or the ends of "
                "their paths."
            )


def read_boxes(path: str) -> Boxes:
    """Boxes from a CSV file with the columns file, x1, y1, x2, y2; UsageError says what is wrong with it.

    A column may have more behind its name, such as x1_224; other columns do not count.
    """
    try:
        data = read_small(path, MOST)
        reader = csv.DictReader(io.StringIO(decode_text(data), newline=""))
        columns = _columns(reader.fieldnames or (), path)
        by_name: dict[str, list[tuple[str, Box]]] = {}
        for row in reader:
            file = posixpath.normpath(row["file"] or "").lstrip("/")
            by_name.setdefault(posixpath.basename(file), []).append(
                (file, _box([row[column] for column in columns], f"line {reader.line_num} of {path!r}"))
            )
    except UnusableFile as error:
        raise UsageError(f"The boxes {path!r} {error}.") from error
    except (ValueError, csv.Error) as error:
        raise UsageError(f"The boxes {path!r} are no CSV file: {error}.") from error
    return Boxes(by_name, hashlib.sha256(data).hexdigest())


def _columns(names: Sequence[str], path: str) -> list[str]:
    found = [[name for name in names if name == side or name.startswith(f"{side}_")] for side in SIDES]
    if "file" not in names or not all(found):
        raise UsageError(
            f"The boxes {path!r} need the columns file, x1, y1, x2 and y2 (or such as x1_224); there are: "
            f"{', '.join(names)}."
        )
    if names.count("file") > 1 or any(len(fitting) > 1 for fitting in found):
        raise UsageError(
            f"The boxes {path!r} have several columns that could be file, x1, y1, x2 or y2. Keep one of each."
        )
    return [fitting[0] for fitting in found]


def _box(texts: Sequence[str | None], where: str) -> Box:
    try:
        left, top, right, bottom = (float(text or "") for text in texts)
    except ValueError as error:
        raise UsageError(f"In {where} the box {', '.join(map(str, texts))} is not four numbers.") from error
    if not (math.isfinite(left + top + right + bottom) and left < right and top < bottom):
        raise UsageError(
            f"In {where} the box {left:g}, {top:g}, {right:g}, {bottom:g} is not left, top, right, bottom."
        )
    return left, top, right, bottom


def inside_boxes(boxes: Sequence[Box], placement: Placement) -> NDArray[np.bool_]:
    """(h, w): which pixels of the model's grid have their centre in any of the boxes."""
    y, x = placement.centres
    inside = np.zeros(placement.size, bool)
    for x1, y1, x2, y2 in boxes:
        inside |= ((y >= y1) & (y < y2))[:, None] & ((x >= x1) & (x < x2))
    return inside


def points_inside(scores: NDArray[np.float32], inside: NDArray[np.bool_]) -> bool:
    """Pointing game: whether the largest value of the smoothed map (h, w) lies inside; no tolerance.

    A map without a positive value points nowhere.
    """
    smooth = smoothed(scores, SMOOTH)
    return bool(smooth.max() > 0 and inside.flat[smooth.argmax()])


def share_inside(scores: NDArray[np.float32], inside: NDArray[np.bool_]) -> float | None:
    """Share of the positive part of a map (h, w) that lies inside; None where nothing is positive."""
    positive = np.maximum(scores, 0).astype(np.float64)
    total = positive.sum()
    return float(positive[inside].sum() / total) if total > 0 else None


def rank_inside(scores: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """Share of the K largest values of a map (h, w) that lie inside, K being how many pixels are inside.

    Arras et al. 2022 (relevance rank accuracy). Equal values at the K-th place count by their mean, as if they were
    drawn. A map without a positive value has 0: nothing in it is relevant. ValueError if nothing is inside.
    """
    count = int(inside.sum())
    if count == 0:
        raise ValueError("No pixel is inside, so there is no K.")
    if not scores.max() > 0:
        return 0.0
    last = np.partition(scores, scores.size - count, axis=None)[scores.size - count]
    above, equal = scores > last, scores == last
    drawn = (count - int(above.sum())) * float(inside[equal].mean())
    return (int(inside[above].sum()) + drawn) / count
