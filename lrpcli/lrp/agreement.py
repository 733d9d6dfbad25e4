"""Whether a traced graph computes what its model computes: found out once, on the first image that is explained."""

import copy
import math
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lrpcli.errors import ModelError
from lrpcli.lrp.batch_limit import is_full, is_lost
from lrpcli.lrp.propagate import Plan, forward
from lrpcli.lrp.shared_state import ONE_AT_A_TIME
from lrpcli.lrp.targets import HEADS
from lrpcli.lrp.tracing.copies import converted
from lrpcli.lrp.tracing.graph import Graph
from lrpcli.lrp.tracing.refusals import eval_mode, own_buffers, unwrapped
from lrpcli.lrp.tracing.translate import build_graph_in

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5}
"""Differences of logits, as a share of the largest, that are rounding; what is larger in float32 float64 decides."""
SMALLEST = 1e-30
"""Probabilities below this share of the largest are taken for it; float32 ends not far below."""
SATURATED = {**HEADS, "logsigmoid": functional.logsigmoid}
"""What a model puts out for logits when it ends in a layer of such a type."""
_Tensors = tuple[tuple[int, int], ...]


class Agreement:
    """Compares the logits of a graph with those of the module it came from, in one forward pass of one image.

    All explainers of a graph share one, and it lets go of the module once the two agree. The first batch of several
    images is compared with its first and last alone, by the graph itself.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module: nn.Module | None = unwrapped(module)
        with ONE_AT_A_TIME:  # another thread may have put copies of its buffers in place
            self._tensors = _tensors(self._module)
        self._name = _name(self._module)
        self._alone = True

    def require(self, graph: Graph, x: Tensor, logits: Tensor) -> None:
        """ModelError if the module's logits of one of the images `x` (N, C, H, W) are not those found, (N, D).

        It is the last of those with finite logits, so that what reads the first image for all of them shows; what reads
        the last one shows where the first is taken alone.

        Nothing is done once that is known, nor where no image has finite logits. A module that has changed since the
        graph was made cannot be compared: a warning says so.
        """
        if self._is_known(len(x)):
            return
        finite = logits.isfinite().all(1).nonzero()[:, 0].tolist()
        if not finite:
            return
        with ONE_AT_A_TIME:
            if self._is_known(len(x)):  # another thread has found it out meanwhile
                return
            if self._module is None:
                self._require_separate(graph, x, logits, {finite[0], finite[-1]})
            elif _tensors(self._module) != self._tensors:
                warnings.warn(
                    f"The weights of {_name(self._module)} have changed since this Explainer was made, which explains "
                    "them as they were then. Make a new Explainer for the new weights.",
                    stacklevel=4,
                )
            elif not _agree(self._module, graph, x, logits, finite[-1]):
                raise ModelError(_difference(self._module))
            else:
                self._require_separate(graph, x, logits, {finite[0]} - {finite[-1]})
            self._module, self._alone = None, len(x) == 1

    def _is_known(self, images: int) -> bool:
        """Whether a batch of so many images needs no comparison."""
        return self._module is None and not (self._alone and images > 1)

    def _require_separate(self, graph: Graph, x: Tensor, logits: Tensor, places: set[int]) -> None:
        if not all(_is_separate(graph, x, logits, place) for place in places):
            raise ModelError(_mixed(self._name))


def _agree(module: nn.Module, graph: Graph, x: Tensor, logits: Tensor, place: int) -> bool:
    if x.dtype in TOLERANCE:
        expected, images = _expected(module, x, place)
        if _is_close(graph.ending, logits[images].to(expected.dtype), expected):
            return True
    return x.dtype != torch.float64 and _agree_in_double(module, x, place)


def _expected(module: nn.Module, x: Tensor, place: int) -> tuple[Tensor, slice]:
    """What _run gives in the number type of `x`; in the module's own where its forward function names that."""
    try:
        return _run(_twin(module, x.device, x.dtype), x, place)
    except ModelError:
        own = _dtype(module)
        if own not in TOLERANCE or own == x.dtype:
            raise
        return _run(_twin(module, x.device, own), x.to(own), place)


def _dtype(module: nn.Module) -> torch.dtype:
    """The number type of a module's parameters."""
    found = (tensor.dtype for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point())
    return next(found, torch.get_default_dtype())


def _agree_in_double(module: nn.Module, x: Tensor, place: int) -> bool:
    """The same in float64, where what is left of rounding is far below the tolerance: model and graph anew."""
    device = torch.device("cpu") if x.device.type == "mps" else x.device
    x = x.to(device, torch.float64)
    graph = build_graph_in(torch.float64, module, tuple(x.shape[1:])).to(device, torch.float64)
    expected, _ = _expected(module, x, place)
    # With another image before it, so that what mixes the images of a batch shows here too.
    pair = x.roll(-place - 1, 0)[-2:]
    found = forward(Plan(graph), x if len(expected) == len(x) else pair).output.flatten(1)[-len(expected) :]
    return _is_close(graph.ending, found.to(expected.dtype), expected)


