"""Which class the folder of an image is named after, and mosaics of images of several classes. Imports no torch."""

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from lrpcli.errors import ImageError
from lrpcli.images.decode import decode
from lrpcli.images.find import Source
from lrpcli.images.preprocess import Preprocessing
from lrpcli.images.streams import stream_of
from lrpcli.pipeline.decode import Preparation, Prepared

Pixels = NDArray[np.float32]
MOST = 50
"""Images of a class that are kept as partners."""
TRIES = 5
"""Partners that are tried where one cannot be decoded."""


@dataclass(frozen=True)
class ClassFolders:
    """Classes by the names of folders, and up to MOST images of each class, drawn at random where there are more."""

    by_folder: Mapping[str, int]
    images: Mapping[int, tuple[str, ...]]

    @classmethod
    def of(cls, sources: Iterable[Source], by_folder: Mapping[str, int], seed: int) -> "ClassFolders":
        """Those of the images whose folders are known; `by_folder` gives the class of a folder."""
        found: dict[int, list[str]] = {}
        for source in sources:
            chosen = by_folder.get(folder_of(source.path))
            if chosen is not None and stream_of(source.path) is None:
                found.setdefault(chosen, []).append(source.path)
        generator = random.Random(seed)
        drawn = {
            number: tuple(paths if len(paths) <= MOST else generator.sample(paths, MOST))
            for number, paths in sorted(found.items())
        }
        return cls({folder: number for folder, number in by_folder.items() if number in drawn}, drawn)

    @property
    def usable(self) -> bool:
        """Whether any mosaic can be made: two classes, and two images of one of them."""
        return len(self.images) > 1 and max(map(len, self.images.values())) > 1

    def of_path(self, path: str) -> int | None:
        """The class of an image."""
        return self.by_folder.get(folder_of(path))


def folder_of(path: str) -> str:
    """The name of the folder in which an image lies."""
    return PurePath(path).parent.name


@dataclass(frozen=True)
class Mosaic:
    """Four images in one input (C, h, w) of the model; `cells` (4,) says which quarters show class `target`.

    Quarters in the order top left, top right, bottom left, bottom right.
    """

    pixels: Pixels
    cells: tuple[bool, bool, bool, bool]
    target: int


@dataclass
class PreparedWithMosaic(Prepared):
    """An image and the mosaic that begins with it; None where its folder names no class, or partners are missing."""

    mosaic: Mosaic | None = None


@dataclass(frozen=True)
class MosaicPreparation(Preparation):
    """Decodes an image, and three more for its mosaic: one of its class, two of others.

    Which ones, and where they stand, follows from `seed` and the image's own pixels.
    """

    folders: ClassFolders = field(default_factory=lambda: ClassFolders({}, {}))
    seed: int = 0

    def __call__(self, source: Source, content: bytes | None = None) -> PreparedWithMosaic:
        """See Preparation."""
        prepared = super().__call__(source, content)
        return PreparedWithMosaic(**vars(prepared), mosaic=self._mosaic(prepared))

    def _mosaic(self, prepared: Prepared) -> Mosaic | None:
        target = self.folders.of_path(prepared.source.path)
        if target is None:
            return None
        digest = hashlib.sha256(repr(("mosaic", self.seed)).encode() + prepared.pixels.tobytes()).digest()
        generator = random.Random(digest)
        others = [number for number in self.folders.images if number != target]
        drawn = generator.sample(others, min(2, len(others)))
        classes = [target, *drawn, *drawn][:3] if drawn else []
        taken = {prepared.source.path}
        partners = [self._partner(number, taken, generator) for number in classes]
        found = [partner for partner in partners if partner is not None]
        if len(found) < 3:
            return None
        order = generator.sample(range(4), 4)
        images = [prepared.pixels, *found]
        pixels = mosaic_of([images[place] for place in order], self.preprocessing)
        first, second, third, fourth = (place < 2 for place in order)
        return Mosaic(pixels, (first, second, third, fourth), target)

    def _partner(self, number: int, taken: set[str], generator: random.Random) -> Pixels | None:
        """The input of an image of a class that is not `taken` yet; it is from now on."""
        paths = [path for path in self.folders.images.get(number, ()) if path not in taken]
        for path in generator.sample(paths, min(TRIES, len(paths))):
            taken.add(path)
            try:
                pixels, _ = self.preprocessing.apply(decode(path, self.decode))
            except ImageError:
                continue
            return pixels
        return None


def mosaic_of(images: Sequence[Pixels], preprocessing: Preprocessing) -> Pixels:
    """(C, h, w): four inputs (C, h, w) in the quarters of one, each the mean over the pixels that fall into its own.

    The first rows are h // 2 and the first columns w // 2. Shrunk as photos, without the model's mean image.
    """
    black, white = preprocessing.pixel_range()
    photos = [(pixels - black) / (white - black) for pixels in images]
    height, width = images[0].shape[1:]
    top, left = height // 2, width // 2
    rows = [
        np.concatenate([_shrunk(photos[2 * row + column], (down, across))
                        for column, across in enumerate((left, width - left))], axis=2)
        for row, down in enumerate((top, height - top))
    ]  # fmt: skip
    mosaic: Pixels = (black + (white - black) * np.concatenate(rows, axis=1)).astype(np.float32)
    return mosaic


def _shrunk(photo: Pixels, size: tuple[int, int]) -> Pixels:
    """A photo (C, h, w) at another size, each pixel the mean of what it covers."""
    down, across = (_averaging(before, after) for before, after in zip(photo.shape[1:], size, strict=True))
    return (down @ photo @ across.T).astype(np.float32, copy=False)


def _averaging(before: int, after: int) -> Pixels:
    """(after, before): each row has the shares of a line's pixels in one of the new pixels."""
    edges = np.linspace(0, before, after + 1)
    pixel = np.arange(before)
    shares = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (shares.clip(min=0) * after / before).astype(np.float32)
