"""What figures are made of, each onto given axes of matplotlib: a photo, a map on its photo, a colour bar; and text."""

import textwrap
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lrpcli.pictures.colours import Floats
from lrpcli.pictures.picture import Box, bar_colours, draw
from lrpcli.pictures.style import PictureStyle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR_TEXT = 8
"""Points of the numbers beside a colour bar; what they measure is as large."""
EM = 0.6
"""Width of a usual character in units of its height."""
LONGEST = 400
"""Characters of a text that are looked at."""


@dataclass(frozen=True)
class ColourBar:
    """What colours mean: those of a style, the relevance that gets the full colour, and what it is measured in.

    `scale` is None where each map has its own, which then stands elsewhere.
    """

    style: PictureStyle
    scale: float | None
    unit: str = "logits"


def photo_panel(axes: "Axes", photo: Image.Image) -> None:
    """Shows a picture on axes that are nothing but it: each pixel as it is, a square, without ticks and frame."""
    axes.imshow(np.asarray(photo.convert("RGB")), interpolation="none", aspect="equal")
    axes.set_axis_off()


def map_panel(axes: "Axes", photo: Image.Image, relevance: Floats, box: Box, style: PictureStyle, scale: float) -> None:
    """Shows a map (h, w), drawn on its photo, on axes; all else as in picture.draw.

    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from PIL import Image
    >>> from lrpcli.pictures.panels import ColourBar, colour_bar, map_panel
    >>> from lrpcli.pictures.style import PictureStyle
    >>> left, right = Figure().subplots(1, 2, width_ratios=(20, 1))
    >>> relevance = np.ones((8, 8), np.float32)
    >>> map_panel(left, Image.new("RGB", (64, 64)), relevance, (0, 0, 64, 64), PictureStyle(), scale=1.0)
    >>> colour_bar(right, ColourBar(PictureStyle(), 1.0, "logits"))
    >>> [label.get_text() for label in right.get_yticklabels()]
    ['\N{LESS-THAN OR EQUAL TO} \N{MINUS SIGN}1', '0', '\N{GREATER-THAN OR EQUAL TO} 1']
    """
    photo_panel(axes, draw(photo, relevance, box, style, scale))


def colour_bar(axes: "Axes", bar: ColourBar) -> None:
    """Makes axes a vertical colour bar, with what the colours mean on its right.

    Over photos it goes across from dark ground to light, as colours are laid over the photo there.
    """
    axes.imshow(bar_colours(bar.style), interpolation="none", aspect="auto", extent=(0, 1, -1, 1))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_yticks([0] if bar.scale == 0 else [-1, 0, 1], _ticks(bar.scale))
    axes.tick_params(labelsize=BAR_TEXT, length=2, pad=2)
    axes.yaxis.set_label_position("right")
    axes.set_ylabel(f"relevance per input pixel\n({plain(bar.unit)})", fontsize=BAR_TEXT, parse_math=False)
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)


def _ticks(scale: float | None) -> list[str]:
    """What stands at -scale, 0 and scale, and more than that has the same colour; of a scale of 0, at 0 alone."""
    if scale is None:
        return ["against", "0", "for"]
    if scale == 0:
        return ["0"]
    return [f"\N{LESS-THAN OR EQUAL TO} \N{MINUS SIGN}{scale:.2g}", "0", f"\N{GREATER-THAN OR EQUAL TO} {scale:.2g}"]


def plain(text: str) -> str:
    r"""Any text in one line, without what is no character to be seen; what was no text becomes U+FFFD.

    >>> from lrpcli.pictures.panels import plain
    >>> plain("tabby,\n tabby\u202e cat"), plain("caf\udce9 \x07")
    ('tabby, tabby cat', 'caf\ufffd \ufffd')
    """
    seen = (letter for letter in " ".join(text.split()) if unicodedata.category(letter) != "Cf")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in seen)


@dataclass(frozen=True)
class Lines:
    """Text as it fits: the lines, and their size in points."""

    text: str
    size: float

    @property
    def height(self) -> float:
        """In inches; 0 without any."""
        return (self.text.count("\n") + 1) * 1.25 * self.size / 72 if self.text else 0.0


def fitted(text: str, width: float, size: float, most: int) -> Lines:
    r"""A text in at most so many lines of `width` inches; smaller where one is wider still, cut off where it is long.

    >>> from lrpcli.pictures.panels import fitted
    >>> fitted("a long name, and another", width=1.0, size=10, most=2)
    Lines(text='a long name,\nand another', size=10)
    """
    room = max(8, int(width * 72 / (EM * size)))
    lines = textwrap.wrap(plain(text)[:LONGEST], room, max_lines=most, placeholder=" ...")
    widest = max((_width(line, size) for line in lines), default=0.0)
    return Lines("\n".join(lines), size if widest <= width else size * width / widest)


def _width(line: str, size: float) -> float:
    """Inches of a line of text."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    width, _, _ = text_to_path.get_text_width_height_descent(line, FontProperties(size=size), ismath=False)
    return float(width) / 72
