"""Pooling layers and their relevance rules (docs/rules.md)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lrpcli.lrp.layers.products import GatedSum
from lrpcli.lrp.layers.reductions import AnyMaxPool, LinearMap, Mean, PoolByIndex
from lrpcli.lrp.operation import Operation, Relevances, Rule, Step, at_zeros, bias_treatment, safe_divide

Size = tuple[int, ...]


class MaxPool(AnyMaxPool):
    """Max pooling (N, C, H, W); ceil sizes clip the last window as Caffe does."""

    def __init__(self, kernel: Size, stride: Size, padding: Size, dilation: Size, ceil: bool) -> None:
        self.kernel, self.stride, self.padding, self.dilation, self.ceil = kernel, stride, padding, dilation, ceil

    def run(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Maxima and the flat index (in H x W) of the first maximum in row-major order."""
        return torch.ops.aten.max_pool2d_with_indices(  # type: ignore[no-any-return]
            inputs[0], self.kernel, self.stride, self.padding, self.dilation, self.ceil
        )

    def scatter(self, values: Tensor, winners: Tensor, shape: torch.Size) -> Tensor:
        """Each value (N, C, h, w) added to its winner in zeros of `shape` (N, C, H, W)."""
        result: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
            values, _template(winners, values, shape), self.kernel, self.stride, self.padding, self.dilation, self.ceil,
            winners,
        )  # fmt: skip
        return result

    def window_sum(self, x: Tensor) -> Tensor:
        """Sum of `x` over each window (padding holds nothing), and what scatters such sums back: see scatter_sum."""
        return functional.avg_pool2d(x, self.kernel, self.stride, self.padding, self.ceil, True, 1)

    def scatter_sum(self, sums: Tensor, shape: torch.Size) -> Tensor:
        """The transpose of window_sum: each window's value to each of its inputs."""
        template = sums.new_empty(1).expand(shape)
        result: Tensor = torch.ops.aten.avg_pool2d_backward(
            sums.contiguous(), template, self.kernel, self.stride, self.padding, self.ceil, True, 1
        )
        return result

    def describe(self) -> str:
        """Geometry for the layer table."""
        return f"{self.kernel[0]}x{self.kernel[1]} stride {self.stride[0]} pad {self.padding[0]}"


class AdaptiveMaxPool(AnyMaxPool):
    """Max pooling (N, C, H, W) to a fixed size."""

    def __init__(self, size: Any) -> None:
        self.size = size

    def averaging(self) -> "AdaptiveAveragePool":
        """See AnyMaxPool."""
        return AdaptiveAveragePool(self.size)

    def run(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Maxima (N, C, h, w) and their flat indices in H x W."""
        result: tuple[Tensor, Tensor] = functional.adaptive_max_pool2d(inputs[0], self.size, return_indices=True)
        return result

    def scatter(self, values: Tensor, winners: Tensor, shape: torch.Size) -> Tensor:
        """Each value (N, C, h, w) added to its winner in zeros of `shape` (N, C, H, W)."""
        template = _template(winners, values, shape)
        result: Tensor = torch.ops.aten.adaptive_max_pool2d_backward(values, template, winners)
        return result


def _template(winners: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """A tensor of `shape` in the memory format of the pooling's input, of which backward kernels read no number."""
    last = winners.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=values.dtype, device=values.device, memory_format=layout)


