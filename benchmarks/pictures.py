"""What pictures cost: python -m benchmarks.pictures PHOTOS... [--side 512] [--repeat 5]

Draws a map on each photo in every style, and makes a file of it in every format: processor milliseconds an image (the
best of several rounds over all photos) and kilobytes. The map is made up, half red and half blue, as drawing and
packing depend on little else of it.
"""

import argparse
from collections.abc import Callable
from functools import partial
from time import process_time

import numpy as np
from PIL import Image

from lrpcli.images.find import Discovery
from lrpcli.pictures.encode import FORMATS, VECTOR, picture_bytes
from lrpcli.pictures.figure import explanation_figure, figure_bytes, own_style
from lrpcli.pictures.picture import draw, picture_scale
from lrpcli.pictures.style import FIGURE, STYLES, PictureStyle
from lrpcli.pipeline.decode import at_size

GRID = 227


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    photos = [at_size(Image.open(source.path).convert("RGB"), options.side) for source in Discovery(options.photos)]
    relevance = np.random.default_rng(0).normal(size=(GRID, GRID)).astype(np.float32)
    scale = picture_scale(relevance, PictureStyle())

    def drawn(photo: Image.Image, style: str = "overlay") -> Image.Image:
        return draw(photo, relevance, (0, 0, *photo.size), PictureStyle(style), scale)

    def figure(photo: Image.Image, name: str) -> bytes:
        box, style = (0, 0, *photo.size), PictureStyle(FIGURE)
        with own_style():
            made = explanation_figure(photo, relevance, box, style, scale, label="tabby cat", score=0.9, kept=0.9)
            return figure_bytes(made, name)

    print(f"{len(photos)} photos, longer side {options.side}")
    for style in STYLES[:-1]:
        report(f"draw {style}", partial(drawn, style=style), photos, options.repeat)
    overlays = [drawn(photo) for photo in photos]
    for name in (name for name in FORMATS if name not in VECTOR):
        report(
            f"{name} of the overlay", lambda picture, name=name: picture_bytes(picture, name), overlays, options.repeat
        )
    for name in FORMATS:
        report(f"figure, drawn and as {name}", partial(figure, name=name), photos, options.repeat)


def report(
    what: str, make: Callable[[Image.Image], bytes | Image.Image], pictures: list[Image.Image], repeat: int
) -> None:
    """Prints milliseconds and kilobytes an image."""
    times, made = [], []
    for _ in range(repeat):
        started = process_time()
        made = [make(picture) for picture in pictures]
        times.append(1000 * (process_time() - started) / len(pictures))
    sizes = [len(content) for content in made if isinstance(content, bytes)]
    print(f"{what:32}{min(times):8.1f} ms" + (f"{np.mean(sizes) / 1000:8.0f} kB" if sizes else ""), flush=True)


if __name__ == "__main__":
    main()
