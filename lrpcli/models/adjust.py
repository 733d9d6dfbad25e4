"""Preprocessing as the user wants it: the model's own, with some of it replaced."""

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrpcli.errors import ModelError

if TYPE_CHECKING:
    from lrpcli.images.preprocess import Preprocessing

CHOICES = ("resize", "channel_order", "pixel_scale", "mean", "std")


def adjust_preprocessing(default: "Preprocessing", overrides: Mapping[str, Any]) -> "Preprocessing":
    """The default with the fields named in `overrides` replaced; a `mean` may be numbers, an array (C, h, w), or the
    path of a .binaryproto or .npy file. Raises ModelError for an unknown field or an unusable value.
    """
    changes = dict(overrides)
    for key in changes:
        if key not in CHOICES:
            close = difflib.get_close_matches(key, CHOICES, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ModelError(f"Preprocessing has no option {key!r}; there are {', '.join(CHOICES)}.{hint}")
    if isinstance(changes.get("mean"), (str, Path)):
        from lrpcli.models.caffe.files import read_mean

        changes["mean"] = read_mean(changes["mean"])
    if isinstance(changes.get("mean"), np.ndarray) and changes["mean"].ndim == 3:
        changes["mean"] = centre_crop(changes["mean"], default.size)
    for key in ("mean", "std"):
        if isinstance(changes.get(key), (list, tuple)):
            changes[key] = tuple(float(value) for value in changes[key])
    if isinstance(changes.get("resize"), list):
        changes["resize"] = tuple(changes["resize"])
    try:
        return dataclasses.replace(default, **changes)
    except (ValueError, TypeError) as error:
        raise ModelError(f"This preprocessing does not fit the model: {error}") from error


def centre_crop(mean: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of a mean image (C, h, w), as Caffe crops it along with the photo; ModelError if it is too small."""
    height, width = mean.shape[1:]
    if height < size[0] or width < size[1]:
        raise ModelError(
            f"The mean image is {height} x {width} pixels (height x width) and smaller than the model's input, "
            f"{size[0]} x {size[1]}. Give the mean image that belongs to the model."
        )
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return np.ascontiguousarray(mean[:, top : top + size[0], left : left + size[1]])
