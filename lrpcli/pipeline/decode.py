"""One image on its way in: decoded, turned into model input, and kept at picture size."""

import io
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lrpcli.images.decode import DecodePolicy, decode
from lrpcli.images.find import Source
from lrpcli.images.placement import Placement
from lrpcli.images.preprocess import Preprocessing
from lrpcli.pictures.picture import Box
from lrpcli.records.identity import Unchanged, hash_bytes

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
    seconds: float
    note: str = ""
    content: str | None = None


@dataclass(frozen=True)
class Preparation:
    """Decodes and preprocesses; plain data, so that it can be sent to another process.

    `overlay_size` is the longest side of a picture, or None for the model's own grid; `pictures`: whether any is drawn.
    """

    decode: DecodePolicy
    preprocessing: Preprocessing
    overlay_size: int | None
    pictures: bool

    def memory(self, content: int = 0) -> int:
        """Bytes that a decoding process may use for an image, whose file comes in `content` bytes if not by its path.

        What needs more is too large, whatever its header says.
        """
        return BYTES_PER_IMAGE + BYTES_PER_PIXEL * self.decode.max_pixels + 4 * content

    def __call__(self, source: Source, content: bytes | None = None) -> Prepared:
        """The image at the source's path, or in `content`. Raises ImageError if it cannot be used."""
        started, file = time.perf_counter(), Unchanged(source.path)
        image = decode(source.path if content is None else io.BytesIO(content), self.decode)
        pixels, placement = self.preprocessing.apply(image)
        photo, box = self._picture(image, placement) if self.pictures else (None, placement.box)
        found = file.hash() if content is None else hash_bytes(content)
        return Prepared(source, pixels, placement, photo, box, time.perf_counter() - started, content=found)

    def _picture(self, image: Image.Image, placement: Placement) -> tuple[Image.Image, Box]:
        """The photo at picture size, never enlarged, and the model's part of it."""
        if self.overlay_size is None:
            height, width = placement.size
            return _on_grid(image, placement), (0, 0, width, height)
        shrink = min(1.0, self.overlay_size / max(image.size))
        size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
        photo = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
        across, down = size[0] / image.size[0], size[1] / image.size[1]
        left, top, right, bottom = placement.box
        return photo, (left * across, top * down, right * across, bottom * down)


def _on_grid(image: Image.Image, placement: Placement) -> Image.Image:
    """The part of a photo that the model saw as a picture of the model's grid, black where there is no photo."""
    seen, cells = placement.seen
    left, top, right, bottom = (round(edge) for edge in cells)
    small = image.resize((max(right - left, 1), max(bottom - top, 1)), Image.Resampling.BICUBIC, box=seen)
    grid = Image.new("RGB", placement.size[::-1])
    grid.paste(small, (left, top))
    return grid
