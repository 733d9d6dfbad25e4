"""Figures for papers and slides: photo, overlay, colour bar and title, as pixels, PDF or SVG.

A figure is one of matplotlib, and can be changed like any other before `figure_bytes` makes a file of it. matplotlib is
imported once one is made, and pyplot never. Figures of other pictures are made by sheet.sheet, and what stands in them
by panels.photo_panel, map_panel and colour_bar.
"""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from lrpcli.pictures.colours import Floats
from lrpcli.pictures.encode import VECTOR, picture_bytes
from lrpcli.pictures.panels import ColourBar
from lrpcli.pictures.picture import Box, cropped, draw
from lrpcli.pictures.sheet import Panel, sheet
from lrpcli.pictures.style import CROP, FIGURE, PictureStyle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNITS = {
    "logit": "logits",
    "one": "parts of 1",
    "probability": "parts of the probability",
    "softmax-gradient": "parts of the softmax's gradient",
    "contrastive": "logits, contrastive",
    "contrastive-positive": "logits, contrastive, positive part",
}
"""What relevance is measured in, by what the backward pass starts from."""
FLAT = 2
"""Widths of photos in units of their height up to which the overlay stands beside them, and below them beyond."""
LOCK = threading.RLock()
METADATA = {
    "pdf": dict.fromkeys(("Creator", "Producer", "CreationDate")),
    "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
}
"""What matplotlib would write into files of itself: nothing."""


@contextmanager
def own_style() -> Iterator[None]:
    """While entered, matplotlib has its own defaults, and makes files that are the same each time.

    One thread at a time: matplotlib's settings are those of the process. Letters that its font lacks become boxes.
    """
    import matplotlib

    with LOCK, warnings.catch_warnings(), matplotlib.rc_context():
        warnings.simplefilter("ignore")  # of missing letters, and of what other versions of its packages will do
        matplotlib.rcdefaults()
        matplotlib.rc("pdf", fonttype=42)  # fonts embedded as they are: text stays text
        matplotlib.rc("svg", fonttype="none", hashsalt="lrp")  # text stays text; the same names each time
        yield


def explanation_figure(
    photo: Image.Image, relevance: Floats, box: Box, style: PictureStyle, scale: float,
    *, label: str, score: float, kept: float | None = None, start: str = "logit", figure: "Figure | None" = None,
) -> "Figure":  # fmt: skip
    """Photo, overlay and colour bar under the class, its score and the share of that which reached the pixels.

    The first arguments are those of picture.draw; `start` names what the backward pass began with. `label` is any text.
    `figure` is an empty one to draw into, see sheet.

    >>> import numpy as np
    >>> from PIL import Image
    >>> from lrpcli.pictures.figure import explanation_figure, figure_bytes, own_style
    >>> from lrpcli.pictures.style import PictureStyle
    >>> photo, relevance = Image.new("RGB", (64, 64)), np.ones((8, 8), np.float32)
    >>> with own_style():
    ...     figure = explanation_figure(photo, relevance, (0, 0, 64, 64), PictureStyle(), 1.0, label="cat", score=0.9)
    ...     pdf = figure_bytes(figure, "pdf")
    >>> pdf[:5]
    b'%PDF-'
    """
    if style.outside == CROP:
        photo, box = cropped(photo, box)
    overlay = draw(photo, relevance, box, replace(style, style=FIGURE), scale)
    bar = ColourBar(replace(style, style=FIGURE), scale, UNITS.get(start, start))
    panels = [Panel(photo), Panel(overlay)]
    rows = [panels] if photo.width <= FLAT * photo.height else [[panel] for panel in panels]
    return sheet(rows, title=label, note=score_in_words(score, kept), bar=bar, figure=figure)


def score_in_words(score: float, kept: float | None) -> str:
    """Score and kept share for people.

    >>> from lrpcli.pictures.figure import score_in_words
    >>> score_in_words(0.931, 0.9), score_in_words(0.931, None)
    ('score 93 %, kept 90 %', 'score 93 %')
    """
    return f"score {100 * score:.0f} %" + ("" if kept is None else f", kept {100 * kept:.0f} %")


def figure_bytes(figure: "Figure", picture_format: str = "png", quality: int | None = None) -> bytes:
    """A figure as the content of a file, at its own resolution; PDF and SVG hold its pictures as they are, and text.

    With nothing in it that is not to be seen: no date, no program. Inside own_style it is the same each time.
    """
    buffer = io.BytesIO()
    if picture_format in VECTOR:
        figure.savefig(buffer, format=picture_format, metadata=METADATA[picture_format])
        return buffer.getvalue()
    figure.savefig(buffer, format="rgba", dpi=figure.dpi)
    size = (int(figure.bbox.width), int(figure.bbox.height))
    return picture_bytes(Image.frombytes("RGBA", size, buffer.getvalue()).convert("RGB"), picture_format, quality)
