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
def _tables() -> Bytes:
    """The colours of all maps (maps, 2 STEPS + 1, 3): an odd number, as matplotlib's own tables have none for zero."""
    with Image.open(TABLES) as picture:
        tables: Bytes = np.asarray(picture)
    return tables


def colour_index(values: Floats, scale: float) -> NDArray[np.intp]:
    """Index into a lookup table for relevance of any shape; beyond +-scale the end colours. Scale 0: all neutral."""
    if scale <= 0:
        return np.full(values.shape, STEPS, np.intp)
    shares = np.clip(np.nan_to_num(values / np.float32(scale)), -1.0, 1.0)
    index: NDArray[np.intp] = np.rint(shares * STEPS).astype(np.intp) + STEPS
    return index
