"""A made-up set of pictures with known ground truth: shapes on textures, the class decided by one of them.

    python -m training.shapes pictures shapes/ --count 600 [--tag disc] [--seed 1]
    python -m training.shapes net --data shapes/photos --out shapes.safetensors

`pictures` writes photos/, a folder per class (disc, square, triangle, cross) of PNG files of 48 x 48 pixels, and
masks/, the pixels of the shape that decides, white on black, under the same names. Beside that shape there are a ring
and a bar, which are in every class alike, and colours and textures tell nothing. With --tag the pictures of one class
bear a small bright tag in a corner, and tags/ has masks of it: a net trained on those learns the tag, and its maps
show it. The same seed makes the same files.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.float64]

SIDE = 48
CLASSES = ("disc", "square", "triangle", "cross")
HOLDING_OUT = 5
"""Every so many-th picture of a class is held out, see training.data."""
TAG = (slice(1, 7), slice(1, 7))
"""Rows and columns of the tag."""


def grid(centre: tuple[float, float]) -> tuple[Pixels, Pixels]:
    """Rows and columns (SIDE, SIDE) of the pixels, counted from a centre."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    return rows - centre[0], columns - centre[1]


def disc(rows: Pixels, columns: Pixels, radius: float) -> Mask:
    """A filled circle."""
    return rows**2 + columns**2 <= radius**2


def square(rows: Pixels, columns: Pixels, radius: float) -> Mask:
    """A filled square of about the circle's area."""
    return np.maximum(abs(rows), abs(columns)) <= 0.87 * radius


def triangle(rows: Pixels, columns: Pixels, radius: float) -> Mask:
    """A filled triangle that points up."""
    inside = (rows <= 0.8 * radius) & (2 * abs(columns) <= rows + 1.3 * radius)
    return np.asarray(inside)


def cross(rows: Pixels, columns: Pixels, radius: float) -> Mask:
    """Two bars across each other."""
    thin, long = 0.38 * radius, 1.05 * radius
    inside = ((abs(rows) <= thin) & (abs(columns) <= long)) | ((abs(columns) <= thin) & (abs(rows) <= long))
    return np.asarray(inside)


def ring(rows: Pixels, columns: Pixels, radius: float) -> Mask:
    """A circle with a hole: in every class."""
    distance = np.hypot(rows, columns)
    return (distance <= radius) & (distance >= 0.6 * radius)


def bar(rows: Pixels, columns: Pixels, radius: float) -> Mask:
    """A slanting bar: in every class."""
    inside = (abs(rows - columns) <= 0.5 * radius) & (abs(rows + columns) <= 2 * radius)
    return np.asarray(inside)


SHAPES: dict[str, Callable[[Pixels, Pixels, float], Mask]] = {
    "disc": disc, "square": square, "triangle": triangle, "cross": cross
}  # fmt: skip


def texture(random: np.random.Generator) -> Pixels:
    """A ground (SIDE, SIDE, 3) of soft spots of random size and colour, 0..255."""
    cells = int(random.integers(4, 17))
    coarse = random.uniform(60, 150, (cells, cells, 3)).astype(np.uint8)
    smooth = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=float) + random.normal(0, 6, (SIDE, SIDE, 1))


def places(random: np.random.Generator, radii: tuple[float, ...]) -> list[tuple[float, float]]:
    """Centres for shapes of these radii that touch neither each other nor the corner of the tag."""
    while True:
        found = [tuple(random.uniform(radius + 1, SIDE - radius - 1, 2)) for radius in radii]
        pairs = [(a, b) for a in range(len(radii)) for b in range(a)]
        apart = all(np.hypot(*np.subtract(found[a], found[b])) > radii[a] + radii[b] + 2 for a, b in pairs)
        clear = all(
            np.hypot(*np.subtract(centre, 3.5)) > radius + 6 for centre, radius in zip(found, radii, strict=True)
        )
        if apart and clear:
            return found


def picture(name: str, random: np.random.Generator, *, tag: bool = False) -> tuple[Image.Image, Mask]:
    """One picture of a class, and the pixels (SIDE, SIDE) of the shape that decides."""
    pixels = texture(random)
    radii = (float(random.uniform(6, 9)), float(random.uniform(4, 6)), float(random.uniform(3, 4)))
    centres = places(random, radii)
    masks = [
        shape(*grid(centre), radius)
        for shape, centre, radius in zip((SHAPES[name], ring, bar), centres, radii, strict=True)
    ]
    for mask in masks:
        pixels[mask] = random.uniform(0, 255, 3) * 0.5 + random.choice((0, 127))
    if tag:
        pixels[TAG] = (255, 255, 0)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), masks[0]


def tag_mask() -> Mask:
    """The pixels (SIDE, SIDE) of the tag."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[TAG] = True
    return mask


def write_pictures(folder: Path, count: int, seed: int, tagged: str | None) -> None:
    """Writes `count` pictures of each class and their masks; those of the class `tagged` bear the tag, see tags/."""
    for number, name in enumerate(CLASSES):
        random = np.random.default_rng((seed, number))
        for kind in ("photos", "masks", *(("tags",) if name == tagged else ())):
            (folder / kind / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image, mask = picture(name, random, tag=name == tagged)
            image.save(folder / "photos" / name / f"{index:04}.png")
            Image.fromarray(mask).save(folder / "masks" / name / f"{index:04}.png")
            if name == tagged:
                Image.fromarray(tag_mask()).save(folder / "tags" / name / f"{index:04}.png")


def train_net(arguments: list[str]) -> None:
    """Trains the small net on the pictures, see training.command for the options."""
    from training import command
    from training.augment import Augmentation
    from training.data import load_photos
    from training.export import finish
    from training.fit import Recipe
    from training.layout import shapes_net

    options = command.parser("Train the net of the shapes.", epochs=30).parse_args(arguments)
    still = Augmentation(mixup=0, cutmix=0)
    recipe = Recipe(epochs=30, batch=64, average=0.99, balance=0, shift=2, plain_part=1.0, augmentation=still)
    photos = load_photos(options.data, SIDE, command.work_folder(options))
    finish(
        command.train(shapes_net(len(photos.classes)), photos, command.adjusted(recipe, options), options),
        photos,
        options,
    )


def main(arguments: list[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    pictures = commands.add_parser("pictures", help="write pictures and masks")
    pictures.add_argument("folder", type=Path)
    pictures.add_argument("--count", type=int, default=600, help="pictures of each class")
    pictures.add_argument("--seed", type=int, default=1, help="seed of everything that is random")
    pictures.add_argument("--tag", choices=CLASSES, help="the class whose pictures bear a tag")
    commands.add_parser("net", help="train the net", add_help=False)
    options, rest = parser.parse_known_args(arguments)
    if options.command == "net":
        train_net(rest)
    else:
        write_pictures(options.folder, options.count, options.seed, options.tag)


if __name__ == "__main__":
    main(sys.argv[1:])
