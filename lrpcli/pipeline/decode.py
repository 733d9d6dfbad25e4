"""One image on its way in: decoded, turned into model input, and kept at picture size."""

import io
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lrpcli.images.decode import DecodePolicy, decode
from lrpcli.images.find import Source
from lrpcli.images.placement import Placement
from lrpcli.images.preprocess import Preprocessing
from lrpcli.paths import is_url
from lrpcli.pictures.picture import Box, cropped
from lrpcli.records.identity import Unchanged, hash_bytes

ENLARGED = 2048
"""Pixels of the longer side up to which photos are enlarged, however large pictures may be."""
BYTES_PER_PIXEL = 64
"""More than any decoder, conversion and picture takes at once: the greediest, WEBP and grey with alpha, take 26."""
BYTES_PER_IMAGE = 1 << 30
"""For the encoded file, which some decoders hold in memory, and for all that does not grow with the pixels."""


@dataclass
class Prepared:
    """What is kept of an image while it waits for its turn: never the photo at full size.

    `pixels` is the model's input (C, h, w), `photo` an RGB picture at picture size (None if no picture is wanted),
    `box` the part of that picture which the model sees, `note` what the decoder printed about it, `content` the hash of
    the image's bytes, None where the file changed meanwhile.
    """

    source: Source
    pixels: NDArray[np.float32]
    placement: Placement
    photo: Image.Image | None
    box: Box
    seconds: float = 0.0
    note: str = ""
    content: str | None = None


@dataclass(frozen=True)
class Preparation:
    """Decodes and preprocesses; plain data, so that it can be sent to another process.

    `overlay_size` is the longest side of a picture, or None for the model's own grid; `pictures`: whether any is drawn,
    and `crop`: of nothing but what the model saw.
    """

    decode: DecodePolicy
    preprocessing: Preprocessing
    overlay_size: int | None
    pictures: bool
    crop: bool = False

    def memory(self, content: int = 0) -> int:
        """Bytes that a decoding process may use for an image, whose file comes in `content` bytes if not by its path.

        What needs more is too large, whatever its header says.
        """
        return BYTES_PER_IMAGE + BYTES_PER_PIXEL * self.decode.max_pixels + 4 * content

    def __call__(self, source: Source, content: bytes | None = None) -> Prepared:
        """The image at the source's path, or in `content`. Raises ImageError if it cannot be used."""
        started = time.perf_counter()
        content_hash = Unchanged(source.path).hash if content is None else partial(hash_bytes, content)
        what = f"The image {source.path!r}" if is_url(source.path) else "The image on standard input"
        image = decode(source.path if content is None else io.BytesIO(content), self.decode, what)
        prepared = self.of(source, image)
        prepared.content = content_hash()
        prepared.seconds = time.perf_counter() - started
        return prepared

    def of(self, source: Source, image: Image.Image) -> Prepared:
        """An image that is decoded already: upright, in mode RGB."""
        started = time.perf_counter()
        pixels, placement = self.preprocessing.apply(image)
        photo, box = self._picture(image, placement) if self.pictures else (None, placement.box)
        prepared = Prepared(source, pixels, placement, photo, box, time.perf_counter() - started)
        return self.completed(prepared, image)

    def completed(self, prepared: Prepared, image: Image.Image) -> Prepared:
        """What else is kept of an image, which is at its full size here."""
        return prepared

    def _picture(self, image: Image.Image, placement: Placement) -> tuple[Image.Image, Box]:
        """The photo at picture size, and the model's part of it."""
        if self.overlay_size is None:
            height, width = placement.size
            return _on_grid(image, placement), (0, 0, width, height)
        image, (left, top, right, bottom) = cropped(image, placement.box) if self.crop else (image, placement.box)
        photo = at_size(image, self.overlay_size)
        across, down = photo.width / image.width, photo.height / image.height
        return photo, (left * across, top * down, right * across, bottom * down)


def at_size(photo: Image.Image, longest: int) -> Image.Image:
    """A photo whose longer side has at most so many pixels, which is also what a small one is enlarged towards.

    Enlarged it is by the largest whole factor that fits, so that each of its pixels becomes a square, all of one size;
    the longer side of the result is then over half of `longest`, or of ENLARGED where that is less.

    >>> from PIL import Image
    >>> from lrpcli.pipeline.decode import at_size
    >>> [at_size(Image.new("RGB", size), 512).size for size in ((32, 28), (200, 100), (300, 400), (2048, 1024))]
    [(512, 448), (400, 200), (300, 400), (512, 256)]
    """
    side = max(photo.size)
    if side > longest:
        size = (max(1, round(photo.width * longest / side)), max(1, round(photo.height * longest / side)))
        return photo.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    factor = min(longest, ENLARGED) // side
    if factor < 2:
        return photo
    return photo.resize((photo.width * factor, photo.height * factor), Image.Resampling.NEAREST)


def _on_grid(image: Image.Image, placement: Placement) -> Image.Image:
    """The part of a photo that the model saw as a picture of the model's grid, black where there is no photo."""
    seen, cells = placement.seen
    left, top, right, bottom = (round(edge) for edge in cells)
    small = image.resize((max(right - left, 1), max(bottom - top, 1)), Image.Resampling.BICUBIC, box=seen)
    grid = Image.new("RGB", placement.size[::-1])
    grid.paste(small, (left, top))
    return grid
