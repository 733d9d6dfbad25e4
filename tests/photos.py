"""Photos made on the spot, and a tiny trained-by-nobody net that Caffe itself wrote."""

from pathlib import Path

import numpy as np
from PIL import Image

TINY = str(Path(__file__).parent / "golden" / "caffenet_tiny_default.caffemodel")
"""CaffeNet's layout in small: input 3 x 32 x 32, two LRN layers, ten classes."""


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (48, 40)) -> Path:
    """A picture of coloured noise under a few smooth shapes, so that any net has something to see."""
    generator = np.random.default_rng(seed)
    small = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    small.resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def folder_of_photos(folder: Path, count: int = 5) -> Path:
    """A folder with photos in two levels."""
    for number in range(count):
        photo(folder / ("cats" if number % 2 else ".") / f"{number}.png", number)
    return folder
