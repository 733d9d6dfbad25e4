"""Convolutions and fully connected layers: z_j = sum_i w_ij x_i + b_j. Their rules are in linear_rules.

`apply` maps inputs to outputs with any kernel of the layer's shape, `spread` is its transpose: sum_j w_ij g_j for
every input i.
"""

import copy
from abc import abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from lrpcli.lrp.layers.cpu_products import product, transposed_product
from lrpcli.lrp.layers.strided_transpose import split_into_phases, spread_by_phases
from lrpcli.lrp.operation import Operation

SPARSE = 0.6
"""Entries of a gradient (N, D) that are not zero, as a share of D, below which reading only their rows is faster."""
BAGS = 8
"""Parts in which the rows of a single image are summed, for several threads."""
PREPARED = 32
"""Most things that are kept prepared for one layer: a few kernels, and sums for each size of input."""

T = TypeVar("T")


class Kernel:
    """A weight of a layer's shape; `phases` is what `spread` makes of it where that is faster."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.phases: Tensor | None = None


KERNELS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "signed": lambda weight, _: weight,
    "positive": lambda weight, _: weight.clamp(min=0),
    "negative": lambda weight, _: weight.clamp(max=0),
    "magnitude": lambda weight, _: weight.abs(),
    "squared": lambda weight, _: weight.square(),
    "ones": lambda weight, _: torch.ones_like(weight),
    "positive-favoured": lambda weight, gamma: weight + gamma * weight.clamp(min=0),
    "negative-favoured": lambda weight, gamma: weight + gamma * weight.clamp(max=0),
}
"""w, w+, w-, |w|, w^2, 1, w + gamma w+ and w + gamma w-."""


class LinearOperation(Operation):
    """A layer z = W x + b. What rules derive from the weight is prepared once, on first use, and kept."""

    def __init__(self, layer: _ConvNd | nn.Linear) -> None:
        self.weight = layer.weight.detach()
        self.bias = None if layer.bias is None else layer.bias.detach()
        self._prepared: dict[Hashable, Any] = {}

    @abstractmethod
    def apply(self, x: Tensor, kernel: Kernel, bias: Tensor | None = None) -> Tensor:
        """Outputs (N, D, ...) of inputs (N, C, ...)."""

    @abstractmethod
    def spread(self, gradient: Tensor, kernel: Kernel, shape: torch.Size) -> Tensor:
        """The transpose of `apply`: (N, D, ...) back to inputs of `shape` (N, C, ...)."""

    @abstractmethod
    def spread_evenly(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """`spread` with a kernel of ones, whose channels are alike: it needs but one of each group."""

    def input_counts(self, shape: torch.Size) -> Tensor:
        """How many inputs of an image of `shape` (N, C, ...) each output reads, (1, D, ...): padding is none."""
        return self.apply(self.weight.new_ones((1, *shape[1:])), self.kernel("ones"))

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """z, before any activation."""
        return self.apply(inputs[0], self.kernel("signed"), self.bias), None

    @property
    def outputs(self) -> int:
        """D, the channels of its outputs (N, D, ...)."""
        return self.weight.shape[0]

    def scaled(self, scale: Tensor, shift: Tensor) -> "LinearOperation":
        """This layer and a BatchNorm behind it as one, scale and shift (D,) in float64, as the result is."""
        result = copy.copy(self)
        result.weight = self.scaled_weight(scale)
        result.bias = shift if self.bias is None else self.bias.double() * scale + shift
        result._prepared = {}
        return result

    def scaled_weight(self, scale: Tensor) -> Tensor:
        """The weight with what leads to each output times its scale (D,)."""
        return self.weight.double() * scale.view(-1, *[1] * (self.weight.dim() - 1))

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Copies weight and bias and forgets what was prepared."""
        self.weight = self.weight.to(device, dtype, copy=True)
        self.bias = None if self.bias is None else self.bias.to(device, dtype, copy=True)
        self._prepared = {}

    def kernel(self, name: str, gamma: float = 0.0) -> Kernel:
        """The kernel of that name in KERNELS."""
        return self.prepare((name, gamma), lambda: Kernel(KERNELS[name](self.weight, gamma)))

    def prepare(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made once for each key; all is forgotten when inputs come in ever new sizes."""
        value: T | None = self._prepared.get(key)
        if value is None:
            if len(self._prepared) >= PREPARED:
                self._prepared.clear()
            value = self._prepared[key] = make()
        return value

    @property
    @abstractmethod
    def bias_shape(self) -> tuple[int, ...]:
        """Shape in which the bias is added to an output (N, D, ...)."""

    def positive_bias(self) -> Tensor | None:
        """The positive part of the bias (D,); None where the layer has none."""
        bias = self.bias
        return None if bias is None else self.prepare("positive bias", lambda: bias.clamp(min=0))

    def bias_magnitude(self) -> Tensor | None:
        """|b| (D,); None where the layer has no bias."""
        bias = self.bias
        return None if bias is None else self.prepare("bias magnitude", bias.abs)

    def with_bias(self, values: Tensor) -> Tensor:
        """Values of the shape of an output (N, D, ...) plus the bias."""
        return values if self.bias is None else values + self.bias.view(self.bias_shape)

    def without_bias(self, output: Tensor) -> Tensor:
        """z - b of an output z (N, D, ...)."""
        return output if self.bias is None else output - self.bias.view(self.bias_shape)


class Convolution(LinearOperation):
    """Convolution of one, two or three dimensions, transposed or not, with stride, padding, dilation and groups."""

    kind = "convolution"

    def __init__(self, layer: _ConvNd, padding: tuple[int, ...]) -> None:
        super().__init__(layer)
        self.stride, self.padding, self.dilation, self.groups = layer.stride, padding, layer.dilation, layer.groups
        self.transposed, self.output_padding = layer.transposed, layer.output_padding
        self.channels = layer.in_channels

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """See LinearOperation; on a processor, with channels last, in which every layer from here on then computes."""
        super().to(device, dtype)
        if device.type == "cpu" and self.weight.dim() == 4:
            self.weight = self.weight.contiguous(memory_format=torch.channels_last)

    def apply(self, x: Tensor, kernel: Kernel, bias: Tensor | None = None) -> Tensor:
        """See LinearOperation."""
        return torch.convolution(
            x, kernel.weight, bias, self.stride, self.padding, self.dilation, self.transposed, self.output_padding,
            self.groups,
        )  # fmt: skip

    def spread(self, gradient: Tensor, kernel: Kernel, shape: torch.Size) -> Tensor:
        """See LinearOperation; the library's own backward-data kernel, or phases where that one is slow."""
        if kernel.weight.is_contiguous(memory_format=torch.channels_last):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        if self._in_phases():
            if kernel.phases is None:
                kernel.phases = split_into_phases(kernel.weight, self.stride[0])
            return spread_by_phases(gradient, kernel.phases, self.stride[0], self.padding, shape)
        template = gradient.new_empty(1).expand(shape)  # the kernel reads only its shape
        result: Tensor = torch.ops.aten.convolution_backward(
            gradient, template, kernel.weight, None, self.stride, self.padding, self.dilation, self.transposed,
            self.output_padding, self.groups, [True, False, False],
        )[0]  # fmt: skip
        return result

    def spread_evenly(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """See LinearOperation: the groups' sums through kernels of one channel."""
        images, channels, *sides = shape
        sums = gradient.view(images, self.groups, -1, *gradient.shape[2:]).sum(2)
        ones = self.weight.new_ones((self.groups, 1, *self.weight.shape[2:]))
        template = sums.new_empty(1).expand(images, self.groups, *sides)
        each: Tensor = torch.ops.aten.convolution_backward(
            sums, template, ones, None, self.stride, self.padding, self.dilation, self.transposed, self.output_padding,
            self.groups, [True, False, False],
        )[0]  # fmt: skip
        return each.repeat_interleave(channels // self.groups, 1)

    @property
    def outputs(self) -> int:
        """See LinearOperation; a transposed one's weight is (C, D / groups, ...)."""
        return self.weight.shape[1] * self.groups if self.transposed else self.weight.shape[0]

    def scaled_weight(self, scale: Tensor) -> Tensor:
        """See LinearOperation."""
        if not self.transposed:
            return super().scaled_weight(scale)
        inputs, outputs, *kernel = self.weight.shape
        grouped = self.weight.double().view(self.groups, inputs // self.groups, outputs, *kernel)
        by_group = scale.view(self.groups, 1, outputs, *[1] * len(kernel))
        return (grouped * by_group).view(self.weight.shape)

    def _in_phases(self) -> bool:
        """Whether the layer reads few channels with a stride, as first layers do, on a processor."""
        return (
            self.weight.device.type == "cpu"
            and self.weight.dim() == 4
            and not self.transposed
            and self.groups == 1
            and tuple(self.dilation) == (1, 1)
            and self.stride[0] == self.stride[1] > 1
            and self.channels <= 4
        )

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """(D, 1, ...), for outputs (N, D, ...)."""
        return (-1,) + (1,) * (self.weight.dim() - 2)

    def describe(self) -> str:
        """Geometry for the layer table."""
        size = "x".join(map(str, self.weight.shape[2:]))
        text = f"{self.channels}->{self.outputs} {size} stride {_short(self.stride)} pad {_short(self.padding)}"
        text += f" dilation {_short(self.dilation)}" if any(d != 1 for d in self.dilation) else ""
        return text + (f" groups {self.groups}" if self.groups > 1 else "")


class FullyConnected(LinearOperation):
    """Fully connected layer over the last axis: (N, ..., C) to (N, ..., D)."""

    kind = "fully-connected"
    folded = False

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)

    def scaled(self, scale: Tensor, shift: Tensor) -> LinearOperation:
        """See LinearOperation."""
        result = super().scaled(scale, shift)
        assert isinstance(result, FullyConnected)
        result.folded = True
        return result

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """See LinearOperation; ValueError where a folded BatchNorm does not run over the last axis."""
        if self.folded and inputs[0].dim() != 2:
            raise ValueError("a BatchNorm was folded into it, which works for inputs (N, C) alone")
        return super().run(*inputs)

    def apply(self, x: Tensor, kernel: Kernel, bias: Tensor | None = None) -> Tensor:
        """See LinearOperation."""
        return product(x, kernel.weight, bias)

    def spread(self, gradient: Tensor, kernel: Kernel, shape: torch.Size) -> Tensor:
        """See LinearOperation; reads only the rows of the weight that meet a gradient, if those are few."""
        if gradient.dim() == 2 and gradient.device.type == "cpu":
            places = gradient.nonzero()
            if 0 < len(places) < SPARSE * gradient.shape[1]:
                return _spread_rows(gradient, places, kernel.weight)
        return transposed_product(gradient, kernel.weight)

    def spread_evenly(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """See LinearOperation."""
        return gradient.sum(-1, keepdim=True).expand(shape)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """(D,)."""
        return (-1,)

    def describe(self) -> str:
        """Sizes for the layer table."""
        return f"{self.weight.shape[1]}->{self.weight.shape[0]}"


def _spread_rows(gradient: Tensor, places: Tensor, weight: Tensor) -> Tensor:
    """gradient @ weight for a gradient (N, D) that is zero but at `places` (M, 2).

    A product of few images with a large matrix takes the time to read the matrix. ReLUs leave few outputs that have
    relevance, the start relevance leaves one.
    """
    images, rows = places.unbind(1)
    if len(gradient) > 1:
        starts = torch.searchsorted(images, torch.arange(len(gradient), device=rows.device))
    else:
        starts = torch.arange(0, len(rows), -(-len(rows) // BAGS), device=rows.device)
    scales = gradient[images, rows]
    sums: Tensor = functional.embedding_bag(rows, weight, starts, mode="sum", per_sample_weights=scales)
    return sums if len(gradient) > 1 else sums.sum(0, keepdim=True)


def _short(sizes: tuple[int, ...]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))
