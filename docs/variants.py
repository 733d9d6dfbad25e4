"""Draws the pictures of docs/pictures.md.

python docs/variants.py

variants.png: a few photos under several smoothings, colour maps and opacities; styles.jpg: one photo, of which the
model saw a square in the middle, in every style and with every outside; figure.jpg: the figure of it.
"""

from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

import lrpcli
from lrpcli.images.decode import decode
from lrpcli.pictures.figure import explanation_figure, figure_bytes, own_style
from lrpcli.pictures.picture import draw, picture_scale
from lrpcli.pictures.sheet import Panel, sheet
from lrpcli.pictures.style import FIGURE, PictureStyle
from lrpcli.pipeline.decode import at_size

PICTURES = Path(__file__).parent / "pictures"
SAMPLES = Path(__file__).parents[1] / "sample_images"
PHOTOS = ("cathedral.webp", "narwhals.webp", "hedgehog.webp", "kitten.webp")
STYLED = "chelsea_cat.jpg"
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


def variants() -> None:
    """A row per variant, a column per photo."""
    model = lrpcli.load_model("caffenet-small")
    photos = [decode(str(SAMPLES / name)) for name in PHOTOS]
    inputs, placements = zip(*(model.preprocess(photo) for photo in photos), strict=True)
    maps = lrpcli.Explainer(model, "composite")(torch.cat(inputs)).relevance.sum(1)
    table = Image.new("RGB", (TITLE + len(photos) * (SIDE + 4), len(VARIANTS) * (SIDE + 4)), "white")
    pen = ImageDraw.Draw(table)
    for row, (title, style) in enumerate(VARIANTS.items()):
        pen.text((6, row * (SIDE + 4) + SIDE // 2), title, "black", font_size=15)
        for column, (photo, relevance, place) in enumerate(zip(photos, maps, placements, strict=True)):
            table.paste(tile(photo, relevance, place.box, style), (TITLE + column * (SIDE + 4), row * (SIDE + 4)))
    save("variants", table)


def styles() -> None:
    """A photo in every style and with every outside, and its figure."""
    model = lrpcli.load_model("caffenet-small", preprocessing={"resize": 160})
    whole = decode(str(SAMPLES / STYLED))
    x, placement = model.preprocess(whole)
    photo = at_size(whole, 320)
    left, top, right, bottom = (edge * photo.width / whole.width for edge in placement.box)
    box = (left, top, right, bottom)
    result = lrpcli.Explainer(model)(x)
    values, target = result.relevance[0].sum(0).numpy(), int(result.target[0])
    scale = picture_scale(values, DEFAULT)
    named = {style: replace(DEFAULT, style=style) for style in ("overlay", "heatmap", "contour", "side-by-side")}
    named |= {f"outside {way}": replace(DEFAULT, outside=way) for way in ("crop", "plain")}
    panels = [Panel(draw(photo, values, box, style, scale), name) for name, style in named.items()]
    assert result.kept is not None
    with own_style():
        keep("styles", sheet([panels[:3], panels[3:]], side=2.6))
        keep("figure", explanation_figure(
            photo, values, box, PictureStyle(FIGURE), scale, label=model.labels[target],
            score=float(result.logits.softmax(1)[0, target]), kept=float(result.kept[0]),
        ))  # fmt: skip


def keep(name: str, figure: Figure) -> None:
    """A figure of docs/pictures."""
    (PICTURES / f"{name}.jpg").write_bytes(figure_bytes(figure, "jpeg", 85))


def save(name: str, drawn: Image.Image) -> None:
    """A picture of docs/pictures."""
    drawn.quantize(256).save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    variants()
    styles()
