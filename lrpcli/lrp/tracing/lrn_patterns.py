"""Local response normalisation that is written by hand, in a traced graph: found by its form, believed by its numbers.

The form is x / f(x) or x * f(x), where f is a negative power of something made of squares of x and windows over them.
Which window, and with which numbers, is measured: the traced calls are run in float64 on images with one pixel lit, and
what is found must give the same output as they do on random images. What only looks like LRN is refused by name.
"""

import copy
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from lrpcli.errors import UnsupportedLayer
from lrpcli.lrp.layers.normalization import LocalResponseNorm

QUOTIENTS = {"div", "truediv", "divide", "true_divide", "itruediv"}
PRODUCTS = {"mul", "multiply", "imul"}
POWERS = {"sqrt": 0.5, "rsqrt": -0.5, "reciprocal": -1.0}
VIEWS = {"squeeze", "unsqueeze", "view", "reshape", "contiguous", "flatten", "unflatten", "permute", "transpose",
         "expand", "clone", "Identity", "Dropout", "Flatten", "Unflatten"}  # fmt: skip
CASTS = {"float", "double", "to", "type_as"}
"""Calls that change the type of numbers, or nothing; all is measured in float64."""
WINDOWS = {"avg_pool1d", "avg_pool2d", "avg_pool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "conv1d", "conv2d",
           "conv3d", "Conv1d", "Conv2d", "Conv3d", "unfold", "Unfold", "cumsum", "cat", "concat", "stack", "narrow",
           "getitem", "slice", "select", "roll", "lp_pool1d", "lp_pool2d", "LPPool1d", "LPPool2d"}  # fmt: skip
OTHERS = {"pow", "square", "add", "iadd", "sub", "isub", "sum", "pad", "constant_pad_nd", "ZeroPad1d", "ZeroPad2d",
          "ZeroPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d", "zeros", "zeros_like", "new_zeros", "clamp",
          "clamp_min", "abs", "exp", "log", "neg"}  # fmt: skip
SIZES = {"size", "shape", "getattr", "len", "dim", "sym_size"}
VOCABULARY = QUOTIENTS | PRODUCTS | set(POWERS) | VIEWS | CASTS | WINDOWS | OTHERS | SIZES
"""What LRN by hand is made of; anything else is where its input comes from."""
TRIALS = ((33, 10), (65, 34), (260, 41))
"""Channels and sides of the images on which a window is measured whose input has no known size."""
TOLERANCE = 1e-9
LIGHT = 1024.0
"""The value of the lit pixel: its square stands out from k by as many digits as can be had."""
ADVICE = (
    "Write it as torch.nn.LocalResponseNorm(size, alpha, beta, k) or, for windows in the plane of a channel, "
    'lrpcli.LocalResponseNorm(size, alpha, beta, region="within-channel"); both divide alpha by the number of places '
    "in a window (docs/rules.md)."
)


@dataclass
class FoundNorms:
    """The LRN layers of a traced graph: by their last call what they read and are, and the calls that they replace."""

    layers: dict[fx.Node, tuple[fx.Node, LocalResponseNorm]] = field(default_factory=dict)
    absorbed: set[fx.Node] = field(default_factory=set)


class PlaneNorm(LocalResponseNorm):
    """Normalisation within a channel with a k that is not 1, which Caffe does not have."""

    @property
    def offset(self) -> float:
        """See LocalResponseNorm."""
        return self.k


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
            values[node] = _run(self.module, node, values)
            if node is self.factor:
                factor = values[node].clone()
        return factor, values[self.last]

    def window_sum(self, x: Tensor) -> Tensor:
        """k + a times the window sum of squares, if this is LRN."""
        assert self.exponent is not None
        return self.values(x)[0].pow(1 / self.exponent)


def find_norms(module: nn.Module, graph: fx.Graph) -> FoundNorms:
    """All LRN layers written by hand, torch's CrossMapLRN2d among them.

    UnsupportedLayer names one that looks like LRN and is another function.
    """
    found = FoundNorms()
    for node in graph.nodes:
        if _label(module, node) == "CrossMapLRN2d":
            found.layers[node] = (_argument(node, 0), _cross_map(module, node))
            continue
        candidate = _candidate(module, node)
        if candidate is None:
            continue
        norm = _measured(candidate)
        if norm is None:
            raise _unlike(candidate)
        found.layers[node] = (candidate.source, norm)
        for step in reversed(candidate.steps):
            if step.op != "get_attr" and all(user is node or user in found.absorbed for user in step.users):
                found.absorbed.add(step)
    return found


def _unlike(candidate: Candidate) -> UnsupportedLayer:
    same = "no LRN layer gives the same output" if candidate.closed else "what it squares is not what it divides"
    return UnsupportedLayer(
        f"Layer {candidate.last.name!r} looks like local response normalisation (LRN) that is written by hand, but "
        f"{same}. {ADVICE}"
    )


