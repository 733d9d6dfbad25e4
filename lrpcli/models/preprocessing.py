"""Preprocessing as the user wants it: the model's own, with some of it replaced."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrpcli.errors import ModelError, suggestion

if TYPE_CHECKING:
    from lrpcli.images.preprocess import Preprocessing

CHOICES = ("resize", "channel_order", "pixel_scale", "mean", "std")


def adjust_preprocessing(default: "Preprocessing", overrides: Mapping[str, Any]) -> "Preprocessing":
    """The default with the fields named in `overrides` replaced.

    A `mean` may be numbers, an array (C, h, w), or the path of a .binaryproto or .npy file. Raises ModelError for an
    unknown field or a value that cannot be used.
    """
    for key in overrides:
        if key not in CHOICES:
            raise ModelError(
                f"Preprocessing has no option {key!r}; there are {', '.join(CHOICES)}.{suggestion(key, CHOICES)}"
            )
    changes = dict(overrides)
    try:
        if "mean" in changes:
            changes["mean"] = _mean(changes["mean"], default.size)
        return dataclasses.replace(default, **changes)
    except (ValueError, TypeError) as error:
        raise ModelError(f"This preprocessing does not fit the model: {error}") from error


def _mean(given: Any, size: tuple[int, int]) -> Any:
    """One number per channel, or a mean image (C, h, w) cropped to the model's input."""
    if isinstance(given, (str, Path)):
        from lrpcli.models.caffe.files import read_mean

        given = read_mean(given)
    values = np.asarray(given, dtype=np.float64)
    if values.ndim == 3:
        return centre_crop(values.astype(np.float32), size)
    return tuple(values.reshape(-1).tolist())


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
