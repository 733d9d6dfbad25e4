"""Local response normalisation that is written by hand, in a traced graph: found by its form, believed by its numbers.

The form is that of lrn_calls. Which window it is, and with which numbers, is measured: the traced calls are run in
float64 on images with one pixel lit, and what is found must give the same output as they do on random images. What only
looks like LRN is refused by name.
"""

import copy
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from lrpcli.errors import UnsupportedLayer
from lrpcli.lrp.layers.normalization import LocalResponseNorm
from lrpcli.lrp.tracing.lrn_calls import SIZES, Candidate, argument_of, find_candidate, label_of, writes_over

TRIALS = ((33, 10), (65, 34), (260, 41))
"""Channels and sides of the images on which a window is measured whose input has no known size."""
NAMES = re.compile("LRN|LocalResponse|ResponseNorm|CrossMap", re.IGNORECASE)
"""What classes that compute LRN are called."""
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


def find_norms(module: nn.Module, graph: fx.Graph) -> FoundNorms:
    """All LRN layers written by hand, torch's CrossMapLRN2d among them.

    UnsupportedLayer names one that looks like LRN and is another function.
    """
    found = FoundNorms()
    for node in graph.nodes:
        if label_of(module, node) == "CrossMapLRN2d":
            found.layers[node] = (argument_of(node, 0), _cross_map(module, node))
            continue
        candidate = find_candidate(module, node)
        if candidate is None:
            continue
        norm = _measured(candidate)
        if norm is None:
            raise _unlike(candidate)
        found.layers[node] = (candidate.source, norm)
        found.absorbed |= _absorbed(candidate, found.absorbed)
    return found


def _absorbed(candidate: Candidate, before: set[fx.Node]) -> set[fx.Node]:
    """The calls that nothing outside of LRN layers reads; none if one writes over a tensor that others do read."""
    found = {candidate.last, *before}
    steps = [step for step in candidate.steps if step.op != "get_attr"]
    for step in reversed(steps):
        if found.issuperset(step.users):
            found.add(step)
    tensors = [step for step in steps if label_of(candidate.module, step) not in SIZES]
    if any(map(writes_over, (*steps, candidate.last))) and not found.issuperset(tensors):
        return set()
    return found - {candidate.last}


def hint_at_norms(module: nn.Module) -> str:
    """For a module that cannot be traced: a sentence on those of its parts that are called like LRN, or nothing."""
    found = [
        f"{name!r} ({type(part).__name__})"
        for name, part in module.named_modules()
        if NAMES.search(type(part).__name__) and not isinstance(part, (nn.LocalResponseNorm, LocalResponseNorm))
    ]
    return f" {', '.join(found)} may be local response normalisation (LRN). {ADVICE}" if found else ""


def _unlike(candidate: Candidate) -> UnsupportedLayer:
    same = "no LRN layer gives the same output" if candidate.closed else "what it squares is not what it divides"
    return UnsupportedLayer(
        f"Layer {candidate.last.name!r} looks like local response normalisation (LRN) that is written by hand, but "
        f"{same}. {ADVICE}"
    )


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
        if label_of(candidate.module, node) in ("view", "reshape"):
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
        before = argument_of(node, 0)
        if not isinstance(before, fx.Node):
            break
        node = before
    return None, None


def _cross_map(module: nn.Module, node: fx.Node) -> LocalResponseNorm:
    """torch.nn.CrossMapLRN2d as the layer that it should be; UnsupportedLayer where it computes something else."""
    layer: Any = module.get_submodule(str(node.target))
    norm = LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.k)
    channels = _channels(module, argument_of(node, 0))[0] or TRIALS[0][0]
    if _same(copy.deepcopy(layer), norm, (2, channels, 3, 3)):
        return norm
    raise UnsupportedLayer(
        f"Layer {node.target!r} of type CrossMapLRN2d computes no local response normalisation (LRN) for {channels} "
        "channels: this module of torch keeps the first channel in the windows of all later ones, and leaves one "
        f"channel out of windows of even size. {ADVICE} Logits will then differ a little from those of CrossMapLRN2d."
    )
