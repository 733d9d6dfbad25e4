"""How pictures look, as plain data. Imports nothing heavy."""

from dataclasses import dataclass

from lrpcli.errors import UsageError, require_one_of, suggestion
from lrpcli.setting import setting

FIGURE, SIDE_BY_SIDE = "figure", "side-by-side"
STYLES = ("overlay", "heatmap", SIDE_BY_SIDE, "contour", FIGURE)
DIM, CROP, PLAIN = OUTSIDE = ("dim", "crop", "plain")


@dataclass(frozen=True)
class PictureStyle:
    """How relevance becomes a picture; docs/pictures.md shows the choices and says why these are the defaults.

    `smooth` is the standard deviation of a Gaussian in per cent of the map's longer side; it touches the picture
    alone, never the map. `alpha` is the opacity of the strongest relevance. `outside` is what becomes of the part of
    the photo that the model did not see. UsageError for a style, colour map or outside that is not known.
    """

    style: str = setting("overlay", help="{choices}.", metavar="STYLE", choices=STYLES)
    cmap: str = setting("bwr", help="Diverging matplotlib colour map.", metavar="NAME")
    alpha: float = setting(0.9, help="Opacity of the strongest relevance.", metavar="0..1", least=0, most=1)
    smooth: float = setting(
        1.0, help="Blur of the picture, not of the map: sigma in per cent of the map's longer side.", metavar="PERCENT",
        least=0, most=50,
    )  # fmt: skip
    outside: str = setting(
        DIM, metavar="WAY", choices=OUTSIDE,
        help="What becomes of the part of the photo that the model did not see: {choices} (as it is).",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            hint = suggestion(self.style, STYLES)
            raise UsageError(f"The style {self.style!r} is not known.{hint} Choose one of {', '.join(STYLES)}.")
        require_one_of("outside", self.outside, OUTSIDE)
        from lrpcli.pictures.colours import lookup_table

        lookup_table(self.cmap)
