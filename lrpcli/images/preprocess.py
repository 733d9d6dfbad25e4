"""Pixels of a photo -> input of a model: resize, crop, channel order, scale, mean."""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from lrpcli.errors import UsageError
from lrpcli.images.formats import INTERPOLATIONS, Interpolation
from lrpcli.images.placement import Placement

__all__ = ["Placement", "Preprocessing"]

Array = npt.NDArray[np.float32]
CropMode = Literal["center", "squash", "border"]
RESIZED = {None: "squashed to", "squash": "squashed to", "center": "resized to cover", "border": "resized to fit in"}
"""What is done to get a photo to a height and width, in words, by crop mode."""
WHOLE = 1 << 26
"""Pixels of a resized photo that are computed at most; of a longer one, only those that the crop keeps are."""


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """How a photo becomes the input of a model.

    A pixel p in 0..255 becomes (p * pixel_scale - mean) / std, with mean and std in the model's channel order.
    `size` is the model's (h, w). `resize` None squashes the whole photo to it; (height, width) squashes the photo to
    that and cuts `size` from the centre, as Caffe does; an integer makes the shorter side that long, keeps the aspect
    and cuts the centre, as torchvision does. `mean` and `std` hold one value per channel (one value alone stands for
    all); `mean` may also be an image (C, h, w). A model of one channel reads luminance. Two are the same if their
    fingerprints are. ValueError for values that cannot be used.
    """

    size: tuple[int, int]
    resize: int | tuple[int, int] | None = None
    channel_order: Literal["RGB", "BGR"] = "RGB"
    pixel_scale: float = 1.0
    mean: "tuple[float, ...] | npt.NDArray[Any]" = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: int = 3
    interpolation: Interpolation = "bilinear"
    crop_mode: CropMode | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _pair(self.size, "the model's input"))
        if self.resize is not None and not isinstance(self.resize, int):
            object.__setattr__(self, "resize", _pair(self.resize, "resize"))
        if not isinstance(self.channels, int) or self.channels < 1:
            raise ValueError(f"A model has at least one input channel, not {self.channels!r}.")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"The interpolation is {_either(INTERPOLATIONS)}, not {self.interpolation!r}.")
        self._check_crop()
        if self.channel_order not in ("RGB", "BGR"):
            raise ValueError(f"The channel order is RGB or BGR, not {self.channel_order!r}.")
        if not np.isfinite(self.pixel_scale) or self.pixel_scale == 0:
            raise ValueError(f"The pixel scale must be a number other than 0, not {self.pixel_scale!r}.")
        object.__setattr__(self, "mean", self._mean())
        object.__setattr__(self, "std", self._per_channel("std", self.std))
        if 0 in self.std:
            raise ValueError("The std of a channel is divided by and must not be 0.")
        with np.errstate(over="ignore", invalid="ignore"):
            extremes = self.pixel_range()
        if not np.isfinite(extremes).all():
            raise ValueError("With this pixel scale, mean and std the pixels 0 to 255 become numbers beyond"
                             " the range of float32.")  # fmt: skip

    def apply(self, image: Image.Image) -> tuple[Array, Placement]:
        """The input (C, h, w) of the model, float32, and where its grid lies on the photo.

        The photo is RGB and upright, as decode gives it. UsageError if the model's input is no picture.
        """
        if image.mode != "RGB":
            raise ValueError(f"The photo must be in mode RGB, not {image.mode}; lrpcli.images.decode gives that.")
        if self.channels not in (1, 3):
            raise UsageError(f"The model reads {self.channels} channels, but a photo has 3, or 1 when it is grey.")
        small = self._resize_and_crop(image)
        pixels = np.asarray(small if self.channels == 3 else small.convert("L"), dtype=np.float32)
        planes = pixels.reshape(*self.size, self.channels).transpose(2, 0, 1)  # (C, h, w)
        if self.channel_order == "BGR":
            planes = planes[::-1]
        return self._normalised(planes), self.placement(image.height, image.width)

    def placement(self, height: int, width: int) -> Placement:
        """Where the model's grid lies on a photo of this size."""
        (rows, columns), (left, top) = self._resized(height, width), self._corner(height, width)
        grid = (left, top, left + self.size[1], top + self.size[0])
        return Placement((height, width), _on_photo(grid, (height, width), (rows, columns)), self.size)

    def pixel_range(self) -> tuple[Array, Array]:
        """What the pixel values 0 and 255 become, each (C, 1, 1), or (C, h, w) with a mean image."""
        black = np.zeros((self.channels, 1, 1), dtype=np.float32)
        return self._normalised(black), self._normalised(black + 255)

    def describe(self) -> str:
        """The steps in one line for people."""
        steps = self._describe_crop()
        steps.append({1: "grey", 3: self.channel_order}.get(self.channels, f"{self.channels} channels"))
        steps.append(f"0..{255 * self.pixel_scale:g}")
        if isinstance(self.mean, np.ndarray):
            steps.append("minus a mean image")
        elif any(self.mean):
            steps.append(f"minus mean {_numbers(self.mean)}")
        if any(value != 1 for value in self.std):
            steps.append(f"divided by {_numbers(self.std)}")
        return ", ".join(steps)

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the input, as JSON values; a mean image by its shape and sha256."""
        mean: Any
        if isinstance(self.mean, np.ndarray):
            values = np.ascontiguousarray(self.mean, dtype="<f4")
            mean = {"shape": list(values.shape), "sha256": hashlib.sha256(values.tobytes()).hexdigest()}
        else:
            mean = list(self.mean)
        return {
            "size": list(self.size),
            "resize": list(self.resize) if isinstance(self.resize, tuple) else self.resize,
            "channel_order": self.channel_order,
            "pixel_scale": float(self.pixel_scale),
            "mean": mean,
            "std": list(self.std),
            "channels": self.channels,
            # Left out where they are the default, so that a run from before they existed goes on.
            **({} if self.interpolation == "bilinear" else {"interpolation": self.interpolation}),
            **({} if self.crop_mode is None else {"crop_mode": self.crop_mode}),
        }

    def _describe_crop(self) -> list[str]:
        """How the photo is resized, and what is cut from it."""
        height, width = self.size
        kind = "" if self.interpolation == "bilinear" else f" ({self.interpolation})"
        if self.resize is None:
            return [f"whole photo squashed to {height} x {width}{kind}"]
        if isinstance(self.resize, int):
            resized = f"shorter side {self.resize}{kind}"
        else:
            resized = f"{RESIZED[self.crop_mode]} {self.resize[0]} x {self.resize[1]}{kind}"
        ground = "" if not self._is_small() else " on the mean colour" if self.crop_mode == "border" else " on black"
        return [resized, f"centre {height} x {width}{ground}"]

    def _resize_and_crop(self, image: Image.Image) -> Image.Image:
        """The photo at the model's size, as an RGB image."""
        rows, columns = self._resized(image.height, image.width)
        left, top = self._corner(image.height, image.width)
        seen = (max(left, 0), max(top, 0), min(left + self.size[1], columns), min(top + self.size[0], rows))
        kind = Image.Resampling[self.interpolation.upper()]
        if self._is_caffes() or rows * columns > WHOLE:
            # Pillow filters with pixels beyond the box too; a pixel may differ by one grey level, as it rounds the box.
            box = _on_photo(seen, (image.height, image.width), (rows, columns))
            small = image.resize((seen[2] - seen[0], seen[3] - seen[1]), kind, box=box)
        else:
            small = image.resize((columns, rows), kind).crop(seen)
        if small.size == self.size[::-1]:
            return small
        ground = Image.new("RGB", self.size[::-1], self._ground())
        ground.paste(small, (seen[0] - left, seen[1] - top))
        return ground

    def _ground(self) -> tuple[int, int, int]:
        """RGB of what lies around a photo that is smaller than the model's input."""
        if self.crop_mode != "border":
            return 0, 0, 0
        divisor = self._divisor() or 1 / self.pixel_scale
        levels = [round(min(max(float(mean) * divisor, 0.0), 255.0)) for mean in self.mean]
        red, green, blue = (levels * 3)[:3] if self.channel_order == "RGB" else (levels * 3)[2::-1]
        return red, green, blue

    def _divisor(self) -> int | None:
        """What pixels are divided by, where that is a whole number, such as 255 for a scale of 1 / 255."""
        whole = round(1 / self.pixel_scale) if abs(self.pixel_scale) > 2**-24 else 0
        return whole if whole and self.pixel_scale == 1 / whole else None

    def _normalised(self, planes: Array) -> Array:
        mean = self.mean if isinstance(self.mean, np.ndarray) else np.array(self.mean, dtype=np.float32)[:, None, None]
        std = np.array(self.std, dtype=np.float32)[:, None, None]
        divisor = self._divisor()
        # Divided where that is possible, as torchvision does; the product could differ in its last digit.
        scaled = planes / np.float32(divisor) if divisor else planes * np.float32(self.pixel_scale)
        result = (scaled - mean) / std
        return np.ascontiguousarray(result, dtype=np.float32)

    def _is_caffes(self) -> bool:
        """Whether the photo is squashed and cut as Caffe does."""
        return self.crop_mode is None and not isinstance(self.resize, int)

    def _is_small(self) -> bool:
        """Whether a photo may be smaller than the model's input once it is resized."""
        if self.resize is None or self.crop_mode == "border":
            return self.resize is not None
        rows, columns = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        return rows < self.size[0] or columns < self.size[1]

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Size of the whole photo after resizing; rounded as torchvision and timm do."""
        if self.resize is None:
            return self.size
        if isinstance(self.resize, int):
            if height <= width:
                return self.resize, int(self.resize * width / height)
            return int(self.resize * height / width), self.resize
        if self.crop_mode not in ("center", "border"):
            return self.resize
        shrink = (min if self.crop_mode == "center" else max)(height / self.resize[0], width / self.resize[1])
        return max(round(height / shrink), 1), max(round(width / shrink), 1)

    def _corner(self, height: int, width: int) -> tuple[int, int]:
        """Left and top of the model's input on the resized photo; negative where it begins outside."""
        rows, columns = self._resized(height, width)
        return self._before(columns - self.size[1]), self._before(rows - self.size[0])

    def _before(self, pixels: int) -> int:
        """What lies before the centre crop when so many pixels are left over: torchvision rounds, Caffe cuts off."""
        if pixels < 0:
            return -(-pixels // 2)
        return pixels // 2 if self._is_caffes() else round(pixels / 2)

    def _check_crop(self) -> None:
        if self.crop_mode not in (None, *get_args(CropMode)):
            raise ValueError(f"The crop mode is {_either(get_args(CropMode))}, not {self.crop_mode!r}.")
        if self.resize is None and self.crop_mode is not None:
            raise ValueError(f"The crop mode {self.crop_mode!r} needs a size to resize to.")
        if isinstance(self.resize, int) and self.crop_mode in ("squash", "border"):
            raise ValueError(f"The crop mode {self.crop_mode!r} needs resize as (height, width), not {self.resize}.")
        if self.crop_mode == "border" and isinstance(self.mean, np.ndarray) and self.mean.ndim > 1:
            raise ValueError("The crop mode 'border' fills up with the mean colour, which a mean image does not have.")
        if self.crop_mode is None and self._is_small():
            raise ValueError(
                f"A photo resized to {self.resize} is smaller than the model's input, {self.size[0]} x {self.size[1]} "
                "(height x width), which is cut from it. Resize to at least that."
            )

    def _mean(self) -> "tuple[float, ...] | npt.NDArray[Any]":
        if not isinstance(self.mean, np.ndarray) or self.mean.ndim < 2:
            return self._per_channel("mean", self.mean)
        if self.mean.shape != (self.channels, *self.size):
            raise ValueError(
                f"The mean image has the shape {self.mean.shape}, but the model's input is "
                f"{(self.channels, *self.size)} (channels, height, width)."
            )
        image = np.array(self.mean, dtype=np.float32)
        if not np.isfinite(image).all():
            raise ValueError("The mean image holds values that are not finite.")
        image.flags.writeable = False
        return image

    def _per_channel(self, name: str, given: Any) -> tuple[float, ...]:
        values = tuple(float(value) for value in given)
        if len(values) not in (1, self.channels):
            raise ValueError(f"The {name} has {len(values)} values for a model of {self.channels} channels.")
        if not np.isfinite(values).all():
            raise ValueError(f"The {name} holds a value that is not finite: {_numbers(values)}.")
        return values if len(values) == self.channels else values * self.channels


def _pair(given: Any, what: str) -> tuple[int, int]:
    values = tuple(given)
    if len(values) != 2 or not all(isinstance(value, int) and value > 0 for value in values):
        raise ValueError(f"The size of {what} is (height, width) in whole pixels, not {given!r}.")
    return values[0], values[1]


def _on_photo(
    box: tuple[int, int, int, int], photo: tuple[int, int], resized: tuple[int, int]
) -> tuple[float, float, float, float]:
    """A box (left, top, right, bottom) of the resized photo in pixels of the photo; sizes are (height, width)."""
    (height, width), (rows, columns), (left, top, right, bottom) = photo, resized, box
    # Multiplied before divided: the far edge of the photo comes out exact.
    return left * width / columns, top * height / rows, right * width / columns, bottom * height / rows


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _numbers(values: tuple[float, ...]) -> str:
    """One number if all are the same."""
    return ", ".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))
