"""Options that several commands share, and what they become."""

import math
from collections.abc import Callable
from typing import Any

import click

from lrpcli.errors import UsageError

Decorated = Callable[..., Any]
VERBOSE = "lrpcli.verbose"
"""Key of the context's meta data that holds how often -v was given."""
UNSET = "unset"
"""Default of an option for which None is a value."""


def grouped(*options: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    """One decorator out of several, in the order in which --help shall list them."""

    def decorate(function: Decorated) -> Decorated:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


class Texts(click.types.StringParamType):
    """Text that can be given several times; in a variable, separated by commas."""

    envvar_list_splitter = ","


class Finite(click.FloatRange):
    """A number within bounds; FloatRange alone lets nan pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuses what is no number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


class Numbers(click.ParamType):  # type: ignore[type-arg]  # click before 8.4 takes no argument there
    """Numbers separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Refuses anything else."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} must be numbers separated by commas, such as 104,117,123.", param, ctx)


class Shape(click.ParamType):  # type: ignore[type-arg]
    """Channels, height and width."""

    name = "C,H,W"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        """Refuses anything but three whole numbers."""
        try:
            channels, height, width = (int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} must be channels, height and width, such as 3,227,227.", param, ctx)
        return channels, height, width


class Resize(click.ParamType):  # type: ignore[type-arg]
    """A side, height x width, or "none"."""

    name = "SIDE|HxW|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuses anything else."""
        text = str(value).lower()
        if text in ("none", UNSET):
            return None if text == "none" else UNSET
        sides = text.split("x")
        if len(sides) > 2 or not all(side.isdecimal() for side in sides):
            self.fail(f"{value!r} must be a side such as 256, height x width such as 256x256, or none.", param, ctx)
        return int(text) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


model_option = click.option(
    "--model",
    default="caffenet-small",
    show_default=True,
    metavar="NAME|FILE",
    help="A named model ('lrp models list') or a .caffemodel, .caffemodel.h5 or .safetensors file.",
)
model_options = grouped(
    click.option("--weights", metavar="FILE", help="Weights of a named model, in place of fetching them."),
    click.option("--prototxt", metavar="FILE", help="Net description of a .caffemodel that lacks it."),
    click.option("--labels", metavar="FILE", help="Class names, one a line."),
    click.option("--input-shape", type=Shape(), help="The net's input, where its files do not say."),
    click.option("--resize", type=Resize(), default=UNSET, show_default=False,
                 help="Before the centre crop: shorter side, squashed to HxW, or none to squash to the input."),
    click.option("--channel-order", metavar="RGB|BGR", help="Order of the colour channels that the net reads."),
    click.option("--pixel-scale", type=float, help="Factor of the pixels 0..255 before the mean."),
    click.option("--mean", metavar="NUMBERS|FILE", help="Mean per channel, or a mean image (.binaryproto, .npy)."),
    click.option("--std", type=Numbers(), help="What is divided by after the mean, per channel."),
)  # fmt: skip


def model_settings(name: str, values: dict[str, Any]) -> Any:
    """ModelSettings from the values of model_options, which are taken out of `values`."""
    from lrpcli.pipeline.settings import ModelSettings

    changes = {key: values.pop(key) for key in ("channel_order", "pixel_scale", "mean", "std")}
    preprocessing = {key: value for key, value in changes.items() if value is not None}
    resize = values.pop("resize")
    if resize != UNSET:
        preprocessing["resize"] = resize
    if "mean" in preprocessing:
        preprocessing["mean"] = _mean(preprocessing["mean"])
    files = {key: values.pop(key) for key in ("weights", "prototxt", "labels", "input_shape")}
    return ModelSettings(name, preprocessing=preprocessing, **files)


def _mean(text: str) -> tuple[float, ...] | str:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return text


def overlay_side(text: str) -> int | None:
    """--overlay-size: pixels, or None for "model"."""
    if text == "model":
        return None
    if not text.isdecimal():
        raise UsageError(f"--overlay-size must be a number of pixels or 'model', not {text!r}.")
    return int(text)


def colour_scale(text: str) -> str | float:
    """--scale: "image", "run" or a number larger than 0."""
    try:
        value = float(text)
    except ValueError:
        return text
    if not 0 < value < float("inf"):
        raise UsageError(f"--scale must be image, run, or a number larger than 0, not {text}.")
    return value


def verbosity(function: Decorated) -> Decorated:
    """-q and -v; how often -v was given is where the group's error handler finds it."""

    def remember(context: click.Context, parameter: click.Parameter, count: int) -> int:
        context.meta[VERBOSE] = count
        return count

    return grouped(
        click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but failures and errors."),
        click.option("-v", "--verbose", count=True, callback=remember, expose_value=False, is_eager=True,
                     help="More on stderr; -vv shows tracebacks."),
    )(function)  # fmt: skip
