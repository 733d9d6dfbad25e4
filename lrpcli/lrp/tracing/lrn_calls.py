"""Calls in a traced graph that have the form of local response normalisation, and what they compute.

The form is x / f(x) or x * f(x), where f is a negative power of something made of squares of x and windows over them.
"""

import copy
import operator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from lrpcli.lrp.tracing.names import function_name, plain_name

QUOTIENTS = {"div", "truediv", "divide", "true_divide"}
PRODUCTS = {"mul", "multiply"}
POWERS = {"sqrt": 0.5, "rsqrt": -0.5, "reciprocal": -1.0}
VIEWS = {"squeeze", "unsqueeze", "view", "reshape", "contiguous", "flatten", "unflatten", "permute", "transpose",
         "expand", "clone", "Identity", "Dropout", "Flatten", "Unflatten"}  # fmt: skip
CASTS = {"float", "double", "to", "type_as"}
"""Calls that change the type of numbers, or nothing; all is measured in float64."""
WINDOWS = {"avg_pool1d", "avg_pool2d", "avg_pool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "conv1d", "conv2d",
           "conv3d", "Conv1d", "Conv2d", "Conv3d", "unfold", "Unfold", "cumsum", "cat", "concat", "stack", "narrow",
           "getitem", "slice", "select", "roll", "lp_pool1d", "lp_pool2d", "LPPool1d", "LPPool2d"}  # fmt: skip
OTHERS = {"pow", "square", "add", "sub", "sum", "pad", "constant_pad_nd", "ZeroPad1d", "ZeroPad2d",
          "ZeroPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d", "zeros", "zeros_like", "new_zeros", "ones",
          "new_ones", "full", "new_full", "eye", "tril", "triu", "clamp", "clamp_min", "abs", "exp", "log",
          "neg"}  # fmt: skip
SIZES = {"size", "shape", "getattr", "len", "dim", "sym_size"}
VOCABULARY = QUOTIENTS | PRODUCTS | set(POWERS) | VIEWS | CASTS | WINDOWS | OTHERS | SIZES
"""What LRN by hand is made of; anything else is where its input comes from."""


