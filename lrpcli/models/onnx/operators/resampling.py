"""Operators that trade channels for pixels, or make an image larger or smaller."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from lrpcli.models.onnx.builder import OnnxBuilder, Symbol, axis_of, ints
from lrpcli.models.onnx.net import OnnxNode

SMOOTH = {"linear": {3: "linear", 4: "bilinear", 5: "trilinear"}, "cubic": {4: "bicubic"}}


def depth_to_space(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, block = builder.symbol(node), int(node.get("blocksize", 1))
    if node.get("mode", "DCR") == "CRD":
        builder.finish(node, builder.compute(node, F.pixel_shuffle, source, block))
        return
    _, channels, height, width = source.shape
    if channels % block**2:
        raise ValueError(f"{channels} channels are not a multiple of {block} x {block}")
    apart = (-1, block, block, channels // block**2, height, width)
    whole = (-1, channels // block**2, height * block, width * block)
    _through(builder, node, source, apart, (0, 3, 4, 1, 5, 2), whole)


def space_to_depth(builder: OnnxBuilder, node: OnnxNode) -> None:
    source, block = builder.symbol(node), int(node.get("blocksize", 1))
    _, channels, height, width = source.shape
    if height % block or width % block:
        raise ValueError(f"{height} x {width} pixels are not a multiple of {block}")
    apart = (-1, channels, height // block, block, width // block, block)
    whole = (-1, channels * block**2, height // block, width // block)
    order = (0, 1, 3, 5, 2, 4) if node.get("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    _through(builder, node, source, apart, order, whole)


def _through(
    builder: OnnxBuilder,
    node: OnnxNode,
    source: Symbol,
    apart: tuple[int, ...],
    order: tuple[int, ...],
    whole: tuple[int, ...],
) -> None:
    parts = builder.compute(node, torch.reshape, source, apart, part="apart")
    moved = builder.compute(node, torch.permute, parts, order, part="permute")
    builder.finish(node, builder.compute(node, torch.reshape, moved, whole))


def resize(builder: OnnxBuilder, node: OnnxNode) -> None:
    """Upsampling that torch does in the same way; all else is refused by name."""
    source = builder.symbol(node)
    rank, upsample = len(source.shape), node.operator == "Upsample"
    scales = builder.numbers(node, 1 if upsample or builder.net.opset < 11 else 2, "scales")
    sizes = None if upsample else builder.numbers(node, 3, "sizes")
    axes = [axis_of(axis, rank) for axis in ints(node.get("axes") or range(rank))]
    if len(sizes or scales or ()) != len(axes) or node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise builder.unsupported(node, "its new size is not said for every axis")
    if sizes:
        sizes = [sizes[axes.index(axis)] if axis in axes else side for axis, side in enumerate(source.shape)]
        factors = [n / s for n, s in zip(sizes, source.shape, strict=True)]
    else:
        factors = [float((scales or ())[axes.index(axis)]) if axis in axes else 1.0 for axis in range(rank)]
    if factors[:2] != [1.0, 1.0]:
        raise builder.unsupported(node, "it resizes more than the axes of the image")
    wanted = (
        tuple(int(n) for n in sizes[2:])
        if sizes
        else tuple(math.floor(side * factor) for side, factor in zip(source.shape[2:], factors[2:], strict=True))
    )
    mode = str(node.get("mode", "nearest"))
    place = (
        "asymmetric"
        if upsample or builder.net.opset < 11
        else str(node.get("coordinate_transformation_mode", "half_pixel"))
    )
    if mode == "nearest":
        _repeated(builder, node, source, wanted, place)
        return
    smooth = SMOOTH.get(mode, {}).get(rank)
    exact = all(f == w / s for f, w, s in zip(factors[2:], wanted, source.shape[2:], strict=True))
    cubic = mode != "cubic" or node.get("cubic_coeff_a", -0.75) == -0.75
    half = place in ("half_pixel", "pytorch_half_pixel") and min(wanted) > 1
    if not smooth or not exact or not cubic or node.get("antialias") or node.get("exclude_outside"):
        raise builder.unsupported(node, f"its way of resizing ({mode}, {place}) is not known")
    if not half and place != "align_corners":
        raise builder.unsupported(node, f"it places pixels by {place!r}")
    builder.finish(node, builder.compute(node, F.interpolate, source, wanted, mode=smooth, align_corners=not half))


def _repeated(builder: OnnxBuilder, node: OnnxNode, source: Symbol, wanted: tuple[int, ...], place: str) -> None:
    """Nearest neighbours where every pixel is repeated as often as every other, which all ways of counting agree on."""
    whole = all(target % side == 0 for target, side in zip(wanted, source.shape[2:], strict=True))
    rounding = str(node.get("nearest_mode", "floor" if node.operator == "Upsample" else "round_prefer_floor"))
    asymmetric = place == "asymmetric" and (rounding == "floor" or builder.net.opset < 11)
    half = place in ("half_pixel", "pytorch_half_pixel") and rounding in ("round_prefer_floor", "round_prefer_ceil")
    if not whole or not (asymmetric or half):
        raise builder.unsupported(node, f"its nearest neighbours ({place}, {rounding}) are not known")
    builder.finish(node, builder.compute(node, F.interpolate, source, wanted, mode="nearest"))


OPERATORS: dict[str, Callable[[OnnxBuilder, OnnxNode], None]] = {
    "DepthToSpace": depth_to_space,
    "Resize": resize,
    "SpaceToDepth": space_to_depth,
    "Upsample": resize,
}