class AveragePool(Operation):
    """Average pooling (N, C, H, W)."""

    kind = "average-pool"

    def __init__(self, kernel: Size, stride: Size, padding: Size, ceil: bool, count_padding: bool, divisor: int | None):
        self.arguments = (kernel, stride, padding, ceil, count_padding, divisor)

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """Averages (N, C, h, w)."""
        return functional.avg_pool2d(inputs[0], *self.arguments), None

    def spread(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The transpose of `run`: (N, C, h, w) back to `shape`."""
        template = gradient.new_empty(1).expand(shape)
        result: Tensor = torch.ops.aten.avg_pool2d_backward(gradient.contiguous(), template, *self.arguments)
        return result

    def describe(self) -> str:
        """Geometry for the layer table."""
        kernel, stride, padding = self.arguments[:3]
        return f"{kernel[0]}x{kernel[1]} stride {stride[0]} pad {padding[0]}"


class AdaptiveAveragePool(Operation):
    """Average pooling to a fixed size."""

    kind = "average-pool"

    def __init__(self, size: Any) -> None:
        self.size = size

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """Averages (N, C, h, w)."""
        return functional.adaptive_avg_pool2d(inputs[0], self.size), None

    def spread(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The transpose of `run`."""
        template = gradient.new_empty(shape)
        result: Tensor = torch.ops.aten._adaptive_avg_pool2d_backward(gradient.contiguous(), template)
        return result


AnyAveragePool = AveragePool | AdaptiveAveragePool | Mean | LinearMap | GatedSum


@dataclass(frozen=True)
class Winner(Rule[AnyMaxPool]):
    """Winner takes all: R goes to the first maximum in row-major order; overlapping windows add."""

    needs = frozenset({"memo"})
    relevance_at_zero = "passes"

    def relevance(self, step: Step[AnyMaxPool], relevance: Tensor) -> Relevances:
        """Scatters R to the remembered winners."""
        assert step.memo is not None
        return (step.operation.scatter(relevance, step.memo, step.shapes[0]),)


@dataclass(frozen=True)
class MaxPoolAverage(Rule[AnyMaxPool]):
    """Max pooling treated as a sum: R is shared in proportion to the activations of the window, see in_proportion."""

    needs = frozenset({"inputs"})
    relevance_at_zero = "zero"
    bias: str = bias_treatment()

    def why_unfit(self, operation: AnyMaxPool) -> str:
        """Sums over windows with gaps are not written."""
        dilated = isinstance(operation, MaxPool) and operation.dilation != (1, 1)
        dilated = dilated or (isinstance(operation, PoolByIndex) and operation.average is None)
        return "Its windows are dilated, and only the rule 'winner' knows such windows." if dilated else ""

    def relevance(self, step: Step[AnyMaxPool], relevance: Tensor) -> Relevances:
        """R_i = sum_j x_i / (sum over window j of x) R_j."""
        (x,), layer = step.inputs, step.operation
        if isinstance(layer, MaxPool):
            spread = partial(layer.scatter_sum, shape=x.shape)
            return (in_proportion(x, relevance, layer.window_sum(x), layer.window_sum, spread, self.bias),)
        averaging: Any = layer.averaging()
        averaged = Step(averaging, step.shapes, (x,), averaging.run(x)[0])
        return Proportional(bias=self.bias).relevance(averaged, relevance)


@dataclass(frozen=True)
class Proportional(Rule[AnyAveragePool]):
    """The z-rule: R is shared in proportion to the inputs, of either sign, see in_proportion."""

    needs = frozenset({"inputs", "output"})
    relevance_at_zero = "zero"
    bias: str = bias_treatment()

    def relevance(self, step: Step[AnyAveragePool], relevance: Tensor) -> Relevances:
        """R_i = sum_j x_i / (n_j y_j) R_j; where y_j = 0 and biases are distributed, R_j / n_j."""
        layer, total = step.operation, step.output
        assert total is not None
        if isinstance(layer, GatedSum):
            x, gate = layer.parts(step.inputs)
            weigh, spread = partial(layer.weigh, gate=gate), partial(layer.weigh, gate=gate.mT)
            received = in_proportion(x, relevance, total, weigh, spread, self.bias).sum_to_size(x.shape)
            return (received, None) if layer.signal == 0 else (None, received)
        (x,) = step.inputs
        spread = partial(layer.spread, shape=x.shape)
        return (in_proportion(x, relevance, total, lambda x: layer.run(x)[0], spread, self.bias),)


def in_proportion(
    x: Tensor,
    relevance: Tensor,
    total: Tensor,
    add: Callable[[Tensor], Tensor],
    spread: Callable[[Tensor], Tensor],
    bias: str,
) -> Tensor:
    """R_i = sum_j w_ij x_i / y_j R_j for sums `total` y = add(x) of weights w, whose transpose is `spread`; 0/0 = 0.

    With bias = "distribute", what a bias or epsilon above left at a sum of 0 is shared by the weights alone.
    """
    received = x * spread(safe_divide(relevance, total))
    if bias == "distribute":
        received += spread(safe_divide(at_zeros(relevance, total), add(torch.ones_like(x))))
    return received