@dataclass
class Candidate:
    """Calls of the form of LRN: `last` reads `source`, and `factor` that is made of it by `steps`, in graph order."""

    module: nn.Module
    last: fx.Node
    source: fx.Node
    factor: fx.Node
    exponent: float | None
    """The power of the window's sum in the factor; None where it is not written as a power."""
    steps: list[fx.Node]
    closed: bool
    """Whether the factor is made of the source and of nothing else."""

    def values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The factor and the output at x (N, C, ...), by running the traced calls in float64."""
        values: dict[fx.Node, Any] = {self.source: x.clone()}
        for node in (*self.steps, self.last):
            values[node] = _run(self.module, node, values, self.source)
            if node is self.factor:
                factor = values[node].clone()
        return factor, values[self.last]

    def window_sum(self, x: Tensor) -> Tensor:
        """k + a times the window sum of squares, if this is LRN."""
        assert self.exponent is not None
        return self.values(x)[0].pow(1 / self.exponent)


def find_candidate(module: nn.Module, node: fx.Node) -> Candidate | None:
    """The calls that end in `node`, if they have the form of LRN."""
    label = label_of(module, node)
    sign = -1.0 if label in QUOTIENTS else 1.0
    if label not in QUOTIENTS | PRODUCTS:
        return None
    first, second = argument_of(node, 0), argument_of(node, 1)
    for source, factor in ((first, second), (second, first))[: 1 if sign < 0 else 2]:
        if not isinstance(source, fx.Node) or not isinstance(factor, fx.Node):
            continue
        power = _exponent(module, factor, source)
        if power is not None and power * sign >= 0:
            continue
        steps, sources = _made_of(module, factor, source)
        if _has_squares_and_windows(module, steps):
            return Candidate(module, node, source, factor, power, steps, sources == {source})
    return None


def _exponent(module: nn.Module, node: fx.Node, source: fx.Node) -> float | None:
    """The power that a factor is of the sum below it; None where it is written with an exponential or a logarithm."""
    label = label_of(module, node)
    below = argument_of(node, 0)
    if node is source:
        return 1.0
    if label in VIEWS | CASTS and isinstance(below, fx.Node):
        return _exponent(module, below, source)
    scale: float | None = None
    if label in POWERS:
        scale = POWERS[label]
    elif label == "pow":
        scale = _number(module, argument_of(node, 1, "exponent"))
    elif label in QUOTIENTS and _number(module, below) == 1.0:
        scale, below = -1.0, argument_of(node, 1)
    elif label in ("exp", "log"):
        return None
    if scale is None or not isinstance(below, fx.Node):
        return 1.0
    power = _exponent(module, below, source)
    return None if power is None else scale * power


def _made_of(module: nn.Module, factor: fx.Node, source: fx.Node) -> tuple[list[fx.Node], set[fx.Node]]:
    """The calls of the vocabulary that lead from `source` to `factor`, in graph order, and all that they start from.

    Of which tensor a size is read does not matter.
    """
    steps: set[fx.Node] = set()
    sources: set[fx.Node] = set()
    stack = [factor]
    while stack:
        node = stack.pop()
        if node in steps:
            continue
        if node is source or (node.op != "get_attr" and label_of(module, node) not in VOCABULARY):
            sources.add(node)
            continue
        steps.add(node)
        if label_of(module, node) not in SIZES:
            stack.extend(node.all_input_nodes)
    return [node for node in factor.graph.nodes if node in steps], sources


def _has_squares_and_windows(module: nn.Module, steps: list[fx.Node]) -> bool:
    labels = {label_of(module, node) for node in steps if not _takes_all(module, node)}
    squares = any(_is_square(module, node) for node in steps) or any(label.lower().startswith("lp") for label in labels)
    return squares and not WINDOWS.isdisjoint(labels)


def _is_square(module: nn.Module, node: fx.Node) -> bool:
    label = label_of(module, node)
    if label == "pow":
        return _number(module, argument_of(node, 1, "exponent")) == 2.0
    first = argument_of(node, 0)
    return label == "square" or (label in PRODUCTS and isinstance(first, fx.Node) and first is argument_of(node, 1))


def _takes_all(module: nn.Module, node: fx.Node) -> bool:
    """Whether a call is an index that makes no window: of a shape, as in x.shape[1], or of all, as in x[:, None]."""
    if label_of(module, node) != "getitem":
        return False
    first, index = node.args
    if isinstance(first, fx.Node) and label_of(module, first) in SIZES:
        return True
    parts = index if isinstance(index, tuple) else (index,)
    return not any(isinstance(part, slice) and part != slice(None) for part in parts)


def _run(module: nn.Module, node: fx.Node, values: dict[fx.Node, Any], source: fx.Node) -> Any:
    """What a traced call gives, in float64, with private copies of all parameters.

    A size that is read off a tensor before `source` is read off that.
    """
    if node.op == "get_attr":
        constant: Any = operator.attrgetter(str(node.target))(module)
        return _double(constant.detach().clone()) if isinstance(constant, Tensor) else constant
    sizes = label_of(module, node) in SIZES

    def value(argument: fx.Node) -> Any:
        return values.get(argument, values[source]) if sizes else values[argument]

    args: Any = fx.node.map_arg(node.args, value)
    kwargs: Any = fx.node.map_arg(node.kwargs, value)
    if node.op == "call_module":
        return copy.deepcopy(module.get_submodule(str(node.target))).double().eval()(*args, **kwargs)
    if label_of(module, node) in CASTS:
        return args[0]
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def writes_over(node: fx.Node) -> bool:
    """Whether a call changes its first argument: pow_, or x /= y."""
    name = function_name(node)
    return node.op != "call_module" and plain_name(name) != name


def label_of(module: nn.Module, node: fx.Node) -> str:
    """What is called: a function or method without its marks (add for add_, aten.add.Tensor), or a type of module."""
    if node.op == "call_module":
        return type(module.get_submodule(str(node.target))).__name__
    if node.op not in ("call_function", "call_method"):
        return node.op
    return plain_name(function_name(node))


def argument_of(node: fx.Node, index: int, keyword: str = "") -> Any:
    """An argument by position; of the first two also by the names that torch gives them."""
    if index < len(node.args):
        return node.args[index]
    return node.kwargs.get(keyword or ("input", "other")[index])


def _number(module: nn.Module, value: Any) -> float | None:
    """A number, or a tensor of one that the model holds; None for anything else."""
    if isinstance(value, fx.Node) and value.op == "get_attr":
        value = operator.attrgetter(str(value.target))(module)
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
