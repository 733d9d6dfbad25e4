"""The windows of convolutions and pooling: kernel, stride, dilation, and what is padded on each side."""

from dataclasses import dataclass

import torch.nn.functional as F

from lrpcli.models.onnx.builder import OnnxBuilder, Symbol, ints
from lrpcli.models.onnx.net import OnnxNode


@dataclass(frozen=True)
class Window:
    """Along each axis of the image: size of the kernel, step, dilation, and padding before and behind."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    behind: tuple[int, ...]
    ceil: bool = False

    @property
    def even(self) -> bool:
        """Whether both sides are padded alike, as torch's own layers do it."""
        return self.before == self.behind

    @property
    def extent(self) -> tuple[int, ...]:
        """Pixels from the first to the last one that a window reads."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def pads(self) -> tuple[int, ...]:
        """As torch.nn.functional.pad takes them: last axis first."""
        pairs = reversed(list(zip(self.before, self.behind, strict=True)))
        return tuple(side for pair in pairs for side in pair)


def window_of(builder: OnnxBuilder, node: OnnxNode, plane: tuple[int, ...], kernel: tuple[int, ...] = ()) -> Window:
    """The window of a node that reads images of the size `plane`; `kernel` is that of its weights."""
    sizes = ints(node.get("kernel_shape") or kernel)
    if kernel and sizes != kernel:
        raise builder.unsupported(node, f"its kernel_shape {sizes} is not that of its weights, {kernel}")
    if len(sizes) != len(plane):
        raise builder.unsupported(node, f"its kernel has {len(sizes)} axes and what it reads {len(plane)}")
    ones = (1,) * len(plane)
    stride, dilation = ints(node.get("strides") or ones), ints(node.get("dilations") or ones)
    pads = ints(node.get("pads") or (0,) * (2 * len(plane)))
    if len(stride) != len(plane) or len(dilation) != len(plane) or len(pads) != 2 * len(plane) or min(pads) < 0:
        raise builder.unsupported(node, f"its strides {stride}, dilations {dilation} and pads {pads} fit no window")
    if min(*sizes, *stride, *dilation) < 1:
        raise builder.unsupported(
            node, f"its kernel {sizes}, strides {stride} or dilations {dilation} are not positive"
        )
    ceil = bool(node.get("ceil_mode", 0))
    mode = node.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return Window(sizes, stride, dilation, pads[: len(plane)], pads[len(plane) :], ceil)
    if mode == "VALID":
        return Window(sizes, stride, dilation, (0,) * len(plane), (0,) * len(plane), ceil)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise builder.unsupported(node, f"its auto_pad {mode!r} is not known")
    window = Window(sizes, stride, dilation, (), ())
    totals = [
        max((-(-size // step) - 1) * step + reach - size, 0)
        for size, step, reach in zip(plane, stride, window.extent, strict=True)
    ]
    small, large = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    before, behind = (small, large) if mode == "SAME_UPPER" else (large, small)
    return Window(sizes, stride, dilation, before, behind, ceil)


def check_padding(builder: OnnxBuilder, node: OnnxNode, source: Symbol, window: Window) -> None:
    """ModelError if the image with its borders asks for too much memory, however small the output is."""
    sides = zip(source.shape[2:], window.before, window.behind, strict=True)
    builder.check_padded((source.shape[1], *(side + before + behind for side, before, behind in sides)), node.name)


def padded(builder: OnnxBuilder, node: OnnxNode, source: Symbol, window: Window, value: float) -> Symbol:
    """What a node reads with its borders around it."""
    if not any(window.pads):
        return source
    result = builder.compute(node, F.pad, source, window.pads, "constant", value, part="pad")
    assert isinstance(result, Symbol)
    return result
