"""Products with gates, quotients, and functions without a rule of their own, which may only gate."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lrpcli.lrp.layers.call import FunctionOperation
from lrpcli.lrp.operation import Operation, Relevances, Rule, Step


class Product(Operation):
    """Elementwise product of two inputs; `signal` is the index of the signal, None if both are signals."""

    kind = "product"

    def __init__(self, signal: int | None) -> None:
        self.signal = signal

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """signal * gate."""
        return inputs[0] * inputs[1], None

    def receivers(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """The signal."""
        return inputs if self.signal is None else (inputs[self.signal],)


class Quotient(Product):
    """Elementwise quotient of a signal and a positive function of it, such as x / (1 + exp(-x)) or x / |x|."""

    def __init__(self) -> None:
        super().__init__(0)

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """signal / divisor."""
        return inputs[0] / inputs[1], None


class Silent(FunctionOperation):
    """A function without a rule of its own: it may make gates and divisors, and is refused where relevance arrives."""

    kind = "gate"

    def __init__(self, function: Callable[..., Tensor], refusal: str) -> None:
        super().__init__(function)
        self.refusal = refusal
        """The sentence for where relevance arrives; empty for the one that a softmax gets."""

    def receivers(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """None of its inputs."""
        return ()


class Softmax(Silent):
    """A softmax: stripped where it ends the model, a gate where it is a factor, refused elsewhere."""

    kind = "softmax"

    def __init__(self, function: Callable[..., Tensor], *, logarithm: bool = False) -> None:
        super().__init__(function, "")
        self.logarithm = logarithm
        """Whether it is a log-softmax, which is negative and gates nothing."""


class Deviation(Silent):
    """A standard deviation or variance over axes: a divisor that counts as a constant, as in LayerNorm [A22]."""


class Norm(Deviation):
    """A norm over axes, of which global response normalisation makes its factor."""


class GatedSum(Operation):
    """Matrix product of a signal and a gate, whose values count as fixed weights: attention pooling.

    `signal` is the index of the signal among the two.
    """

    kind = "average-pool"

    def __init__(self, signal: int) -> None:
        self.signal = signal

    def run(self, *inputs: Tensor) -> tuple[Tensor, None]:
        """The first times the second."""
        return inputs[0] @ inputs[1], None

    def receivers(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """The signal."""
        return (inputs[self.signal],)

    def parts(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The signal and the gate."""
        return inputs[self.signal], inputs[1 - self.signal]

    def weigh(self, signal: Tensor, gate: Tensor) -> Tensor:
        """The product, on the side where the signal is."""
        return signal @ gate if self.signal == 0 else gate @ signal


@dataclass(frozen=True)
class ProductRule(Rule[Product]):
    """All relevance to the signal, none to the gate; half each to two signals."""

    relevance_at_zero = "passes"

    def relevance(self, step: Step[Product], relevance: Tensor) -> Relevances:
        """R to the signal, summed where it was broadcast."""
        signal = step.operation.signal
        if signal is None:
            return [(relevance / 2).sum_to_size(shape) for shape in step.shapes]
        return [relevance.sum_to_size(shape) if i == signal else None for i, shape in enumerate(step.shapes)]


@dataclass(frozen=True)
class Stop(Rule[Silent]):
    """A gate passes nothing on."""

    relevance_at_zero = "zero"

    def relevance(self, step: Step[Silent], relevance: Tensor) -> Relevances:
        """Nothing."""
        return (None,)
