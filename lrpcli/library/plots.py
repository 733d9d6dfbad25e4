"""Results on axes and in figures of matplotlib: pyplot's where the program uses that, figures of our own elsewhere."""

import base64
import io
import sys
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrpcli.errors import UsageError
from lrpcli.library.looks import start_in_words
from lrpcli.pictures.figure import UNITS, explanation_figure, own_style, score_in_words
from lrpcli.pictures.panels import map_panel, plain
from lrpcli.pictures.style import FIGURE
from lrpcli.pipeline.layer_flow import LayerFlow
from lrpcli.pipeline.write import Product

MOST_ROWS = 40
"""Layers that a plot has room for."""
PASSING = 0.002
"""Share of the start below which a layer that has no weights counts as one that hands everything on."""
WEIGHTED = ("convolution", "fully-connected", "lrn")
"""Kinds of layers that are shown whatever they absorb."""
NAMED_CHANNELS = 3
ABOVE_LEGEND = 22
"""Points between axes and their title, for a legend to stand there."""
LEFT, TAKEN, ADDED, AGAINST = "#b2182b", "#bdbdbd", "#f4a582", "#2166ac"
"""Colours: relevance that is left, that a layer took, that it added, and what speaks against the class."""


class Plot(Figure):
    """A figure that shows itself in a notebook: once, also where pyplot would show it again at the end of the cell."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None and getattr(self, "number", None) in pyplot.get_fignums():
            if "inline" not in pyplot.get_backend():
                return  # a window shows it
            pyplot.close(self)
        picture = base64.b64encode(self._repr_png_()).decode()
        display({"image/png": picture, "text/plain": repr(self)}, raw=True)


def _new_plot() -> Plot:
    """An empty figure, which pyplot knows if the program has imported pyplot."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return Plot()
    figure: Plot = pyplot.figure(FigureClass=Plot)
    return figure


def drawn_figure(product: Product) -> Plot:
    """Photo, overlay, colour bar and class in a new figure, as --style figure draws them."""
    item, explanation = product.item, product.explanation
    assert item.photo is not None
    figure = _new_plot()
    with own_style():
        explanation_figure(
            item.photo, product.summed, item.box, product.settings.picture, product.scale, label=product.label,
            score=explanation.score, kept=explanation.kept, start=product.start, figure=figure,
        )  # fmt: skip
    return figure


def drawn_map(ax: Axes, product: Product) -> Axes:
    """The map on its photo, on axes under the class, its score and kept share. UsageError for what are no axes."""
    _require_axes(ax)
    item, style = product.item, product.settings.picture
    assert item.photo is not None
    if style.style == FIGURE:
        raise UsageError("The style 'figure' takes a figure of its own: leave out the axes.")
    map_panel(ax, item.photo, product.summed, item.box, style, product.scale)
    _title(ax, product)
    return ax


def _title(ax: Axes, product: Product) -> None:
    said = score_in_words(product.explanation.score, product.explanation.kept) + start_in_words(product.start)
    ax.set_title(f"{plain(product.label)}\n{said}", fontsize="medium", parse_math=False)


def _require_axes(ax: Any) -> None:
    if not isinstance(ax, Axes):
        raise UsageError(
            f"A plot goes onto one Axes of matplotlib, such as pyplot.gca() or axes[0] of pyplot.subplots(1, 2), not "
            f"onto an object of type {type(ax).__name__}."
        )


def drawn_layers(ax: Axes | None, rows: Sequence[LayerFlow], product: Product) -> Axes | Plot:
    """Where relevance goes, on given axes or in a new figure: a bar for each layer, from the logits down to the pixels.

    With a start that is a score of the class: the share that is left below a layer, and what the layer took or added.
    Else the sums of what speaks for the class and against it.
    """
    if ax is not None:
        _require_axes(ax)
        _draw_layers(ax, rows, product)
        return ax
    figure = _new_plot()
    with own_style():
        figure.set_size_inches(7.0, 1.3 + 0.22 * len(_shown(rows)[0]))
        figure.set_layout_engine("constrained")
        _draw_layers(figure.add_subplot(), rows, product)
    return figure


def _draw_layers(ax: Axes, rows: Sequence[LayerFlow], product: Product) -> None:
    shown, hidden = _shown(rows)
    places = range(len(shown))
    if rows[-1].kept is None:
        ax.barh(places, [row.positive for row in shown], color=LEFT, label="for the class")
        ax.barh(places, [row.negative for row in shown], color=AGAINST, label="against it")
        ax.set_xlabel(f"relevance at the layer's output ({UNITS.get(product.start, product.start)})")
    else:
        _draw_shares(ax, shown, product.explanation.start)
        ax.set_xlabel(f"share of the start, a {product.start} of {product.explanation.start:.3g}, in %")
    ax.axvline(0, color="black", linewidth=0.6)
    ax.set_yticks(places, [plain(row.name) for row in shown], fontsize="small", parse_math=False)
    ax.set_ylim(len(shown) - 0.4, -0.6)  # the logits on top
    channels = ax.secondary_yaxis("right")
    channels.set_yticks(places, [_channels(row) for row in shown], fontsize="x-small", color="0.35")
    channels.tick_params(length=0)
    channels.set_ylabel("channels with the most positive relevance", fontsize="x-small", color="0.35")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    channels.spines["right"].set_visible(False)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize="small", borderaxespad=0.2)
    note = f" ({hidden} layers that took less are left out)" if hidden else ""
    title = f"{plain(product.label)}: from the score to the pixels{note}"
    ax.set_title(title, fontsize="medium", loc="left", pad=ABOVE_LEGEND, parse_math=False)


def _draw_shares(ax: Axes, shown: Sequence[LayerFlow], start: float) -> None:
    """What is left below each layer, and beside it what the layer took, or within it what it added."""
    places = range(len(shown))
    left = [100 * (row.kept or 0.0) for row in shown]
    taken = [100 * row.absorbed / start for row in shown]
    ax.barh(places, left, color=LEFT, label="left below the layer")
    ax.barh(places, [max(share, 0) for share in taken], left=left, color=TAKEN, label="taken by its bias and epsilon")
    added = [min(share, 0) for share in taken]
    if min(added) < -100 * PASSING:
        ax.barh(places, added, left=left, color=ADDED, label="added by them")


def _shown(rows: Sequence[LayerFlow]) -> tuple[list[LayerFlow], int]:
    """The layers that a plot shows, and how many others took something: without those that hand everything on."""
    largest = max((abs(row.total) for row in rows), default=0.0)
    telling = [row for row in rows[:-1] if row.kind in WEIGHTED or abs(row.absorbed) > PASSING * largest]
    chosen = sorted(telling, key=lambda row: -abs(row.absorbed))[: MOST_ROWS - 1]
    kept = {row.name for row in chosen}
    return [*(row for row in telling if row.name in kept), rows[-1]], len(telling) - len(chosen)


def _channels(row: LayerFlow) -> str:
    return ", ".join(str(channel) for channel, _ in row.channels[:NAMED_CHANNELS])
