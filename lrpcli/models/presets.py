"""Preprocessing by name: the ways in which nets are fed that most of them share."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lrpcli.errors import ModelError, suggestion

if TYPE_CHECKING:
    from lrpcli.images.preprocess import Preprocessing

CAFFE_MEAN = (104.007, 116.669, 122.679)
"""Blue, green and red of BVLC's mean image of ImageNet."""
CROPPED = (224, 227)
"""Input sizes of Caffe's nets that are trained on crops of 256 x 256 pixels."""


def preset(name: str, size: tuple[int, int], channels: int) -> "Preprocessing":
    """The preprocessing of that name for a net that reads images of `size` (h, w).

    ModelError if there is none, or none for this number of channels.

    >>> from lrpcli.models.presets import preset
    >>> preset("imagenet", (224, 224), 3).describe()
    'shorter side 256, centre 224 x 224, RGB, 0..1, minus mean 0.485, 0.456, 0.406, divided by 0.229, 0.224, 0.225'
    >>> preset("raw", (28, 28), 1).describe()
    'whole photo squashed to 28 x 28, grey, 0..255'
    """
    if name not in PRESETS:
        raise ModelError(
            f"There is no preprocessing named {name!r}; there are {', '.join(PRESETS)}.{suggestion(name, PRESETS)}"
        )
    if channels != 3 and name in COLOURED:
        raise ModelError(
            f"The preprocessing {name!r} is for nets that read 3 channels, and this one reads {channels}. Choose "
            "another, or give --mean, --std and --pixel-scale."
        )
    return PRESETS[name](size, channels)


def caffe_crop(size: tuple[int, int]) -> tuple[int, int] | None:
    """What a photo is squashed to before `size` is cut from its centre; None: the whole photo is squashed to `size`."""
    return (256, 256) if size[0] == size[1] and size[0] in CROPPED else None


def _imagenet(size: tuple[int, int], channels: int) -> "Preprocessing":
    from lrpcli.images.preprocess import Preprocessing

    return Preprocessing(
        size, resize=round(max(size) * 256 / 224), pixel_scale=1 / 255,
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), channels=channels,
    )  # fmt: skip


def _caffe(size: tuple[int, int], channels: int) -> "Preprocessing":
    from lrpcli.images.preprocess import Preprocessing

    return Preprocessing(size, resize=caffe_crop(size), channel_order="BGR", mean=CAFFE_MEAN, channels=channels)


def _unit(size: tuple[int, int], channels: int) -> "Preprocessing":
    from lrpcli.images.preprocess import Preprocessing

    return Preprocessing(size, pixel_scale=1 / 255, channels=channels)


def _symmetric(size: tuple[int, int], channels: int) -> "Preprocessing":
    from lrpcli.images.preprocess import Preprocessing

    return Preprocessing(size, pixel_scale=1 / 255, mean=(0.5,), std=(0.5,), channels=channels)


def _raw(size: tuple[int, int], channels: int) -> "Preprocessing":
    from lrpcli.images.preprocess import Preprocessing

    return Preprocessing(size, channels=channels)


PRESETS: dict[str, Callable[[tuple[int, int], int], "Preprocessing"]] = {
    "imagenet": _imagenet,
    "caffe": _caffe,
    "unit": _unit,
    "symmetric": _symmetric,
    "raw": _raw,
}
"""Name -> what makes it for the size (h, w) and number of channels of an input; docs/own-net.md has them in words."""
COLOURED = ("imagenet", "caffe")
"""Those with a mean of three colours."""
