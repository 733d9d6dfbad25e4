"""The kinds of files that are written for an image: one line a kind. Imports nothing heavy until one is made."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lrpcli.errors import ImageError
from lrpcli.pictures.encode import FORMATS, picture_bytes
from lrpcli.pictures.style import FIGURE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lrpcli.pipeline.write import Product


@dataclass(frozen=True)
class Kind:
    """A kind of file: what `--save` calls it, the suffix of its name, and what makes its content.

    A `picture` needs the photo, is written after all that is none, and has that of its format behind its suffix;
    `layers`: it needs the relevance of each layer.
    """

    name: str
    suffix: str
    make: "Callable[[Product], bytes]"
    picture: bool = False
    layers: bool = False

    def ending(self, picture_format: str) -> str:
        """How the names of its files end, if pictures have this format.

        >>> from lrpcli.pipeline.kinds import KINDS
        >>> KINDS["overlay"].ending("jpeg"), KINDS["heatmap"].ending("webp"), KINDS["map"].ending("webp")
        ('.jpg', '.heatmap.webp', '.npy')
        """
        return self.suffix + (FORMATS[picture_format] if self.picture else "")


def _overlay(product: "Product") -> bytes:
    style = product.settings.picture.style
    return _figure(product) if style == FIGURE else _picture(product, style)


def _figure(product: "Product") -> bytes:
    from lrpcli.pictures.figure import explanation_figure, figure_bytes, own_style

    item, settings, explanation = product.item, product.settings, product.explanation
    assert item.photo is not None
    with own_style():
        figure = explanation_figure(
            item.photo, product.summed, item.box, settings.picture, product.scale,
            label=product.label, score=explanation.score, kept=explanation.kept, start=product.start,
        )  # fmt: skip
        return figure_bytes(figure, settings.picture_format, settings.quality)


def _heatmap(product: "Product") -> bytes:
    return _picture(product, "heatmap")


def _picture(product: "Product", style: str) -> bytes:
    from lrpcli.pictures.picture import draw

    item, settings = product.item, product.settings
    assert item.photo is not None
    picture = draw(item.photo, product.summed, item.box, replace(settings.picture, style=style), product.scale)
    return picture_bytes(picture, settings.picture_format, settings.quality)


def _map(product: "Product") -> bytes:
    from lrpcli.records.store import npy_bytes

    relevance = product.explanation.relevance if product.settings.channels == "keep" else product.summed
    if product.settings.map_space == "image":
        relevance = product.item.placement.to_image(relevance)
    return npy_bytes(_as_type(relevance, product))


def _layers(product: "Product") -> bytes:
    from lrpcli.records.store import npz_bytes

    layers = product.explanation.layers
    return npz_bytes({name: _as_type(values, product) for name, values in layers.items()})


def _layer_table(product: "Product") -> bytes:
    from lrpcli.pipeline.layer_flow import flow_csv

    return flow_csv(product.explanation.flow)


def _as_type(values: "NDArray[np.float32]", product: "Product") -> "NDArray[Any]":
    """Relevance in the type of --dtype; ImageError if it has no room for it."""
    from lrpcli.records.map_values import stored

    try:
        return stored(values, product.settings.dtype)
    except OverflowError as error:
        raise ImageError(
            "compute",
            f"The relevance of {product.item.source.path!r} is too large for --dtype {product.settings.dtype}. Take "
            "--dtype float32.",
        ) from error


KINDS = {
    kind.name: kind
    for kind in (
        Kind("overlay", "", _overlay, picture=True),
        Kind("heatmap", ".heatmap", _heatmap, picture=True),
        Kind("map", ".npy", _map),
        Kind("layers", ".layers.npz", _layers, layers=True),
        Kind("layer-table", ".layers.csv", _layer_table, layers=True),
    )
}


def in_writing_order(names: tuple[str, ...]) -> list[Kind]:
    """The kinds of these names: data, then pictures, so that a picture stands for a finished image."""
    order = list(KINDS)
    return sorted((KINDS[name] for name in names), key=lambda kind: (kind.picture, -order.index(kind.name)))
