"""Masks of objects: which picture marks the object of which image, and what is marked on the model's grid.

Imports no torch.
"""

import hashlib
import io
import os
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrpcli.errors import ImageError, UsageError
from lrpcli.evaluation.classes import MosaicPreparation, PreparedWithMosaic
from lrpcli.images.find import Source
from lrpcli.images.formats import IMAGE_SUFFIXES, DecodePolicy
from lrpcli.images.masks import decode_mask, mask_policy
from lrpcli.images.placement import Placement
from lrpcli.images.streams import most_bytes
from lrpcli.paths import is_stream
from lrpcli.small_files import UnusableFile, read_small


@dataclass(frozen=True)
class Masks:
    """The path of an image -> that of its mask; images without one are absent. `policy` is that of mask_policy."""

    by_image: Mapping[str, str]
    policy: DecodePolicy

    def read(self, image: str) -> bytes | None:
        """The bytes of an image's mask, None where there is none. ImageError io if they cannot be read."""
        path = self.by_image.get(image)
        if path is None:
            return None
        try:
            return read_small(path, most_bytes(self.policy.max_pixels))
        except UnusableFile as error:
            raise ImageError("io", f"The mask {path!r} {error}.") from error

    def hash_of(self, image: str) -> str | None:
        """The hash of an image's mask as a Measurement has it; None where there is none, "" if it cannot be read."""
        try:
            data = self.read(image)
        except ImageError:
            return ""
        return None if data is None else hash_of_mask(data)


def hash_of_mask(data: bytes) -> str:
    """SHA-256 of a mask's file, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def find_masks(folder: str, sources: Iterable[Source], policy: DecodePolicy) -> Masks:
    """The masks in a folder: each at the name of its image, which is the path below its INPUT, with any suffix.

    UsageError if the folder cannot be listed, if no image has a mask, if there are two for one image or one for two
    images, and if a mask is the image itself.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - a Path would drop what the user typed
        raise UsageError(f"--masks {folder!r} is not a folder. Name the one that holds a mask picture for each image.")
    listed: dict[str, dict[str, list[str]]] = {}
    found: dict[str, str] = {}
    names: dict[str, str] = {}
    source = None
    for source in sources:
        place, stem = posixpath.split(posixpath.splitext(source.name)[0])
        if place not in listed:
            listed[place] = _by_stem(os.path.join(folder, place) if place else folder)  # noqa: PTH118
        paths = [] if is_stream(source.path) else listed[place].get(stem, [])
        if len(paths) > 1:
            raise UsageError(f"The image {source.path!r} has two masks, {paths[0]!r} and {paths[1]!r}. Keep one.")
        for path in paths:
            _check_pair(source, path, names)
            found[source.path] = path
    if source is not None and not found:
        sought = os.path.join(folder, posixpath.splitext(source.name)[0])  # noqa: PTH118
        raise UsageError(
            f"None of the images has a mask in {folder!r}: for {source.path!r} it would be {sought + '.png'!r}, or "
            "with another suffix. Names begin below the INPUT; --base DIR lets them begin below another folder."
        )
    return Masks(found, mask_policy(policy))


def _by_stem(folder: str) -> dict[str, list[str]]:
    """Name without suffix -> the pictures of that name in a folder; nothing where there is no such folder."""
    found: dict[str, list[str]] = {}
    try:
        entries = sorted(entry.name for entry in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return found
    except (OSError, ValueError) as error:
        raise UsageError(f"The folder of masks {folder!r} cannot be listed: {error}.") from error
    for entry in entries:
        stem, suffix = posixpath.splitext(entry)
        if suffix.lower() in IMAGE_SUFFIXES:
            found.setdefault(stem, []).append(os.path.join(folder, entry))  # noqa: PTH118
    return found


def _check_pair(source: Source, mask: str, names: dict[str, str]) -> None:
    """UsageError where a mask cannot be that of an image; `names` has the image of each mask so far."""
    try:
        same = os.path.samefile(source.path, mask)  # noqa: PTH121
    except (OSError, ValueError):  # either fails by name when it is read
        same = False
    if same:
        raise UsageError(
            f"The mask of {source.path!r} is that image itself. Name the folder of the masks with --masks."
        )
    if names.setdefault(mask, source.name) != source.name:
        raise UsageError(
            f"The images {names[mask]!r} and {source.name!r} would both have the mask {mask!r}. Evaluate one of them."
        )


@dataclass
class PreparedWithMask(PreparedWithMosaic):
    """An image, and which pixels of the model's grid are in its mask, `inside` (h, w); None where it has no mask."""

    inside: NDArray[np.bool_] | None = None
    mask_hash: str | None = None

    @property
    def mask_area(self) -> float | None:
        """The mask's share of what the model sees; None without a mask, and for one that is empty there."""
        return None if self.inside is None or not self.inside.any() else float(self.inside.mean())


@dataclass(frozen=True, kw_only=True)
class MaskPreparation(MosaicPreparation):
    """Decodes an image and its mask; a mosaic is made where there are class folders."""

    masks: Masks

    def __call__(self, source: Source, content: bytes | None = None) -> PreparedWithMask:
        """See Preparation. ImageError for a mask that cannot be used, or of another size than the upright image."""
        prepared = super().__call__(source, content)
        data = self.masks.read(source.path)
        if data is None:
            return PreparedWithMask(**vars(prepared))
        path = self.masks.by_image[source.path]
        marked = decode_mask(io.BytesIO(data), self.masks.policy, f"The mask {path!r}")
        if marked.shape != prepared.placement.image_size:
            raise ImageError("unsupported", _other_size(path, marked.shape, source.path, prepared.placement.image_size))
        inside = inside_mask(marked, prepared.placement)
        return PreparedWithMask(**vars(prepared), inside=inside, mask_hash=hash_of_mask(data))


def inside_mask(marked: NDArray[np.bool_], placement: Placement) -> NDArray[np.bool_]:
    """(h, w): which pixels of the model's grid have their centre in a marked pixel of the photo (H, W)."""
    inside = np.zeros(placement.size, bool)
    (rows, columns), (height, width) = (np.floor(line).astype(int) for line in placement.centres), marked.shape
    here = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    inside[here] = marked[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)][here]
    return inside


def _other_size(mask: str, found: tuple[int, ...], image: str, size: tuple[int, int]) -> str:
    (height, width), (rows, columns) = found, size
    return (
        f"The mask {mask!r} has {width} x {height} pixels, and the upright image {image!r} has {columns} x {rows}. "
        "Make them of one size."
    )
