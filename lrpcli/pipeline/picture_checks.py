"""Which styles, formats and sizes of pictures go together. Imports nothing heavy."""

from typing import TYPE_CHECKING

from lrpcli.errors import UsageError
from lrpcli.pictures.encode import LOSSY, VECTOR
from lrpcli.pictures.style import FIGURE

if TYPE_CHECKING:
    from lrpcli.pipeline.settings import OutputSettings

FIGURE_SIDE = 2048
"""Longest side of the pictures in a figure: on a page they are a few inches wide."""


def check_pictures(settings: "OutputSettings") -> None:
    """UsageError if the format of pictures does not go with their quality or what is drawn, or they are too large."""
    check_quality(settings.quality, settings.picture_format)
    style, name = settings.picture.style, settings.picture_format
    if name in VECTOR and style != FIGURE:
        raise UsageError(
            f"--picture-format {name} is for figures, and --style {style} draws pixels alone. Take --picture-format "
            "png, webp or jpeg, or --style figure."
        )
    if name in VECTOR and "heatmap" in settings.save:
        raise UsageError(
            f"--picture-format {name} is for figures, and --save heatmap writes pixels alone. Take --picture-format "
            "png, webp or jpeg, or leave heatmap out of --save."
        )
    if style == FIGURE and (settings.overlay_size or 0) > FIGURE_SIDE:
        raise UsageError(
            f"--style figure has room for pictures of {FIGURE_SIDE} pixels a side, and --overlay-size is "
            f"{settings.overlay_size}. Take a smaller one."
        )


def check_quality(quality: int | None, name: str) -> None:
    """UsageError for a quality of a format that has none, or out of its range."""
    if quality is None:
        return
    if name not in LOSSY:
        raise UsageError(
            f"--quality is of WebP and JPEG pictures, and --picture-format is {name}. Leave --quality out, or take "
            "--picture-format webp or jpeg."
        )
    if not 1 <= quality <= 100:
        raise UsageError(f"--quality must be 1 to 100, not {quality}.")