def _candidate(module: nn.Module, node: fx.Node) -> Candidate | None:
    """The calls that end in `node`, if they have the form of LRN."""
    label = _label(module, node)
    sign = -1.0 if label in QUOTIENTS else 1.0
    if label not in QUOTIENTS | PRODUCTS:
        return None
    first, second = _argument(node, 0), _argument(node, 1)
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
    label = _label(module, node)
    below = _argument(node, 0)
    if node is source:
        return 1.0
    if label in VIEWS | CASTS and isinstance(below, fx.Node):
        return _exponent(module, below, source)
    scale: float | None = None
    if label in POWERS:
        scale = POWERS[label]
    elif label == "pow":
        scale = _number(module, _argument(node, 1, "exponent"))
    elif label in QUOTIENTS and _number(module, below) == 1.0:
        scale, below = -1.0, _argument(node, 1)
    elif label in ("exp", "log"):
        return None
    if scale is None or not isinstance(below, fx.Node):
        return 1.0
    power = _exponent(module, below, source)
    return None if power is None else scale * power


def _made_of(module: nn.Module, factor: fx.Node, source: fx.Node) -> tuple[list[fx.Node], set[fx.Node]]:
    """The calls of the vocabulary that lead from `source` to `factor`, in graph order, and all that they start from."""
    steps: set[fx.Node] = set()
    sources: set[fx.Node] = set()
    stack = [factor]
    while stack:
        node = stack.pop()
        if node in steps:
            continue
        if node is source or (node.op != "get_attr" and _label(module, node) not in VOCABULARY):
            sources.add(node)
            continue
        steps.add(node)
        stack.extend(node.all_input_nodes)
    return [node for node in factor.graph.nodes if node in steps], sources


def _has_squares_and_windows(module: nn.Module, steps: list[fx.Node]) -> bool:
    labels = {_label(module, node) for node in steps if not _reads_size(module, node)}
    squares = any(_is_square(module, node) for node in steps) or any(label.lower().startswith("lp") for label in labels)
    return squares and not WINDOWS.isdisjoint(labels)


def _is_square(module: nn.Module, node: fx.Node) -> bool:
    label = _label(module, node)
    if label == "pow":
        return _number(module, _argument(node, 1, "exponent")) == 2.0
    first = _argument(node, 0)
    return label == "square" or (label in PRODUCTS and isinstance(first, fx.Node) and first is _argument(node, 1))


def _reads_size(module: nn.Module, node: fx.Node) -> bool:
    """Whether a call takes a number out of a shape, as x.shape[1] does."""
    first = _argument(node, 0)
    return isinstance(first, fx.Node) and _label(module, first) in SIZES


def _measured(candidate: Candidate) -> LocalResponseNorm | None:
    """The LRN layer that does the same; None if there is none."""
    if candidate.exponent is None or not candidate.closed:
        return None
    for shape, sure in _shapes(candidate):
        try:
            norm = _window(candidate, shape, sure)
            if norm is not None and _same(lambda x: candidate.values(x)[1], norm, shape):
                return norm
        except (RuntimeError, TypeError, ValueError, IndexError):  # of another shape than the calls are made for
            continue
    return None


def _window(candidate: Candidate, shape: tuple[int, ...], sure: bool) -> LocalResponseNorm | None:
    """The layer whose window sums the candidate shows at a first and a last pixel; None if they are no window's.

    A window as wide as the images may be wider than that, unless they are `sure` to have the size of the input.
    """
    offsets = candidate.window_sum(torch.zeros(shape, dtype=torch.float64))
    k = float(offsets.flatten()[0])
    before, factor = _reach(candidate, shape, offsets, first=True)
    behind, _ = _reach(candidate, shape, offsets, first=False)
    axes = [axis for axis in range(1, len(shape)) if before[axis] or behind[axis]]
    reach = (before[axes[0]], behind[axes[0]]) if axes else (0, 0)
    if any((before[axis], behind[axis]) != reach for axis in axes) or axes not in ([], [1], [2, 3]):
        return None
    if not sure and any(max(reach) >= shape[axis] - 1 for axis in axes):
        return None
    size, within = sum(reach) + 1, axes == [2, 3]
    alpha = float(f"{factor * size ** max(1, len(axes)):.12g}")
    assert candidate.exponent is not None
    beta = abs(candidate.exponent)
    if alpha <= 0 or k < 0 or not math.isfinite(alpha):
        return None
    kind = PlaneNorm if within and k != 1 else LocalResponseNorm
    return kind(size, alpha, beta, k, "within-channel" if within else "across-channels", reach)