def _is_separate(graph: Graph, x: Tensor, logits: Tensor, place: int) -> bool:
    """Whether a graph gives an image of a batch the logits (N, D) that it gives to that image alone."""
    alone = _logits_alone(graph, x, place)
    if x.dtype in TOLERANCE and _is_close("", logits[place : place + 1], alone):
        return True
    if x.dtype == torch.float64:
        return False
    device = torch.device("cpu") if x.device.type == "mps" else x.device
    x, graph = x.to(device, torch.float64), copy.deepcopy(graph).to(device, torch.float64)
    return _is_separate(graph, x, forward(Plan(graph), x).output.flatten(1), place)


def _logits_alone(graph: Graph, x: Tensor, place: int) -> Tensor:
    """The logits (1, D) of an image alone; among black ones where the graph takes one number of images only."""
    images = slice(place, place + 1)
    try:
        return forward(Plan(graph), x[images]).output.flatten(1)
    except ModelError:
        black = torch.zeros_like(x)
        black[images] = x[images]
        return forward(Plan(graph), black).output.flatten(1)[images]


def _run(module: nn.Module, x: Tensor, place: int) -> tuple[Tensor, slice]:
    """The output of the module itself for one image, or for all where it takes one batch size only; and for which."""
    x = x.contiguous()
    with ONE_AT_A_TIME, eval_mode(module), own_buffers(module), _without_compiler():
        try:
            return _logits(module(x[place : place + 1].clone())), slice(place, place + 1)
        except Exception as error:
            if _is_of_device(error):
                raise
        try:
            return _logits(module(x.clone())), slice(None)
        except Exception as error:
            if _is_of_device(error):
                raise
            raise ModelError(
                f"The model {_name(module)} itself cannot take an input of shape {tuple(x.shape)}: "
                f"{type(error).__name__}: {error}"
            ) from error


def _is_of_device(error: Exception) -> bool:
    return is_lost(error) or is_full(error)


def _logits(output: Any) -> Tensor:
    while isinstance(output, (tuple, list)) and len(output) == 1:
        output = output[0]
    if not isinstance(output, Tensor):
        raise ModelError("The model must return one tensor of logits (N, classes); it returns something else.")
    return output.flatten(1)


def _without_compiler() -> AbstractContextManager[Any]:
    """Compiled functions run as they were written: compiling takes longer than a pass."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _is_close(ending: str, logits: Tensor, expected: Tensor) -> bool:
    """Whether logits (N, D) are those of the model, or its output is what its last layer makes of them."""
    if logits.shape != expected.shape:
        return False
    tolerance = TOLERANCE[expected.dtype]
    if _differ_by(logits, expected) <= tolerance:
        return True
    head = ending.lower().replace("_", "")
    if "softmax" in head:
        return _differ_by(*_above_least(logits, expected if "log" in head else expected.log())) <= tolerance
    return head in SATURATED and _differ_by(SATURATED[head](logits), expected) <= tolerance


def _above_least(logits: Tensor, logarithms: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and logarithms of probabilities, which may be those of some classes only, from the best class on.

    Both end at the smallest probability that counts.
    """
    best, least = logarithms.argmax(1, keepdim=True), math.log(SMALLEST)
    found = [(values - values.gather(1, best)).clamp(min=least) for values in (logits, logarithms)]
    return found[0], found[1]


def _differ_by(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest value; 0 where both are zero, and infinite with NaN."""
    difference, largest = float((found - expected).abs().amax()), float(expected.abs().amax())
    if difference == 0:
        return 0.0
    share = difference / largest if largest else torch.inf
    return torch.inf if math.isnan(share) else share


def _twin(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The module itself if it is there in that type already, or else a copy that shares what need not be converted."""
    try:
        return converted(module, device, dtype)
    except Exception as error:
        raise ModelError(
            f"The logits of {_name(module)} cannot be compared with those of its trace, as it cannot be copied "
            f"({error}). Give the Explainer the device and dtype that the model has, or check=False."
        ) from error


def _tensors(module: nn.Module) -> _Tensors:
    """Which tensors a module holds, and how often they were written to."""
    return tuple(
        (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
        for tensor in (*module.parameters(), *module.buffers())
    )


def _name(module: nn.Module) -> str:
    return type(module).__name__


def _mixed(name: str) -> str:
    return (
        f"In {name} the images of a batch depend on each other: one of them has other logits in the batch than alone, "
        "so its map would explain its neighbours too. Look for a mean, a maximum, a flip or a view over axis 0, or "
        "give the images one by one."
    )


def _difference(module: nn.Module) -> str:
    return (
        f"The trace of {_name(module)} does not compute the logits of the model itself, so its maps would explain "
        "another model. Look for what changes a result outside of the traced layers: hooks, a forward function that "
        "was replaced, a method such as _conv_forward that is overridden, weights that are computed before each pass "
        "(weight_norm, spectral_norm, prune, parametrizations), weights that were changed through .data after the "
        "Explainer was made, dropout or other random numbers in eval mode, isinstance checks on the input, or images "
        "of a batch that depend on each other. Explainer(..., check=False) "
        "leaves this comparison out."
    )
