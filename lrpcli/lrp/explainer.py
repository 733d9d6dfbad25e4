"""The engine as a library: a model and a config in, relevance out."""

import copy
import math
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrpcli.errors import ImageError, ModelError, UsageError
from lrpcli.lrp.agreement import Agreement
from lrpcli.lrp.composites.assign import Assignment, assign_rules
from lrpcli.lrp.composites.composite import Composite, load_composite
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from lrpcli.lrp.exploded import EXPLODED_ADVICE
from lrpcli.lrp.propagate import Plan, Redistributed, Trace, backward, forward
from lrpcli.lrp.shared_state import Switch
from lrpcli.lrp.soundness import describe, failures, has_exploded, require_finite_input
from lrpcli.lrp.targets import Target, check_start, choose_classes, equal_scale, opposite_start, start_relevance
from lrpcli.lrp.tracing.graph import Graph
from lrpcli.lrp.tracing.outputs import Output, select_output
from lrpcli.lrp.tracing.translate import build_graph_in


@dataclass
class Result:
    """Relevance of a batch, in units of the start value (a logit unless another start was chosen).

    >>> import lrpcli, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
    >>> lrp0 = {"kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}
    >>> result = lrpcli.Explainer(net, config=lrp0)(torch.ones(3, 1, 2, 2))
    >>> result.relevance.shape, result.logits.shape, result.target.shape
    (torch.Size([3, 1, 2, 2]), torch.Size([3, 2]), torch.Size([3]))
    >>> torch.allclose(result.conservation["input"], result.start, atol=1e-6)  # no bias, epsilon 0: all arrives
    True
    >>> torch.allclose(result.kept, torch.ones(3), atol=1e-5)
    True
    """

    relevance: Tensor
    """(N, C, H, W), or (N, K, C, H, W) where K classes per image were asked for."""
    logits: Tensor
    """(N, classes)."""
    target: Tensor
    """Explained class indices, (N,) or (N, K)."""
    start: Tensor
    """Sum of the start relevance, (N,) or (N, K)."""
    conservation: dict[str, Tensor]
    """Layer name -> relevance total at that layer's output, (N,) or (N, K); "input" is the map's own total.

    Of layers on parallel branches each has its part of the whole. Contrastive starts: target minus scaled others.
    """
    layers: dict[str, Tensor] = field(default_factory=dict)
    """With keep_layers=True: layer name -> relevance at that layer's output, (N, ...) or (N, K, ...)."""
    exploded: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    """Whether single relevances are over a million times the start, (N,) or (N, K): such a map is mostly rounding."""
    failures: dict[int, str] = field(default_factory=dict)
    """With strict=False: index of an image whose maps are no explanation -> what is not finite."""
    absorbed: dict[str, Tensor] = field(default_factory=dict)
    """With keep_layers=True: layer name -> what of the relevance at its output the layer did not hand on to its inputs.

    (N,) or (N, K): what its bias and its stabiliser took; negative where they added to it. The start less all of these
    is the map's total, where every layer has one name (a folded BatchNorm is a second one, with the same numbers).
    """

    def __repr__(self) -> str:
        shapes = f"relevance {_times(self.relevance.shape)}, logits {_times(self.logits.shape)}"
        layers = f", {len(self.layers)} layers" if self.layers else ""
        return f"<Result: {shapes}{layers}, {self.relevance.dtype} on {self.relevance.device}>".replace("torch.", "")

    @property
    def kept(self) -> Tensor:
        """Share of the start relevance that reached the input, (N,) or (N, K); negative for a total of the wrong sign.

        It says how much biases and stabilisers took, for the starts that are a score: logit, one and probability.
        """
        return self.conservation["input"] / self.start


