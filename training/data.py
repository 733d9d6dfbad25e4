"""Photos from folders or zip files, decoded once into one array on disk.

A source holds class folders of images: `.../tench/0001.webp`. If it has folders named train and val (or test), those
are the parts; otherwise every fifth image of a class, in the order of names, is held out.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from training.labels import MERGED

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
HELD_OUT = {"val", "test"}
EVERY = 5


@dataclass(frozen=True)
class Photos:
    """Pixels (N, H, W, 3) uint8 RGB on disk; label, held_out and source, each (N,); names of classes and sources."""

    pixels: np.ndarray
    label: Tensor
    held_out: Tensor
    source: Tensor
    classes: list[str]
    sources: list[str]

    def training(self) -> Tensor:
        """Row numbers of the training photos."""
        return torch.nonzero(~self.held_out).flatten()

    def batches(self, rows: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels (n, 3, H, W) uint8 RGB and labels (n,), `size` rows at a time."""
        for part in rows.split(size):
            yield self.take(part), self.label[part]

    def take(self, rows: Tensor) -> Tensor:
        """Pixels (n, 3, H, W) uint8 RGB of the rows, channels last in memory."""
        return torch.from_numpy(self.pixels[rows.numpy()]).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Entry:
    """One image of a source: how to read it, its path inside, its class folder's name."""

    read: Callable[[], bytes]
    path: PurePosixPath

    @property
    def folder(self) -> str:
        """Name of the class folder; of the class that it was merged into."""
        return MERGED.get(self.path.parent.name, self.path.parent.name)


def entries(source: Path) -> list[Entry]:
    """Every image of a zip file or folder, in the order of paths. FileNotFoundError if there is none."""
    if source.is_dir():
        files = [(path.read_bytes, path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
    else:
        archive = zipfile.ZipFile(source)
        files = [(lambda n=name: archive.read(n), PurePosixPath(name)) for name in archive.namelist()]
    found = [Entry(read, PurePosixPath(path)) for read, path in files if path.suffix.lower() in SUFFIXES]
    if not found:
        raise FileNotFoundError(f"There is no image in {source}.")
    return sorted(found, key=lambda entry: entry.path)


def held_out_flags(found: list[Entry]) -> list[bool]:
    """By the folders train, val and test where they exist, otherwise every fifth image of a class."""
    if any(HELD_OUT & set(entry.path.parts[:-1]) for entry in found):
        return [bool(HELD_OUT & set(entry.path.parts[:-1])) for entry in found]
    seen: dict[str, int] = {}
    flags = []
    for entry in found:
        seen[entry.folder] = seen.get(entry.folder, 0) + 1
        flags.append(seen[entry.folder] % EVERY == 0)
    return flags


def split(source: Path, skip: Iterable[str] = ()) -> list[tuple[Entry, bool]]:
    """The images of a source but for the class folders in `skip`, each with whether it is held out."""
    found = [entry for entry in entries(source) if entry.folder not in set(skip)]
    return list(zip(found, held_out_flags(found), strict=True))


def load_photos(sources: Iterable[Path], side: int, work: Path, skip: Iterable[str] = ()) -> Photos:
    """Photos of all sources together, each squashed to side x side; decoded into `work` at the first call only."""
    sources = list(sources)
    rows: list[tuple[Entry, bool, int]] = []
    for number, source in enumerate(sources):
        rows += [(entry, flag, number) for entry, flag in split(source, skip)]
    classes = list(dict.fromkeys(entry.folder for entry, _, _ in rows))
    label = torch.tensor([classes.index(entry.folder) for entry, _, _ in rows])
    held_out, source = torch.tensor([row[1] for row in rows]), torch.tensor([row[2] for row in rows])
    pixels = decoded([entry for entry, _, _ in rows], side, work)
    return Photos(pixels, label, held_out, source, classes, [path.stem for path in sources])


def decoded(found: list[Entry], side: int, work: Path) -> np.ndarray:
    """Pixels (N, side, side, 3) uint8 RGB, mapped from a file in `work` that is named after the images' paths."""
    digest = hashlib.sha256("\n".join(str(entry.path) for entry in found).encode()).hexdigest()
    cache = work / f"pixels{side}-{digest[:8]}.npy"
    if cache.exists():
        return np.load(cache, mmap_mode="r")
    work.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(".partial.npy")
    pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(len(found), side, side, 3))
    for row, entry in enumerate(tqdm(found, desc="decode", unit="photo")):
        pixels[row] = decode(entry.read(), side)
    pixels.flush()
    partial.replace(cache)
    return np.load(cache, mmap_mode="r")


def decode(data: bytes, side: int) -> np.ndarray:
    """One photo (side, side, 3) uint8 RGB, squashed."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))
