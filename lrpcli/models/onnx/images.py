"""The input of an ONNX net as an image: its size, the order of its axes, and what its pixels are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lrpcli.errors import ModelError, UnsupportedLayer
from lrpcli.models.graph_builder import Shape
from lrpcli.models.model import check_input_shape
from lrpcli.models.onnx.net import OnnxInput, OnnxNet, in_words

if TYPE_CHECKING:
    from lrpcli.images.preprocess import Preprocessing

CHANNELS_LAST = (0, 2, 3, 1)
CHANNELS_FIRST = (0, 3, 1, 2)
COLOURS = (1, 3)
PIXELS: dict[str, tuple[int, Literal["RGB", "BGR"]]] = {"Gray8": (1, "RGB"), "Rgb8": (3, "RGB"), "Bgr8": (3, "BGR")}
"""What ONNX's metadata of images say of the channels: how many, and their order."""
RANGES = {
    "NominalRange_0_255": (1.0, 0.0, 1.0),
    "Normalized_0_1": (1 / 255, 0.0, 1.0),
    "Normalized_1_1": (1 / 255, 0.5, 0.5),
}
"""And of the numbers: pixel scale, mean, std."""


@dataclass(frozen=True)
class ImageInput:
    """The input of a net: `shape` is that of an image (C, H, W), `declared` that of a batch with the file's own axes.

    `order` makes the file's axes of (N, C, H, W), None where they are the same.
    """

    source: OnnxInput
    shape: tuple[int, int, int]
    declared: Shape
    order: Shape | None


def find_input(net: OnnxNet, given: tuple[int, int, int] | None) -> ImageInput:
    """The only input of a net, of the size `given` where the file leaves it open.

    Raises ModelError if there is none or several, if it is no image, if nobody says how large it is, or if `given` is
    another size than the file's.
    """
    if len(net.inputs) != 1:
        names = in_words(value.name for value in net.inputs) or "none"
        raise ModelError(
            f"{str(net.path)!r} reads {len(net.inputs)} inputs ({names}) on its way to {in_words(net.outputs)}; only "
            "nets with one image as input can be explained."
        )
    source = net.inputs[0]
    if not source.numbers or len(source.shape) != 4:
        raise UnsupportedLayer(
            f"The input {source.name!r} of {str(net.path)!r} is no batch of images: declared are "
            f"{len(source.shape)} axes {_in_words(source.shape)}, and 4 are known (N, C, H, W or N, H, W, C). Export a "
            "net that reads images."
        )
    last = _has_channels_last(net, source)
    shape = check_input_shape(_input_shape(net, source, last, given), str(net.path))
    channels, height, width = shape
    batch = source.shape[0] or 1
    if last:
        return ImageInput(source, shape, (batch, height, width, channels), CHANNELS_LAST)
    return ImageInput(source, shape, (batch, *shape), None)


def stated_preprocessing(net: OnnxNet, shape: tuple[int, int, int]) -> "Preprocessing | None":
    """What the metadata that ONNX defines for images say, if it is all that has to be known; None if it is not."""
    from lrpcli.images.preprocess import Preprocessing

    pixels = PIXELS.get(net.metadata.get("Image.BitmapPixelFormat", ""))
    numbers = RANGES.get(net.metadata.get("Image.NominalPixelRange", ""))
    usual = net.metadata.get("Image.ColorSpaceGamma", "SRGB") == "SRGB"
    if pixels is None or numbers is None or not usual or pixels[0] != shape[0]:
        return None
    scale, mean, std = numbers
    return Preprocessing(
        size=shape[1:], channel_order=pixels[1], pixel_scale=scale, mean=(mean,), std=(std,), channels=shape[0]
    )


def _has_channels_last(net: OnnxNet, source: OnnxInput) -> bool:
    """Whether an image has its channels last: by its sizes, or as all that reads it moves them to the front."""
    first, last = source.shape[1], source.shape[3]
    if (first in COLOURS) != (last in COLOURS):
        return last in COLOURS
    readers = [node for node in net.nodes if source.name in node.inputs]
    return bool(readers) and all(
        node.operator == "Transpose" and tuple(node.get("perm") or ()) == CHANNELS_FIRST for node in readers
    )


def _input_shape(
    net: OnnxNet, source: OnnxInput, last: bool, given: tuple[int, int, int] | None
) -> tuple[int, int, int]:
    _, first, second, third = source.shape
    channels, height, width = stated = (third, first, second) if last else (first, second, third)
    if given is not None:
        if any(side not in (None, own) for side, own in zip(stated, given, strict=True)):
            raise ModelError(
                f"{str(net.path)!r} reads images of {_in_words(stated)} (channels, height, width), and not "
                f"{_in_words(given)}. Leave its input shape out, or export it for other sizes."
            )
        return given
    if channels is None or height is None or width is None:
        raise ModelError(
            f"{str(net.path)!r} does not say how large an image it reads: {source.name!r} is "
            f"{_in_words(source.shape)}. Give its input shape as channels, height, width, for example 3,224,224 "
            "(--input-shape on the command line)."
        )
    return channels, height, width


def _in_words(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('?' if side is None else str(side) for side in shape)})"
