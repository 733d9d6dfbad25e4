"""Draws the maps of README.md and docs/reading-a-map.md with the bundled net, and prints the numbers beside them.

python docs/maps.py
python docs/maps.py FOLDER    # those of docs/tutorial-cheating-net.md, from where its commands were run
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from variants import DEFAULT, PICTURES, save

import lrpcli
from lrpcli.images.decode import decode
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from lrpcli.lrp.targets import Target
from lrpcli.pictures.picture import draw, picture_scale
from lrpcli.pictures.style import PictureStyle

ROOT = Path(__file__).parents[1]
SIDE, CAPTION, GAP = 300, 26, 6
FRONT = ("pyramid.webp", "hedgehog.webp", "chelsea_cat.jpg", "dog.webp")
HEIGHT = 210
SIGNS, SCALES, CLASSES = "hedgehog.webp", ("pyramid.webp", "astronaut.jpg"), "chelsea_cat.jpg"
HEATMAP = PictureStyle(style="heatmap")
MODEL = lrpcli.load_model("caffenet-small")


@dataclass(frozen=True)
class Map:
    """A photo, one of its maps (h, w) with its place on the photo, and of which class, score and kept share that is."""

    photo: Image.Image
    relevance: NDArray[np.float32]
    box: tuple[float, float, float, float]
    label: str
    score: float
    kept: float

    def said(self) -> str:
        """Class, score and kept share."""
        return f"{self.label} {self.score:.0%}, kept {self.kept:.0%}"


def explained(name: str, config: str = DEFAULT_CONFIG, start: str | None = None, target: Target = None) -> Map:
    """The map of a sample photo."""
    photo = decode(str(ROOT / "sample_images" / name))
    x, placement = MODEL.preprocess(photo)
    result = lrpcli.Explainer(MODEL, config, start=start)(x, target=target)
    shrink = SIDE / max(photo.size)
    small = photo.resize((round(photo.width * shrink), round(photo.height * shrink)), Image.Resampling.BICUBIC)
    box = tuple(edge * shrink for edge in placement.box)
    chosen = int(result.target[0])
    kept = float(result.kept[0]) if result.kept is not None else float("nan")
    score = float(result.logits.softmax(1)[0, chosen])
    left, top, right, bottom = box
    return Map(small, result.relevance[0].sum(0).numpy(), (left, top, right, bottom), MODEL.labels[chosen], score, kept)


def picture(found: Map, style: PictureStyle = DEFAULT, scale: float | None = None) -> Image.Image:
    """The overlay of a map, on its own scale unless another is given."""
    own = picture_scale(found.relevance, style)
    return draw(found.photo, found.relevance, found.box, style, own if scale is None else scale)


def strip(name: str, tiles: Sequence[tuple[str, Image.Image]]) -> None:
    """Pictures in a row, each with a caption below it."""
    height = max(tile.height for _, tile in tiles)
    sheet = Image.new("RGB", (sum(tile.width + GAP for _, tile in tiles) - GAP, height + CAPTION), "white")
    pen, left = ImageDraw.Draw(sheet), 0
    for caption, tile in tiles:
        sheet.paste(tile, (left, (height - tile.height) // 2))
        pen.text((left + tile.width // 2, height + CAPTION // 2), caption, "black", anchor="mm", font_size=13)
        left += tile.width + GAP
    save(name, sheet)


def main() -> None:
    """All pictures."""
    front()
    anatomy()


def front() -> None:
    """The picture of README.md: photos above their overlays, each with its class, score and kept share below."""
    columns = []
    for name in FRONT:
        found = explained(name)
        part = tuple(map(round, found.box))
        tiles = [each.crop(part) for each in (found.photo, picture(found, replace(DEFAULT, outside="plain")))]
        side = round(HEIGHT * tiles[0].width / tiles[0].height)
        columns.append(([tile.resize((side, HEIGHT), Image.Resampling.LANCZOS) for tile in tiles], found.said()))
        print(name, found.said())
    width = sum(tiles[0].width + GAP for tiles, _ in columns) - GAP
    sheet = Image.new("RGB", (width, 2 * HEIGHT + GAP + CAPTION), "white")
    pen, left = ImageDraw.Draw(sheet), 0
    for tiles, said in columns:
        for row, tile in enumerate(tiles):
            sheet.paste(tile, (left, row * (HEIGHT + GAP)))
        pen.text((left + tiles[0].width // 2, sheet.height - CAPTION // 2), said, "black", anchor="mm", font_size=15)
        left += tiles[0].width + GAP
    sheet.save(PICTURES / "front.jpg", quality=88)


def anatomy() -> None:
    """The pictures of docs/reading-a-map.md."""
    cat = explained(SIGNS)
    strip("map-signs", [("photo", cat.photo), (cat.said(), picture(cat)), ("its heatmap", picture(cat, HEATMAP))])
    strong, weak = (explained(name) for name in SCALES)
    scale = picture_scale(strong.relevance, DEFAULT)
    strip(
        "map-scale",
        [
            (strong.said(), picture(strong)),
            (weak.said(), picture(weak)),
            ("the same on the scale of the left one", picture(weak, scale=scale)),
        ],
    )
    print("scales", scale, picture_scale(weak.relevance, DEFAULT))
    tiles = []
    for config, start in (("epsilon-plus", None), (DEFAULT_CONFIG, None), (DEFAULT_CONFIG, "contrastive")):
        first, second = (explained(CLASSES, config, start, target) for target in best_two(CLASSES))
        print(config, start, "cosine", cosine(first.relevance, second.relevance))
        tiles += [(f"{start or config}: {one.label} {one.score:.0%}", picture(one)) for one in (first, second)]
    for row, name in enumerate(("map-classes-plus", "map-classes", "map-classes-contrastive")):
        strip(name, tiles[2 * row : 2 * row + 2])
    kept = [(config, explained(SIGNS, config)) for config in (DEFAULT_CONFIG, "epsilon-1", "composite")]
    strip("map-kept", [(f"{config}: {one.said()}", picture(one)) for config, one in kept])


def best_two(name: str) -> list[int]:
    """The two best classes of a sample photo."""
    x, _ = MODEL.preprocess(decode(str(ROOT / "sample_images" / name)))
    found: list[int] = lrpcli.Explainer(MODEL).predict(x)[0].topk(2).indices.tolist()
    return found


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Of two maps."""
    return float((first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second))


def cheating(folder: Path) -> None:
    """The first four overlays of each of the tutorial's runs."""
    for run, name in (("tagged", "cheating-tagged"), ("without", "cheating-untagged"), ("honest", "cheating-honest")):
        sheet = Image.new("RGB", (4 * 200 - 8, 192), "white")
        for place, path in enumerate(sorted((folder / "maps" / run).rglob("*.png"))[:4]):
            sheet.paste(decode(str(path)).resize((192, 192), Image.Resampling.BOX), (200 * place, 0))
        save(name, sheet)


if __name__ == "__main__":
    cheating(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
