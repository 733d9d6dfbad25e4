"""How pictures of a result look: the command's options as keywords, checked as the command checks them."""

from collections.abc import Mapping
from typing import Any, TypedDict

from lrpcli.errors import UsageError, suggestion
from lrpcli.pictures.style import PictureStyle
from lrpcli.pipeline.settings import OutputSettings
from lrpcli.setting import Setting, settings_of


class Look(TypedDict, total=False):
    """Keywords of pictures, each as the option of `lrp explain`.

    `size` is --overlay-size (None: the model's grid), and `scale` the relevance that gets the full colour (None: that
    of the map itself); the rest are the options of that name.
    """

    style: str
    cmap: str
    alpha: float
    smooth: float
    outside: str
    size: int | None
    scale: float | None


USUAL_START = "logit"
STYLE = {item.name: details for item, details in settings_of(PictureStyle)}


def output_settings(look: Mapping[str, Any], picture_format: str = "png", quality: int | None = None) -> OutputSettings:
    """The command's settings for these keywords. UsageError for a keyword or a value that is not known."""
    chosen = dict(look)
    for name, value in chosen.items():
        if name not in Look.__annotations__:
            known = ", ".join(Look.__annotations__)
            raise UsageError(
                f"There is no {name!r} among the options of a picture.{suggestion(name, Look.__annotations__)} They "
                f"are {known}."
            )
        if name in STYLE:
            _check(name, value, STYLE[name])
    size = chosen.pop("size", OutputSettings.overlay_size)
    scale = chosen.pop("scale", None)
    _require_number("size", size, whole=True)
    _require_number("scale", scale)
    _require_number("quality", quality, whole=True)
    return OutputSettings(
        overlay_size=size, scale="image" if scale is None else scale, picture=PictureStyle(**chosen),
        picture_format=picture_format, quality=quality,
    )  # fmt: skip


def _check(name: str, value: object, details: Setting) -> None:
    """UsageError for a value of the wrong type or beyond its bounds."""
    if details.least is None and details.most is None:
        if not isinstance(value, str):
            raise UsageError(f"{name} is a text, not {value!r}.")
        return
    _require_number(name, value, required=True)
    least, most = details.least, details.most
    if not (least <= value <= most):  # type: ignore[operator]  # both are numbers by now
        raise UsageError(f"{name} is a number from {least:g} to {most:g}, not {value}.")


def _require_number(name: str, value: object, *, whole: bool = False, required: bool = False) -> None:
    """UsageError for what is no number; None is one that was left out."""
    kinds = (int,) if whole else (int, float)
    if (value is None and not required) or (isinstance(value, kinds) and not isinstance(value, bool)):
        return
    raise UsageError(f"{name} is a {'whole ' if whole else ''}number, not {value!r}.")


def start_in_words(start: str) -> str:
    """What the backward pass started from as the end of a line, nothing for the usual start."""
    return "" if start == USUAL_START else f", start {start}"
