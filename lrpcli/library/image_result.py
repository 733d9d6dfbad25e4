"""The map of one image for one class, and all that can be made of it: pictures, figures, files, a table of layers."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lrpcli.errors import UsageError
from lrpcli.images.placement import Placement
from lrpcli.library.again import Again
from lrpcli.library.looks import Look, output_settings, start_in_words
from lrpcli.paths import require_path
from lrpcli.pictures.encode import FORMATS, VECTOR
from lrpcli.pictures.picture import picture_scale
from lrpcli.pictures.style import FIGURE, PictureStyle
from lrpcli.pipeline.explain import Explanation
from lrpcli.pipeline.kinds import KINDS
from lrpcli.pipeline.layer_flow import LayerFlow
from lrpcli.pipeline.settings import OutputSettings
from lrpcli.pipeline.write import Product
from lrpcli.records.explained import TopClass
from lrpcli.records.store import npy_bytes, write_whole
from lrpcli.records.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lrpcli.library.plots import Plot

SUFFIXES = {**{suffix: name for name, suffix in FORMATS.items()}, ".jpeg": "jpeg"}
"""Format of a picture by the suffix of its file, in lower case."""
MAP = ".npy"
OVERLAY = PictureStyle.style


@dataclass(frozen=True, eq=False, repr=False)
class ImageResult:
    """The explanation of one image for one class, as `explain` gives it.

    Relevance is in units of what the backward pass started from: the logit of the class, unless `start` names another
    start. In a notebook it shows itself as a figure.

    >>> import lrpcli
    >>> result = lrpcli.explain("cat.jpg", "cifar10", target="cat")
    >>> result
    <ImageResult cat.jpg: cat (3), score ... %, kept ... %>
    >>> result.relevance.shape, result.map.shape, result.map.dtype
    ((3, 32, 32), (32, 32), dtype('float32'))
    >>> result.placement.to_image(result.map).shape  # on the pixels of the photo, same total
    (300, 451)
    >>> result.overlay(style="heatmap", cmap="PiYG").mode
    'RGB'
    >>> for name in ("cat.png", "cat.pdf", "cat.npy"):
    ...     result.save(name)
    """

    source: str
    """The path of the image, or "image 3": the third that was given."""
    target: int
    """The class that is explained: the index of the output, from 0."""
    label: str
    """Its name; "class 3" where no labels are known."""
    score: float
    """Its probability, 0..1."""
    kept: float | None
    """The share of the start that reached the pixels; None for starts that are not a score of the class."""
    start: str
    """What the backward pass started from: logit, probability and so on."""
    top: tuple[TopClass, ...]
    """The best classes, five at most, each with target, label and score."""
    relevance: NDArray[np.float32]
    """(C, h, w), on the model's input grid."""
    map: NDArray[np.float32]
    """(h, w): channels summed, what the command writes as .npy."""
    placement: Placement
    """Where that grid lies on the photo."""
    exploded: bool
    """Whether single relevances are over a million times the start, so that the map is mostly rounding."""
    _explanation: Explanation
    _again: Again
    others: "tuple[ImageResult, ...]" = ()
    """The results of further classes that were asked for, such as the second and third of "top3"."""

    def __repr__(self) -> str:
        kept = "" if self.kept is None else f", kept {100 * self.kept:.0f} %"
        what = (
            f"{one_line(self.label)} ({self.target}), score {100 * self.score:.0f} %{kept}{start_in_words(self.start)}"
        )
        more = f", and {len(self.others)} more" if self.others else ""
        return f"<ImageResult {one_line(self.source)}: {what}{more}>"

    @property
    def classes(self) -> "tuple[ImageResult, ...]":
        """This result and those of the other classes that were asked for."""
        return (self, *self.others)

    @property
    def scale(self) -> float:
        """The relevance per pixel of the model's grid that gets the full colour, where no other scale is given.

        One scale for several pictures: `scale=max(result.scale for result in results)`.
        """
        return picture_scale(self.map, PictureStyle())

    def overlay(self, **look: Unpack[Look]) -> Image.Image:
        """The picture that `lrp explain` writes, in mode RGB: the photo in grey with the relevance in colour.

        Keywords are the command's options: `style` (overlay, heatmap, side-by-side, contour, figure), `cmap`, `alpha`,
        `smooth`, `outside`, `size` for --overlay-size, and `scale`, the relevance that gets the full colour.
        UsageError for one that does not exist, or a value that cannot be used; ImageError if the file of the photo has
        changed and another `size` is asked for.
        """
        import io

        content = self._content(output_settings(look))
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            return picture.convert("RGB")

    @overload
    def plot(self, ax: "Axes", **look: Unpack[Look]) -> "Axes": ...

    @overload
    def plot(self, ax: None = None, **look: Unpack[Look]) -> "Plot": ...

    def plot(self, ax: "Axes | None" = None, **look: Unpack[Look]) -> "Axes | Plot":
        """The map on matplotlib's axes `ax`, which it gives back; or a new figure: photo, overlay, colour bar, class.

        A new figure is one of pyplot, for plt.show(), where the program has imported that, and one of its own
        otherwise. Keywords as for `overlay`.
        """
        from lrpcli.library.plots import drawn_figure, drawn_map

        settings = output_settings(look)
        if ax is not None:
            return drawn_map(ax, self._product(settings))
        if settings.picture.style not in (OVERLAY, FIGURE):
            raise UsageError(f"A new figure shows the photo and its overlay. Give axes to draw {look['style']!r} on.")
        return drawn_figure(self._product(output_settings({**look, "style": FIGURE})))

    def save(self, path: str | Path, *, quality: int | None = None, **look: Unpack[Look]) -> None:
        """Writes a file, whole or not at all, by the suffix of its name; a file that is there is replaced.

        .png, .jpg and .webp are the picture of `overlay`, .pdf and .svg the figure of `plot`, and .npy is the map.
        Keywords as for `overlay`; `quality` (1 to 100) is that of .jpg and .webp. UsageError for another suffix,
        ImageError or OutputError if it cannot be written.
        """
        require_path(path, "The file")
        place = Path(path)
        suffix = place.suffix.lower()
        if suffix == MAP:
            if look or quality is not None:
                raise UsageError(f"{MAP} holds the map as it is, so that no options of a picture go with it.")
            write_whole(place, npy_bytes(self.map))
            return
        if suffix not in SUFFIXES:
            known = ", ".join(SUFFIXES)
            raise UsageError(f"{str(path)!r} cannot be written: its name must end in {known} for pictures, or {MAP}.")
        if SUFFIXES[suffix] in VECTOR:
            look = {"style": FIGURE, **look}
        write_whole(place, self._content(output_settings(look, SUFFIXES[suffix], quality)))

    def layer_table(self) -> list[LayerFlow]:
        """A row for each layer, from the logits down to the pixels: what relevance it got, absorbed, and where it went.

        Computed anew on first use, in one more pass. A list of dataclasses, which pandas.DataFrame takes as it is.
        """
        return list(self._flow)

    def layers(self) -> dict[str, NDArray[np.float32]]:
        """The relevance at the output of each layer by its name, without the axis of the batch; one more pass."""
        return self._again.layers(self.target).layers

    @overload
    def plot_layers(self, ax: "Axes") -> "Axes": ...

    @overload
    def plot_layers(self, ax: None = None) -> "Plot": ...

    def plot_layers(self, ax: "Axes | None" = None) -> "Axes | Plot":
        """Where relevance goes, from the logits to the pixels: the share that is left, and what each layer absorbed.

        On given axes, or in a new figure, as `plot`.
        """
        from lrpcli.library.plots import drawn_layers

        return drawn_layers(ax, self.layer_table(), self._product(OutputSettings()))

    @cached_property
    def _flow(self) -> list[LayerFlow]:
        return self._again.layers(self.target).flow

    def _repr_png_(self) -> bytes:
        return self._content(output_settings({"style": FIGURE}))

    def _content(self, settings: OutputSettings) -> bytes:
        """The picture as a file of the command, by these settings."""
        return KINDS["overlay"].make(self._product(settings))

    def _product(self, settings: OutputSettings) -> Product:
        item = self._again.item(settings)
        scale = settings.scale
        if scale == "run":
            raise UsageError("scale is a number, the relevance that gets the full colour; see ImageResult.scale.")
        if isinstance(scale, str):
            scale = picture_scale(self.map, settings.picture)
        return Product(item, self._explanation, self.map, scale, settings, self.label, self.start)
