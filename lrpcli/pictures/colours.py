"""Relevance as colour: diverging maps whose middle, zero, is neutral, as lookup tables."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lrpcli.errors import UsageError, suggestion

DIVERGING = (
    "seismic", "bwr", "coolwarm", "RdBu", "RdGy", "RdYlBu", "PiYG", "PRGn", "BrBG", "PuOr", "Spectral",
    "berlin", "managua", "vanimo",
)  # fmt: skip
"""matplotlib's diverging colour maps; "_r" behind a name turns it round."""
TABLES = Path(__file__).with_name("diverging.png")
"""Their colours, a row of pixels each: matplotlib itself takes a second to load and wants a folder to write into."""
STEPS = 255
"""Colours on each side of zero; index STEPS of a table is zero itself."""

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Shares of linear red, green and blue in the lightness of a colour."""
LEAST = 0.63 * float(_LUMINANCE[0])
"""Of pure red's luminance: a colour with less vanishes on dark photos, and one with more is pale on grey ones."""

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@cache
def lookup_table(name: str) -> Bytes:
    """RGB colours (2 STEPS + 1, 3), from most negative to most positive. UsageError for a map that is not diverging."""
    plain = name.removesuffix("_r")
    if plain not in DIVERGING:
        raise UsageError(
            f"The colour map {name!r} is not known as a diverging one, whose middle is neutral."
            f"{suggestion(name, DIVERGING)} Choose one of {', '.join(DIVERGING)}, or one of them with '_r' behind it."
        )
    table: Bytes = _tables()[DIVERGING.index(plain)]
    return table if plain == name else table[::-1]


@cache
def end_colours(name: str) -> Bytes:
    """RGB colours (2, 3) of the strongest negative and positive relevance on a photo, which is dark in some places.

    Those of the lookup table, but made nearly as bright as pure red where they are darker: bwr's blue is lighter here.

    >>> from lrpcli.pictures.colours import end_colours
    >>> end_colours("bwr").tolist()
    [[20, 82, 255], [255, 0, 0]]
    """
    return np.stack([_brightened(colour) for colour in lookup_table(name)[[0, -1]]])


_TO_LMS = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
"""Linear RGB to the receptors of OKLab, a space in which blue mixed with white stays blue, and does not turn violet."""


def _brightened(colour: Bytes) -> Bytes:
    """A colour with more light of its own, and with as much white as is needed beyond that, to a luminance of LEAST."""
    linear = _linear(colour)
    if linear @ _LUMINANCE >= LEAST:
        return colour
    linear = linear * min(LEAST / (linear @ _LUMINANCE), 1 / linear.max())
    white = np.linspace(0, 1, 1001)[:, None]
    roots = (1 - white) * np.cbrt(_TO_LMS @ linear) + white  # OKLab is a linear map of these
    mixed = np.clip(roots**3 @ np.linalg.inv(_TO_LMS).T, 0, 1)
    return _encoded(mixed[np.argmax(mixed @ _LUMINANCE >= LEAST - 1e-6)])


def _linear(colour: Bytes) -> NDArray[np.float64]:
    """sRGB 0..255 as shares of light."""
    shares = colour / 255.0
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def _encoded(linear: NDArray[np.float64]) -> Bytes:
    """Shares of light as sRGB 0..255."""
    shares = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    encoded: Bytes = np.rint(255 * shares).astype(np.uint8)
    return encoded


@cache
def _tables() -> Bytes:
    """The colours of all maps (maps, 2 STEPS + 1, 3): an odd number, as matplotlib's own tables have none for zero."""
    with Image.open(TABLES) as picture:
        tables: Bytes = np.asarray(picture)
    return tables


def colour_index(values: Floats, scale: float) -> NDArray[np.intp]:
    """Index into a lookup table for relevance of any shape; beyond +-scale the end colours. Scale 0: all neutral."""
    if scale <= 0:
        return np.full(values.shape, STEPS, np.intp)
    with np.errstate(all="ignore"):  # a scale far below the values
        shares = np.clip(np.nan_to_num(values / np.float32(scale)), -1.0, 1.0)
    index: NDArray[np.intp] = np.rint(shares * STEPS).astype(np.intp) + STEPS
    return index
