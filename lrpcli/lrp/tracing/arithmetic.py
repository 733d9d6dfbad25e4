"""Sums, products, quotients, powers, choices between tensors, and masks -> operations."""

from typing import Any

import torch
from torch import Tensor

from lrpcli.lrp.layers.call import Place
from lrpcli.lrp.layers.elementwise import Activation, Affine, Rescaled, Scalar, Sum
from lrpcli.lrp.layers.products import Deviation, Norm, Product, Quotient, Silent
from lrpcli.lrp.layers.reductions import MaxOverAxes, Mean, SumOverAxes
from lrpcli.lrp.layers.selection import Maximum, Selection
from lrpcli.lrp.operation import Operation
from lrpcli.lrp.tracing.deviations import is_deviation
from lrpcli.lrp.tracing.gates import is_function_of, is_gate, values_at_probes
from lrpcli.lrp.tracing.node import Node, Reference, Translated
from lrpcli.lrp.tracing.responses import is_response, is_size

NO_DIVISOR = (
    "It divides by a signal, which is known for a constant, for x / f(x) with a positive f, and for the standard "
    "deviation or root mean square of x. Write a gate as a product with a sigmoid, a response normalisation as "
    "torch.nn.LocalResponseNorm, a layer normalisation as torch.nn.LayerNorm, GroupNorm or RMSNorm."
)
NO_NORM = "A norm is known in the factor of a global response normalisation, x * (norm of x) / (mean of norms of x)."

IMAGES_FIRST = {"convolution", "lrn"}
AXES_MAY_MOVE = {"view", "concat", "average-pool", "max-pool", "fully-connected"}


def mask(node: Node) -> Translated:
    """What carries no relevance though it is computed from values: a comparison of tensors."""
    return Translated(node.label, Scalar(node.replay()), node.tensors(), node.scalars())


def _is_signal(node: Node, value: Any) -> bool:
    return isinstance(value, Reference) and not node.is_scalar(value)


def _operands(node: Node) -> tuple[Any, Any]:
    return node.get(0, "input"), node.get(1, "other")


def addends(node: Node, first_sign: float = 1.0, second_sign: float = 1.0) -> Translated:
    """A sum or difference, also with constants; `alpha` is the factor of the second."""
    alpha = node.keywords.get("alpha", 1)
    if isinstance(alpha, Reference):
        raise node.unsupported("Its 'alpha' must be a fixed number.")
    first, second = _operands(node)
    return _sum(node, (first, first_sign), (second, second_sign * alpha))


def reversed_difference(node: Node) -> Translated:
    """torch.rsub: the second less the first."""
    first, second = _operands(node)
    return _sum(node, (second, 1.0), (first, -1.0 * node.get(2, "alpha", 1)))


def interpolation(node: Node) -> Translated:
    """torch.lerp: (1 - weight) times the first and weight times the second."""
    first, second, weight = node.get(0, "input"), node.get(1, "end"), node.get(2, "weight")
    if not isinstance(weight, (int, float)):
        raise node.unsupported("Its weight must be a fixed number.")
    return _sum(node, (first, 1.0 - weight), (second, float(weight)))


def _sum(node: Node, *terms: tuple[Any, float]) -> Translated:
    """The sum of two terms, each a value and its factor."""
    signals = [(value, sign) for value, sign in terms if _is_signal(node, value)]
    others = [(value, sign) for value, sign in terms if not _is_signal(node, value)]
    (value, sign) = signals[0]
    if len(signals) == 2:
        if value == signals[1][0]:
            return node.layer(Affine(sign + signals[1][1]), value)
        return node.layer(Sum((sign, signals[1][1])), value, signals[1][0])
    constant, factor = others[0]
    if isinstance(constant, Reference):
        return node.layer(Sum((sign,), fixed=factor), value)
    if not isinstance(constant, Tensor) and constant == 0:  # as in sum([...]), which starts with 0
        return node.layer(Affine(sign), value)
    return node.layer(Sum((sign,), factor * constant), value)


def product(node: Node) -> Translated:
    """A signal times a constant, a gate or another signal."""
    first, second = _operands(node)
    signals = [value for value in (first, second) if _is_signal(node, value)]
    if len(signals) == 1:
        other = second if signals[0] is first else first
        return node.layer(Rescaled(node.replay()) if isinstance(other, Reference) else Affine(other), *signals)
    return node.layer(Product(_signal(node, first.index, second.index)), first, second)


