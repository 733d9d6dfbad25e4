"""Preprocessing as the user wants it: the model's own, all or some of it replaced, mean images read from files."""

import dataclasses
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np

from lrpcli.errors import ModelError, suggestion
from lrpcli.models.description import PRESET, PreprocessingChoice, PreprocessingFields
from lrpcli.models.presets import preset
from lrpcli.models.reading import MEMORY_LIMIT, name_damage, regular_size
from lrpcli.models.recognise import recognise

if TYPE_CHECKING:
    from lrpcli.images.preprocess import Preprocessing

CHOICES = tuple(PreprocessingFields.__annotations__)
STATING = ("mean", "std", "pixel_scale")
"""Fields of which one is enough for the rest to be taken as it is usual."""
CAFFE_SCALE = 1.0
"""Caffe's pixels run from 0 to 255 unless a file says otherwise; of other formats nobody can know."""
BINARYPROTO = "lrpcli.models.caffe.files:parse_mean"
"""Reads Caffe's mean images; by name, as formats build on this module and not the other way round."""
MEAN_HELP = "Give a mean image as .binaryproto or .npy."


def choose_preprocessing(
    chosen: PreprocessingChoice | None, default: "Preprocessing", *, known: bool
) -> "Preprocessing | None":
    """The chosen preprocessing for a model that would get `default`, which is `known` to be right or a mere guess.

    None where it stays unknown: no preset, mean, std or pixel scale was chosen either.
    Raises ModelError if it makes images of another size or number of channels, and as adjust_preprocessing does.
    """
    from lrpcli.images.preprocess import Preprocessing

    if isinstance(chosen, str):
        chosen = {PRESET: chosen}
    if chosen is None or isinstance(chosen, Mapping):
        return _adjusted(default, chosen or {}, known)
    if not isinstance(chosen, Preprocessing):
        from lrpcli.models.transforms import read_transforms

        chosen = read_transforms(chosen, default.size, default.channels)
    if chosen.size == default.size and chosen.channels == default.channels:
        return chosen
    raise ModelError(
        f"The preprocessing makes images of {chosen.channels} x {chosen.size[0]} x {chosen.size[1]} (channels, height, "
        f"width), but the model reads {default.channels} x {default.size[0]} x {default.size[1]}."
    )


def _adjusted(default: "Preprocessing", chosen: Mapping[str, Any], known: bool) -> "Preprocessing | None":
    base, changes = default, dict(chosen)
    if PRESET in changes:
        base = preset(str(changes.pop(PRESET)), default.size, default.channels)
    found = adjust_preprocessing(base, changes)
    if known or PRESET in chosen:
        return found
    stated = [field for field in STATING if field in changes]
    if stated and "pixel_scale" not in stated and default.pixel_scale != CAFFE_SCALE:
        raise ModelError(
            f"With --{' and --'.join(stated)} alone it is not known whether the net reads pixels as 0..255 or as 0..1. "
            "Give --pixel-scale too, 1 for 0..255 or 1/255 for 0..1, or a --preprocessing NAME to begin with."
        )
    return found if stated else None


def adjust_preprocessing(
    default: "Preprocessing", overrides: PreprocessingFields | Mapping[str, Any]
) -> "Preprocessing":
    """The default with the fields named in `overrides` replaced.

    A `mean` may be numbers, an array (C, h, w), or the path of a .binaryproto or .npy file. Raises ModelError for an
    unknown field or a value that cannot be used.
    """
    for key in overrides:
        if key not in CHOICES:
            raise ModelError(
                f"Preprocessing has no option {key!r}; there are {', '.join(CHOICES)}.{suggestion(key, CHOICES)}"
            )
    changes: dict[str, Any] = {**({"crop_mode": None} if "resize" in overrides else {}), **overrides}
    try:
        if "mean" in changes:
            changes["mean"] = _mean(changes["mean"], default.size)
        return dataclasses.replace(default, **changes)
    except (ValueError, TypeError) as error:
        raise ModelError(f"This preprocessing does not fit the model: {error}") from error


def read_mean_image(path: str | Path) -> np.ndarray:
    """Reads a mean image, .binaryproto or .npy, as float32 (C, h, w), channels as the net sees them (usually BGR).

    The format is recognised by the file's content. Raises ModelError if it cannot be read or is something else.
    """
    path = Path(path)
    try:
        if regular_size(path) > MEMORY_LIMIT:
            raise ModelError(f"The mean image {str(path)!r} is larger than 2 GiB. {MEAN_HELP}")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"The mean image {str(path)!r} cannot be read ({reason}).") from error
    found = recognise(data[:4096], len(data))
    if found is not None and found.name != "numpy":
        sentence = "it is text." if found.name == "text" else found.sentence
        raise ModelError(f"{str(path)!r} is no mean image: {sentence} {MEAN_HELP}")
    mean = _parse_binaryproto(data, path) if found is None else _parse_npy(data, path)
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3 or mean.shape[0] not in (1, 3) or not np.isfinite(mean).all():
        raise ModelError(
            f"The mean image {str(path)!r} has the shape {mean.shape}; expected are finite numbers in the shape "
            "(3, height, width) or (1, height, width)."
        )
    return mean


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


def _mean(given: Any, size: tuple[int, int]) -> tuple[float, ...] | np.ndarray:
    """One number per channel, or a mean image (C, h, w) cropped to the model's input."""
    if isinstance(given, (str, Path)):
        given = read_mean_image(given)
    values = np.asarray(given, dtype=np.float64)
    if values.ndim == 3:
        return centre_crop(values.astype(np.float32), size)
    return tuple(values.reshape(-1).tolist())


def _parse_npy(data: bytes, path: Path) -> np.ndarray:
    with name_damage(path, MEAN_HELP):
        _check_npy_size(data)
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False), dtype=np.float32)


def _check_npy_size(data: bytes) -> None:
    """ValueError if the header claims more numbers than there are, for which NumPy would set memory aside."""
    file = io.BytesIO(data)
    first = np.lib.format.read_magic(file) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    if math.prod(shape) * kind.itemsize > len(data):
        raise ValueError(f"it claims the shape {shape}, which is more than it holds")


def _parse_binaryproto(data: bytes, path: Path) -> np.ndarray:
    """Caffe's own format, and what is left where the content tells of no other."""
    parse: Callable[[bytes, Path, str], np.ndarray] = resolve_name(BINARYPROTO)
    return parse(data, path, MEAN_HELP)
