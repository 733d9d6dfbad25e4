"""Pictures in rows and columns on one page of matplotlib, with a title and a colour bar."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from typing import TYPE_CHECKING

from PIL import Image

from lrpcli.pictures.panels import ColourBar, Lines, colour_bar, fitted, photo_panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 3.2
"""Inches of the longer side of a picture: two and a colour bar are as wide as the text of a page."""
FINEST, COARSEST = 640, 100
"""Dots per inch at most, and at least where a whole multiple of what the pictures have allows it."""
PAGE = 30000
"""Dots of a page's longer side at most; matplotlib can draw twice as many."""
MARGIN, GAP, NARROWEST = 0.15, 0.12, 4.0
"""Inches around the page, between pictures, and of the least width of what is on it."""
BAR, BAR_ROOM, BAR_SIDE, BAR_MOST = 0.14, 1.1, 1.5, 4.0
"""Inches of a colour bar's width, of that with its numbers, and of its least and its greatest height."""
CAPTION_ROOM = 1.2
"""Inches that a picture with a caption has at least."""
TITLE, NOTE, CAPTION = 12, 9, 8
"""Points of texts."""


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet, with a line above it and up to three below."""

    picture: Image.Image
    above: str = ""
    below: str = ""


def sheet(
    rows: Sequence[Sequence[Panel | None]], *, title: str = "", note: str = "", bar: ColourBar | None = None,
    side: float = SIDE, figure: "Figure | None" = None,
) -> "Figure":  # fmt: skip
    """A white page with rows of pictures, each `side` inches long, under a title and a note; texts may be any.

    It is a new figure, or an empty one that is given, such as pyplot's, which gets its size and resolution.

    A place without a panel stays empty. At its own resolution the page holds the very pixels of the largest pictures,
    or those enlarged by a whole factor.

    >>> from PIL import Image
    >>> from lrpcli.pictures.sheet import Panel, sheet
    >>> page = sheet([[Panel(Image.new("RGB", (64, 48)), above="photo")], [Panel(Image.new("RGB", (64, 64)))]])
    >>> len(page.axes), page.dpi
    (2, 100.0)
    """
    cells = [[_Cell.of(panel, side) if panel else None for panel in row] for row in rows]
    lefts, width = _places([max(cell.width for cell in column if cell) for column in zip_longest(*cells)])
    tops, height = _places([max(cell.height for cell in line if cell) for line in cells])
    inner = max(width if bar is None else width + GAP + BAR_ROOM, NARROWEST)
    head, said = fitted(title, inner, TITLE, 3), fitted(note, inner, NOTE, 2)
    above = head.height + said.height + (GAP if head.text or said.text else 0)
    height = height if bar is None else max(height, BAR_SIDE)
    page = _page(inner, above + height, [panel.picture for row in rows for panel in row if panel], side, figure)
    page.write(head, 0, 0)
    page.write(said, 0, head.height, "0.35")
    for line, top in zip(cells, tops, strict=True):
        for cell, left in zip(line, lefts, strict=False):
            if cell:
                cell.put(page, left, above + top)
    if bar is not None:
        colour_bar(page.axes(width + GAP, above, BAR, min(height, BAR_MOST)), bar)
    return page.figure


def _places(lengths: Sequence[float]) -> tuple[list[float], float]:
    """Where things of these lengths begin, with gaps between them, and where the last one ends."""
    ends = [0.0, *accumulate(length + GAP for length in lengths)]
    return ends[:-1], ends[-1] - GAP


@dataclass(frozen=True)
class _Cell:
    """A picture with its captions, in inches: `size` is that of the picture."""

    picture: Image.Image
    size: tuple[float, float]
    above: Lines
    below: Lines

    @classmethod
    def of(cls, panel: Panel, side: float) -> "_Cell":
        longest = max(panel.picture.size)
        width, height = (side * pixels / longest for pixels in panel.picture.size)
        room = max(width, CAPTION_ROOM)
        return cls(
            panel.picture, (width, height), fitted(panel.above, room, CAPTION, 1), fitted(panel.below, room, CAPTION, 3)
        )

    @property
    def width(self) -> float:
        return max(self.size[0], CAPTION_ROOM if self.above.text or self.below.text else 0)

    @property
    def height(self) -> float:
        return self.above.height + self.size[1] + self.below.height

    def put(self, page: "_Page", left: float, top: float) -> None:
        """The picture and its captions onto a page."""
        page.write(self.above, left, top)
        photo_panel(page.axes(left, top + self.above.height, *self.size), self.picture)
        page.write(self.below, left, top + self.above.height + self.size[1])


@dataclass(frozen=True)
class _Page:
    """A figure on which places are inches from its left and upper margin."""

    figure: "Figure"

    def axes(self, left: float, top: float, width: float, height: float) -> "Axes":
        """New axes there, all their edges between two pixels."""
        dpi, (across, down) = self.figure.dpi, self.figure.get_size_inches() * self.figure.dpi
        x, y = round((left + MARGIN) * dpi), round((top + MARGIN) * dpi)
        w, h = max(round(width * dpi), 1), max(round(height * dpi), 1)
        return self.figure.add_axes((x / across, 1 - (y + h) / down, w / across, h / down))

    def write(self, lines: Lines, left: float, top: float, colour: str = "black") -> None:
        """Lines of text, each exactly as it is."""
        width, height = self.figure.get_size_inches()
        self.figure.text(
            (left + MARGIN) / width, 1 - (top + MARGIN) / height, lines.text, color=colour, fontsize=lines.size,
            verticalalignment="top", parse_math=False,
        )  # fmt: skip


def _page(width: float, height: float, pictures: Sequence[Image.Image], side: float, figure: "Figure | None") -> _Page:
    """An empty page with room for so many inches and margins around them, in whole pixels."""
    from matplotlib.figure import Figure

    width, height = width + 2 * MARGIN, height + 2 * MARGIN
    own = max(max(picture.size) for picture in pictures) / side
    dpi = min(own * math.ceil(COARSEST / own), FINEST, PAGE / max(width, height))
    inches = [(math.ceil(length * dpi) + 1e-3) / dpi for length in (width, height)]  # a trifle more, as it is cut down
    figure = Figure() if figure is None else figure
    figure.set_dpi(dpi)
    figure.set_size_inches(inches[0], inches[1])
    figure.set_facecolor("white")
    return _Page(figure)