def _signal(node: Node, first: int, second: int) -> int | None:
    """Which of two factors is the signal: x in x * f(x) and x / deviation, else what is no gate; None: both."""
    if is_function_of(node.layers, first, second):
        return 0
    if is_function_of(node.layers, second, first):
        return 1
    for place, (signal, other) in enumerate(((first, second), (second, first))):
        if is_deviation(node.layers, signal, other, reciprocal=True):
            return place
    if is_response(node.layers, second, first):
        return 0
    if is_response(node.layers, first, second):
        return 1
    gates = [is_gate(node.layers, first), is_gate(node.layers, second)]
    return None if gates[0] == gates[1] else gates.index(False)


def quotient(node: Node) -> Translated:
    """A signal divided by a constant, by a positive function of itself, or by its deviation; a norm by another."""
    if node.keywords.keys() - {"other", "input"}:
        raise node.unsupported("Only a plain division is known.")
    first, second = _operands(node)
    if not _is_signal(node, second):
        return node.layer(Rescaled(node.replay()) if isinstance(second, Reference) else Affine(1.0 / second), first)
    if not _is_signal(node, first):
        return without_rule(node, NO_DIVISOR, second)
    if is_size(node.layers, first.index) and is_size(node.layers, second.index):
        return node.layer(Quotient(), first, second)
    divisor = values_at_probes(node.layers, first.index, second.index)
    positive = divisor is not None and bool((divisor > 0).all())
    if not positive and not is_deviation(node.layers, first.index, second.index):
        raise node.unsupported(NO_DIVISOR)
    return node.layer(Quotient(), first, second)


def without_rule(node: Node, why: str, *inputs: Reference) -> Translated:
    """A function that may make gates and divisors, and is refused where relevance arrives."""
    return node.layer(Silent(node.replay(), str(node.unsupported(why))), *inputs)


def power(node: Node) -> Translated:
    """A power with a fixed exponent: a product of the signal with itself, or a root."""
    base, exponent = node.get(0, "input"), node.get(1, "exponent")
    exponent = exponent.item() if isinstance(exponent, Tensor) and exponent.numel() == 1 else exponent
    if not _is_signal(node, base) or not isinstance(exponent, (int, float)):
        raise node.unsupported("Its exponent must be a fixed number.")
    if exponent <= 0:
        return without_rule(node, NO_DIVISOR)
    return node.layer(Activation(lambda x: x.pow(exponent)))


def reduction(node: Node, kind: type[Mean] = Mean) -> Translated:
    """A mean or a sum over axes."""
    return node.layer(kind(_axes(node), _keeps_axes(node)))


def deviation(node: Node) -> Translated:
    """Variance or standard deviation over axes, which may only divide."""
    _axes(node)
    return node.layer(Deviation(node.replay(), str(node.unsupported(NO_DIVISOR))))


def norm(node: Node) -> Translated:
    """A norm over axes."""
    _axes(node, 2)
    return node.layer(Norm(node.replay(), str(node.unsupported(NO_NORM))))


def product_added(node: Node) -> Translated:
    """torch.addcmul: the first plus `value` times the product of two others."""
    first, factor = node.get(0, "input"), node.get(3, "value", 1)
    factors = (node.get(1, "tensor1"), node.get(2, "tensor2"))
    signals = [value for value in factors if _is_signal(node, value)]
    if isinstance(factor, Reference) or any(node.is_scalar(each) for each in node.references()):
        raise node.unsupported("Its numbers must be fixed.")
    if not signals:
        return _sum(node, (first, 1.0), (factors[0] * factors[1], float(factor)))
    if len(signals) == 2:
        operation: Operation = Product(_signal(node, signals[0].index, signals[1].index))
    else:
        operation = Affine(factors[1] if factors[0] is signals[0] else factors[0])
    return _sum(node, (first, 1.0), (node.insert("product", operation, *signals), float(factor)))


def _axes(node: Node, place: int = 1) -> tuple[int, ...]:
    axes = node.get(place, "dim", node.keywords.get("axis"))
    if axes is None or axes in ((), []) or isinstance(axes, bool):
        raise node.unsupported(f"Name the axes of the {node.label}.")
    axes = tuple(axes) if isinstance(axes, (list, tuple)) else (axes,)
    if not all(isinstance(axis, int) for axis in axes):
        raise node.unsupported("Its axes must be fixed numbers.")
    if 0 in axes and _holds_images_first(node):
        raise node.unsupported("It mixes the images of a batch; leave out axis 0.")
    return axes