def _reach(candidate: Candidate, shape: tuple[int, ...], offsets: Tensor, *, first: bool) -> tuple[list[int], float]:
    """How far along each axis windows reach back to the first (or on to the last) pixel, and what its square counts.

    Of all axes at once, so that for a window in one of them the others stay 0.
    """
    place = (0, *(0 if first else side - 1 for side in shape[1:]))
    x = torch.zeros(shape, dtype=torch.float64)
    x[place] = LIGHT
    change = (candidate.window_sum(x) - offsets) / LIGHT**2
    lit = (change.abs() > TOLERANCE * change.abs().max()).nonzero()
    return [int((lit[:, axis] - place[axis]).abs().max()) for axis in range(len(shape))], float(change[place])


def _same(function: Callable[[Tensor], Tensor], norm: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether two functions agree on random images, small and large."""
    generator = torch.Generator().manual_seed(0)
    for scale in (1.0, 100.0):
        x = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        got, expected = function(x), norm(x)
        if got.shape != expected.shape or not bool((got - expected).abs().max() <= TOLERANCE * expected.abs().max()):
            return False
    return True


def _shapes(candidate: Candidate) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Shapes to try, and whether the input surely has as many channels: those that the graph states come first."""
    known = candidate.source.meta.get("val", candidate.source.meta.get("tensor_meta"))
    if known is not None:
        yield tuple(int(side) for side in known.shape), True
    for node in reversed(candidate.steps):
        if _label(candidate.module, node) in ("view", "reshape"):
            sides = _flat(node.args[1:])[1:]
            if len(sides) > 1 and all(isinstance(side, int) and side > 0 for side in sides):
                yield (1, *sides), True
    channels, dimensions = _channels(candidate.module, candidate.source)
    for count in (dimensions,) if dimensions else (4, 3, 5, 2):
        for trial, side in TRIALS:
            yield (1, channels or trial, *(side + axis for axis in range(count - 2))), False
        if channels:
            yield (1, channels, *(TRIALS[0][1] + axis for axis in range(count - 2))), True


def _flat(sizes: tuple[Any, ...]) -> list[Any]:
    """The sizes of a view, which may be given one by one or as one list."""
    return [side for part in sizes for side in (part if isinstance(part, (list, tuple)) else [part])]


def _channels(module: nn.Module, node: fx.Node) -> tuple[int | None, int | None]:
    """Channels and dimensions of a value, from the layer that it comes from through others; None: not known."""
    while node.op in ("call_module", "call_function", "call_method"):
        if node.op == "call_module":
            layer: Any = module.get_submodule(str(node.target))
            channels = getattr(layer, "out_channels", None)
            if channels is not None:
                return int(channels), len(layer.kernel_size) + 2
        before = _argument(node, 0)
        if not isinstance(before, fx.Node):
            break
        node = before
    return None, None


def _cross_map(module: nn.Module, node: fx.Node) -> LocalResponseNorm:
    """torch.nn.CrossMapLRN2d as the layer that it should be; UnsupportedLayer where it computes something else."""
    layer: Any = module.get_submodule(str(node.target))
    norm = LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.k)
    channels = _channels(module, _argument(node, 0))[0] or TRIALS[0][0]
    if _same(copy.deepcopy(layer), norm, (2, channels, 3, 3)):
        return norm
    raise UnsupportedLayer(
        f"Layer {node.target!r} of type CrossMapLRN2d computes no local response normalisation (LRN) for {channels} "
        "channels: this module of torch keeps the first channel in the windows of all later ones, and leaves one "
        f"channel out of windows of even size. {ADVICE} Logits will then differ a little from those of CrossMapLRN2d."
    )


def _run(module: nn.Module, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    """What a traced call gives, in float64, with private copies of all parameters."""
    if node.op == "get_attr":
        constant: Any = operator.attrgetter(str(node.target))(module)
        return _double(constant.detach().clone()) if isinstance(constant, Tensor) else constant
    args: Any = fx.node.map_arg(node.args, values.__getitem__)
    kwargs: Any = fx.node.map_arg(node.kwargs, values.__getitem__)
    if node.op == "call_module":
        return copy.deepcopy(module.get_submodule(str(node.target))).double().eval()(*args, **kwargs)
    if _label(module, node) in CASTS:
        return args[0]
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def _label(module: nn.Module, node: fx.Node) -> str:
    """What is called: a function or method without its marks (add for add_, aten.add.Tensor), or a type of module."""
    if node.op == "call_module":
        return type(module.get_submodule(str(node.target))).__name__
    if node.op not in ("call_function", "call_method"):
        return node.op
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return str(name).partition(".")[0].rstrip("_")


def _argument(node: fx.Node, index: int, keyword: str = "") -> Any:
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
