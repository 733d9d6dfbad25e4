"""Draws docs/pictures/variants.png: a few photos under several smoothings, colour maps, opacities and styles.

python docs/variants.py sample_images/cathedral.webp sample_images/dog.webp ...
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw

import lrpcli
from lrpcli.images.decode import decode
from lrpcli.pictures.picture import draw, picture_scale
from lrpcli.pictures.style import PictureStyle

SIDE, TITLE = 190, 120
DEFAULT = PictureStyle()
VARIANTS = {
    "default": DEFAULT,
    "smooth 0": replace(DEFAULT, smooth=0.0),
    "smooth 2": replace(DEFAULT, smooth=2.0),
    "alpha 0.6": replace(DEFAULT, alpha=0.6),
    "cmap seismic": replace(DEFAULT, cmap="seismic"),
    "cmap coolwarm": replace(DEFAULT, cmap="coolwarm"),
    "cmap RdBu_r": replace(DEFAULT, cmap="RdBu_r"),
    "style heatmap": replace(DEFAULT, style="heatmap"),
    "style contour": replace(DEFAULT, style="contour"),
}


def tile(photo: Image.Image, relevance: torch.Tensor, box: tuple[float, ...], style: PictureStyle) -> Image.Image:
    """One picture in a white square."""
    shrink = SIDE / max(photo.size)
    small = photo.resize((round(photo.width * shrink), round(photo.height * shrink)), Image.Resampling.BICUBIC)
    values = relevance.numpy()
    drawn = draw(small, values, tuple(edge * shrink for edge in box), style, picture_scale(values, style))
    square = Image.new("RGB", (SIDE + 4, SIDE + 4), "white")
    square.paste(drawn, ((SIDE + 4 - drawn.width) // 2, (SIDE + 4 - drawn.height) // 2))
    return square


def main(paths: list[str]) -> None:
    """A row per variant, a column per photo."""
    model = lrpcli.load_model("caffenet-small")
    photos = [decode(path) for path in paths]
    inputs, placements = zip(*(model.preprocess(photo) for photo in photos), strict=True)
    maps = lrpcli.Explainer(model, "composite")(torch.cat(inputs)).relevance.sum(1)
    sheet = Image.new("RGB", (TITLE + len(photos) * (SIDE + 4), len(VARIANTS) * (SIDE + 4)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (title, style) in enumerate(VARIANTS.items()):
        pen.text((6, row * (SIDE + 4) + SIDE // 2), title, "black", font_size=15)
        for column, (photo, relevance, place) in enumerate(zip(photos, maps, placements, strict=True)):
            sheet.paste(tile(photo, relevance, place.box, style), (TITLE + column * (SIDE + 4), row * (SIDE + 4)))
    target = Path(__file__).parent / "pictures" / "variants.png"
    target.parent.mkdir(exist_ok=True)
    sheet.quantize(256).save(target, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