def _keeps_axes(node: Node) -> bool:
    return bool(node.get(2, "keepdim", node.keywords.get("keepdims", False)))


def _holds_images_first(node: Node) -> bool:
    """Whether axis 0 of its input surely counts images: nothing has moved axes since a convolution or the input."""
    index = node.first().index
    while index and node.layers[index].kind not in AXES_MAY_MOVE:
        if node.layers[index].kind in IMAGES_FIRST or not node.layers[index].inputs:
            return True
        index = node.layers[index].inputs[0]
    return index == 0


def total(node: Node) -> Translated:
    """A sum over axes."""
    return reduction(node, SumOverAxes)


def extreme(node: Node, *, smallest: bool = False) -> Translated:
    """torch.max and torch.min: of two tensors, or over an axis with the places of the winners."""
    other = node.get(1, "other")
    if isinstance(other, (Reference, Tensor)):
        return larger(node, smallest=smallest)
    result = over_axes(node, smallest=smallest)
    assert isinstance(result.operation, MaxOverAxes)
    result.operation.returns_indices = True
    return result


def over_axes(node: Node, *, smallest: bool = False) -> Translated:
    """torch.amax and torch.amin."""
    return node.layer(MaxOverAxes(_axes(node), _keeps_axes(node), smallest=smallest))


def larger(node: Node, *, smallest: bool = False) -> Translated:
    """The larger or smaller of two tensors; beside a constant it is an activation, as clamp is."""
    signals = [value for value in _operands(node) if _is_signal(node, value)]
    if len(signals) == 2:
        return node.layer(Maximum(smallest=smallest), *signals)
    return node.layer(Activation(node.replay()), *signals)


def clamp(node: Node) -> Translated:
    """Clamping between constants is an activation, between tensors the larger of two and then the smaller."""
    low, high = node.get(1, "min"), node.get(2, "max")
    if node.label == "clamp_max":
        low, high = None, node.get(1, "max")
    x = node.arguments[0]
    if not _is_signal(node, low) and not _is_signal(node, high):
        return node.layer(Activation(node.replay(getattr(torch, node.label))), x)
    if not all(value is None or _is_signal(node, value) for value in (low, high)) or not _is_signal(node, x):
        raise node.unsupported("Its bounds must both be layers, or both fixed.")
    if high is None:
        return node.layer(Maximum(), x, low)
    return node.layer(Maximum(smallest=True), x if low is None else node.insert("larger", Maximum(), x, low), high)


def where(node: Node) -> Translated:
    """torch.where and Tensor.where."""
    arguments = [*node.arguments, *(node.keywords[key] for key in ("condition", "self", "input", "other")
                                    if key in node.keywords)]  # fmt: skip
    if len(arguments) != 3:
        raise node.unsupported("It must choose between two tensors.")
    if node.traced.op == "call_method":
        arguments[:2] = arguments[1], arguments[0]
    return _choice(node, *arguments)


def masked_fill(node: Node) -> Translated:
    """Tensor.masked_fill: a constant where the mask holds."""
    return _choice(node, node.get(1, "mask"), node.get(2, "value"), node.arguments[0])


def _choice(node: Node, condition: Any, first: Any, second: Any) -> Translated:
    if _is_signal(node, condition):
        raise node.unsupported("Its condition must be a comparison, or fixed.")
    inputs = [value for value in (first, second) if _is_signal(node, value)]
    scalars = list(node.scalars())

    def place(value: Any) -> Any:
        if not isinstance(value, Reference):
            return value
        return Place(inputs.index(value) if value in inputs else len(inputs) + scalars.index(value.index))

    if len(inputs) == 2 and inputs[0] == inputs[1]:
        inputs.pop()
    whole = len(inputs) == 1 and isinstance(condition, Reference) and _is_activation(node, inputs[0], condition)
    return node.layer(Selection(place(condition), place(first), place(second), whole=whole), *inputs)


def _is_activation(node: Node, signal: Reference, condition: Reference) -> bool:
    """Whether a condition and the signal that it lets through are functions of one and the same signal."""
    sources = {signal.index, *node.layers[condition.index].inputs}
    return any(
        is_function_of(node.layers, source, signal.index) and is_function_of(node.layers, source, condition.index)
        for source in sources
    )