class Explainer:
    """Explains a model's logits by layer-wise relevance propagation.

    `model` is a Model of `load_model`, or any torch.nn.Module with one input and logits (N, classes) out; it is not
    changed. Its weights are copied: when it has been trained further, make a new Explainer. `config` is a name, a TOML
    path, a mapping or a Composite; `lrn` overrides its LRN rule. `pixel_range` (low, high), broadcastable to
    (1, C, H, W), is needed by z-box only; a Model brings its own. So does it `input_shape` (C, H, W), which is needed
    where shapes decide what the model computes: torch.export then traces it, for that shape alone. On its first batch
    the logits of one image are compared with those of the model itself, in one forward pass; `check=False` leaves that
    out. Of several outputs of the module `output` chooses one, by its place from 0, its key or its field.
    Errors: ConfigError, UnsupportedLayer, ModelError, UsageError for a device that is missing.

    >>> import lrpcli, torch
    >>> explainer = lrpcli.Explainer(lrpcli.load_model("cifar10"), config="composite", lrn="identity")
    >>> x = torch.zeros(2, 3, 32, 32)  # as model.preprocess gives it
    >>> explainer(x).relevance.shape
    torch.Size([2, 3, 32, 32])
    >>> explainer(x, target="top3", keep_layers=True).layers["conv1"].shape
    torch.Size([2, 3, 32, 32, 32])
    >>> [(a.layer.name, a.rule_name) for a in explainer.assignments if a.layer.kind in ("convolution", "lrn")][:2]
    [('conv1', 'alpha-beta'), ('norm1', 'identity')]
    """

    def __init__(
        self,
        model: Any,
        config: str | Path | Mapping[str, Any] | Composite = DEFAULT_CONFIG,
        *,
        lrn: str | None = None,
        start: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "auto",
        pixel_range: tuple[Tensor, Tensor] | None = None,
        input_shape: Sequence[int] | None = None,
        check: bool = True,
        output: Output | None = None,
    ) -> None:
        if isinstance(model, torch.export.ExportedProgram):
            model = model.module()
        module = model if isinstance(model, nn.Module) else getattr(model, "module", None)
        if not isinstance(module, nn.Module):
            raise UsageError(
                f"An Explainer takes a Model, as lrpcli.load_model(name) gives it, or a torch.nn.Module, not {model!r}."
            )
        if output is not None:
            module = select_output(module, output)
        if pixel_range is None:
            pixel_range = getattr(model, "pixel_range", None)
        shape = _checked_shape(getattr(model, "input_shape", None) if input_shape is None else input_shape)
        composite = _chosen(config, lrn)
        check_start(start or composite.start)
        self.dtype, self.device = dtype, choose_device(device)
        with engine_mode(self.device):
            self.graph = _with_weights(module, shape, dtype).to(self.device, dtype)
        self._pixel_range = pixel_range
        self._agreement = Agreement(module) if check else None
        self._logits_plan = Plan(self.graph)
        self._configure(composite, start)

    def __repr__(self) -> str:
        layers = len(self.graph.layers) - 1
        how = f"config {self.composite.title!r}, start {self.start}"
        return f"<Explainer: {how}, {layers} layers, {self.dtype} on {self.device}>".replace("torch.", "")

    def with_config(
        self, config: str | Path | Mapping[str, Any] | Composite, *, lrn: str | None = None, start: str | None = None
    ) -> "Explainer":
        """An explainer of the same model, dtype and device by another config; `lrn` and `start` as for Explainer.

        The two share one graph, so that weights, and what rules prepare from them, are held once. Errors: ConfigError,
        UsageError for a start that does not exist.
        """
        other = copy.copy(self)
        other._configure(_chosen(config, lrn), start)
        return other

    def _configure(self, composite: Composite, start: str | None) -> None:
        self.composite = composite
        self.start = check_start(start or composite.start)
        self.assignments: list[Assignment] = assign_rules(composite, self.graph, self._pixel_range)
        self.plan = Plan(self.graph, [assignment.rule for assignment in self.assignments])

    def __call__(self, x: Tensor, target: Target = None, *, keep_layers: bool = False, strict: bool = True) -> Result:
        """Explains `x` (N, C, H, W), already preprocessed. `target` as in targets.Target; None: the config's own.

        ModelError if the net cannot take `x`, UsageError for a target that does not exist, an `x` that is no tensor or
        pixels that are not finite, ImageError for images whose relevance is not finite; a warning where it exploded.
        With strict=False the result's `failures` and `exploded` name those images in place of error and warning.
        """
        if not isinstance(x, Tensor):
            raise UsageError(f"An Explainer takes a tensor (N, C, H, W), as model.preprocess gives it, not {x!r:.60}.")
        with engine_mode(self.device):
            moved = self._moved(x)
            require_finite_input(moved)
            trace = forward(self.plan, moved)
            logits = self._checked(moved, trace.output)
            chosen = choose_classes(logits, self.composite.target if target is None else target)
            passes = [
                self._explain(trace, logits, chosen[:, k], keep_layers=keep_layers, free=k == chosen.shape[1] - 1)
                for k in range(chosen.shape[1])
            ]
        one = chosen.shape[1] == 1 and not _is_table(target)
        maps, totals, starts, exploded = zip(*passes, strict=True)
        result = Result(
            _join([item.relevance for item in maps], one).contiguous(),
            logits,
            chosen[:, 0] if one else chosen,
            _join(list(starts), one),
            {name: _join([item[name] for item in totals], one) for name in totals[0]},
            {name: _join([item.layers[name] for item in maps], one) for name in maps[0].layers},
            _join(list(exploded), one),
            failures(logits, totals),
            {name: _join([item.absorbed[name] for item in maps], one) for name in maps[0].absorbed},
        )
        if strict:
            self._require_sound(result)
        return result

    def _require_sound(self, result: Result) -> None:
        """ImageError for relevance that is not finite, a warning for relevance that exploded."""
        if result.failures:
            raise ImageError("compute", describe(result.failures))
        if bool(result.exploded.any()):
            warnings.warn(f"With the config {self.composite.title!r} {EXPLODED_ADVICE}.", stacklevel=3)

    def predict(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of `x` (N, C, H, W), by the same forward pass."""
        with engine_mode(self.device):
            moved = self._moved(x)
            return self._checked(moved, forward(self._logits_plan, moved).output)

    def _checked(self, x: Tensor, output: Tensor) -> Tensor:
        """The output as logits (N, classes), compared once with those of the model."""
        logits = _as_logits(output, len(x))
        if self._agreement is not None:
            self._agreement.require(self.graph, x, logits)
        return logits

    def _moved(self, x: Tensor) -> Tensor:
        """`x` on the engine's device in its dtype, and no inference tensor: those cannot be differentiated."""
        moved = x.to(self.device, self.dtype)
        return moved.clone() if moved.is_inference() else moved

    def _explain(
        self, trace: Trace, logits: Tensor, classes: Tensor, *, keep_layers: bool, free: bool
    ) -> tuple[Redistributed, dict[str, Tensor], Tensor, Tensor]:
        """One map per image for one class per image; totals per layer, the start total, and what exploded, (N,)."""
        start = start_relevance(logits, classes, self.start, self.graph.head)
        contrastive = self.start.startswith("contrastive")
        found = self._backward(trace, start, keep_layers, free and not contrastive)
        if contrastive:
            opposite = self._backward(trace, opposite_start(logits, classes), keep_layers, free)
            found = found.minus(opposite, equal_scale(found.totals["input"], opposite.totals["input"]))
        if self.start == "contrastive-positive":
            found.relevance = found.relevance.clamp(min=0)
            found.totals["input"] = found.relevance.flatten(1).sum(1)
        return found, found.totals, start.sum(1), has_exploded(found.relevance, start)

    def _backward(self, trace: Trace, start: Tensor, keep_layers: bool, free: bool) -> Redistributed:
        shaped = start.reshape(trace.output.shape)
        return backward(self.plan, trace, shaped, keep_layers=keep_layers, free=free)


def _checked_shape(shape: Any) -> tuple[int, ...] | None:
    """A shape (C, H, W) as whole numbers; UsageError for anything else."""
    try:
        sides = None if shape is None else tuple(map(operator.index, shape))
    except TypeError:
        sides = ()
    if sides is not None and (not sides or min(sides) < 1):
        raise UsageError(f"input_shape is the shape (C, H, W) of an image, such as (3, 224, 224), not {shape!r}.")
    return sides


def _with_weights(module: nn.Module, input_shape: tuple[int, ...] | None, dtype: torch.dtype) -> Graph:
    """The graph of a module; ModelError if its weights are on the meta device, where they have no values."""
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        raise ModelError(
            f"The model {type(module).__name__} has weights without values: it is on the meta device. Load its weights "
            "(load_state_dict with assign=True) before you make the Explainer."
        )
    return build_graph_in(dtype, module, input_shape)


def _chosen(config: str | Path | Mapping[str, Any] | Composite, lrn: str | None) -> Composite:
    composite = load_composite(config)
    return composite if lrn is None else composite.with_lrn(lrn)


@contextmanager
def engine_mode(device: torch.device) -> Iterator[None]:
    """Without autograd, in the dtype of the tensors and in full precision, also where the caller chose otherwise."""
    automatic = torch.autocast(device.type, enabled=False)
    with torch.inference_mode(False), torch.no_grad(), automatic, full_precision(device):
        yield


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Convolutions on a GPU in full float32 while it lasts: cuDNN would round to 10 bits, too few for z- = z - z+."""
    return _UNROUNDED.held() if device.type == "cuda" else nullcontext()


@contextmanager
def _unrounded() -> Iterator[None]:
    cudnn: Any = torch.backends.cudnn
    new = hasattr(cudnn, "conv")  # from torch 2.9 on, which refuses to mix the old switch with the new one
    switch, name, full = (cudnn.conv, "fp32_precision", "ieee") if new else (cudnn, "allow_tf32", False)
    before = getattr(switch, name)
    setattr(switch, name, full)
    try:
        yield
    finally:
        setattr(switch, name, before)


_UNROUNDED = Switch(_unrounded)


def choose_device(device: str | torch.device) -> torch.device:
    """The device to run on; "auto" takes a GPU where there is one. UsageError if a named device is missing."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(
            f"The device {str(device)!r} cannot be used here: it is not known. Use auto, cpu, cuda, cuda:1 (the second "
            "GPU) or mps."
        ) from error
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"The device {str(device)!r} cannot be used here: {reason}") from error
    return chosen


def _as_logits(output: Tensor, images: int) -> Tensor:
    if output.dim() < 2 or math.prod(output.shape[1:]) != output.shape[1]:
        raise ModelError(f"The model must return logits (N, classes); it returns shape {tuple(output.shape)}.")
    if len(output) != images:
        raise ModelError(
            f"The model gives {len(output)} rows of logits for {images} images. Where it goes through the images of a "
            "batch one by one (for image in x), its trace holds as many as there were: give the images one by one."
        )
    return output.flatten(1)


def _is_table(target: Target) -> bool:
    """Whether the caller asked for several classes per image in so many words, even if K is 1."""
    return isinstance(target, Tensor) and target.dim() == 2


def _times(shape: torch.Size) -> str:
    return " x ".join(map(str, shape))


def _join(parts: list[Tensor], one: bool) -> Tensor:
    return parts[0] if one else torch.stack(parts, 1)
