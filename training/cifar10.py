"""Train `cifar10`: the net of Caffe's CIFAR-10 example, on sheets of tiles or on class folders.

python -m training.cifar10 --data cifar10_sheets.zip --out cifar10.safetensors

A sheet is one image per part and class (train/cat.jpg), made of tiles of 32 x 32 pixels.
"""

import io
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training import command
from training.data import Entry, Photos, entries, load_photos
from training.fit import Recipe
from training.layout import cifar10_full

SIDE = 32
RECIPE = Recipe(epochs=40, batch=128, weight_decay=0.01, smoothing=0.0, average=0.999, balance=0, plain_part=1, shift=3)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    options = command.parser(__doc__).parse_args(arguments)
    recipe = command.adjusted(RECIPE, options)
    photos = cifar_photos(options.data, command.work_folder(options))
    run = command.train(cifar10_full(len(photos.classes)), photos, recipe, options)
    from training.export import finish

    finish(run, photos, options)


def cifar_photos(sources: list[Path], work: Path) -> Photos:
    """From sheets if the first source holds train/<class>.jpg files directly, otherwise from class folders."""
    found = entries(sources[0])
    if all(entry.folder in ("train", "test") for entry in found):
        return sheet_photos(found, sources[0].stem)
    return load_photos(sources, SIDE, work)


def sheet_photos(found: list[Entry], source: str) -> Photos:
    """The tiles of all sheets, in memory; the class is the sheet's file name."""
    classes = sorted({entry.path.stem for entry in found})
    tiles = [sheet_tiles(entry) for entry in found]
    counts = torch.tensor([len(part) for part in tiles])
    label = torch.tensor([classes.index(entry.path.stem) for entry in found]).repeat_interleave(counts)
    held_out = torch.tensor([entry.folder == "test" for entry in found]).repeat_interleave(counts)
    return Photos(np.concatenate(tiles), label, held_out, torch.zeros_like(label), classes, [source])


def sheet_tiles(entry: Entry) -> np.ndarray:
    """Tiles (N, 32, 32, 3) uint8 RGB, row by row."""
    with Image.open(io.BytesIO(entry.read())) as image:
        sheet = np.asarray(image.convert("RGB"))
    rows, columns = sheet.shape[0] // SIDE, sheet.shape[1] // SIDE
    tiles = sheet.reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2)
    return tiles.reshape(rows * columns, SIDE, SIDE, 3)


if __name__ == "__main__":
    main(sys.argv[1:])
