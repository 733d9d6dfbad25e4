"""What is compared: configs under LRN rules, and controls; each scores the pixels of an image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lrpcli.errors import UsageError
from lrpcli.evaluation.map_metrics import edges
from lrpcli.evaluation.settings import EvaluationSettings
from lrpcli.lrp.batch_limit import BatchLimit
from lrpcli.lrp.explainer import Explainer
from lrpcli.lrp.targets import start_relevance
from lrpcli.models.model import Model

RANDOM = "random"
LINEAR = ("logit", "one")
"""Starts whose maps are those of `one` times the start's value."""
EDGES = "edges"
NORM = "gradient-norm"
"""Name of the gradient control: not the config `gradient`, which keeps the sign."""


@dataclass(frozen=True)
class Method:
    """A way to score pixels. `config` is None for what asks no net, `lrn` where the config's own rule holds.

    `norm`: the score of a pixel is the Euclidean norm over its channels [S16], not their sum.
    """

    name: str
    config: str | None = None
    lrn: str | None = None
    control: bool = False
    norm: bool = False

    @property
    def has_map(self) -> bool:
        """Whether it scores pixels; the random order does not."""
        return self.config is not None or self.name != RANDOM


def methods_of(settings: EvaluationSettings) -> tuple[Method, ...]:
    """Every config under every LRN rule, then the controls. UsageError if two have one name."""
    found = [
        Method(config if lrn is None else f"{config}/{lrn}", config, lrn)
        for config in settings.configs
        for lrn in (settings.lrn or (None,))
    ]
    controls = {
        "random": Method(RANDOM, control=True),
        "gradient": Method(NORM, "gradient", control=True, norm=True),
        "gradient-times-input": Method("gradient-times-input", "gradient-times-input", control=True),
        "edges": Method(EDGES, control=True),
    }
    found += [controls[control] for control in settings.controls]
    names = [method.name for method in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name!r} is given as a config and as a control. Name it once.")
    return tuple(found)


class Maps:
    """The relevance maps of all methods that have one, by explainers that share one copy of the model.

    `explainers` are those of the methods with a config, by name; `first` is that of the first.
    """

    def __init__(self, model: Model, methods: Sequence[Method], device: str, dtype: torch.dtype) -> None:
        self.methods = [method for method in methods if method.has_map]
        self._pixel_range = model.pixel_range
        first, *others = (method for method in self.methods if method.config is not None)
        self.first = Explainer(model, str(first.config), lrn=first.lrn, device=device, dtype=dtype)
        self.explainers = {
            first.name: self.first,
            **{other.name: self.first.with_config(str(other.config), lrn=other.lrn) for other in others},
        }
        # With the start `one`; others of LINEAR give the same maps but for a factor.
        self._from_one = {
            method.name: self.first.with_config(str(method.config), lrn=method.lrn, start="one")
            for method in self.methods
            if method.name in self.explainers and self.explainers[method.name].start not in LINEAR
        }
        self._predict_limit, self._explain_limit = BatchLimit(), BatchLimit()

    @property
    def device(self) -> torch.device:
        """Where images are computed."""
        return self.first.device

    def predict(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, h, w); in parts where there is no room for all at once."""
        return in_parts(self._predict_limit, self.first.predict, x)

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        """(M, N, h, w): scores per pixel for the classes `target` (N,), methods without a map left out."""
        return torch.stack([self.one(place, x, target) for place in range(len(self.methods))])

    def one(self, place: int, x: Tensor, target: Tensor) -> Tensor:
        """(N, h, w): what one method says."""
        return self._scores(self.methods[place], self.explainers.get(self.methods[place].name), x, target)

    def of_classes(self, place: int, x: Tensor, classes: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """What one method says for the first of the classes (N, K), (N, h, w), and for each from the start `one`.

        The latter are (K, N, h, w), up to a positive factor. One forward pass gives all where the config's start is a
        number times `one`.
        """
        method = self.methods[place]
        explainer = self._from_one.get(method.name, self.explainers.get(method.name))
        maps = self._scores(method, explainer, x, classes).movedim(1, 0)
        if method.name in self._from_one:
            return self.one(place, x, classes[:, 0]), maps
        if explainer is None or method.norm or explainer.start == "one":
            return maps[0], maps
        return maps[0], maps * logits.gather(1, classes).sign().T[:, :, None, None]

    def extra_passes(self, classes: int) -> int:
        """How many maps `of_classes` makes for an image beyond one for each method, by its explainers."""
        return len(self.explainers) * (classes - 1) + len(self._from_one)

    def starts(self, place: int, logits: Tensor, target: Tensor) -> Tensor | None:
        """(N,): the totals from which a method's maps start, for logits (N, classes); None for what is no relevance."""
        method = self.methods[place]
        explainer = self.explainers.get(method.name)
        if explainer is None or method.norm:
            return None
        return start_relevance(logits, target, explainer.start, explainer.graph.head).sum(1)

    def _scores(self, method: Method, explainer: Explainer | None, x: Tensor, target: Tensor) -> Tensor:
        """(N, h, w), or (N, K, h, w) for classes (N, K)."""
        if explainer is None:
            assert self._pixel_range is not None  # asked for when the evaluation began
            low, high = (bound.to(x) for bound in self._pixel_range)
            found = edges((x - low) / (high - low))
            return found if target.dim() == 1 else found[:, None].expand(-1, target.shape[1], -1, -1)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            relevance = explainer(x, target, strict=False).relevance
            return relevance.norm(dim=-3) if method.norm else relevance.sum(-3)

        return in_parts(self._explain_limit, explain, x, target)


def in_parts(limit: BatchLimit, function: Callable[..., Tensor], *batch: Tensor) -> Tensor:
    """The function's answer for a batch, one after the other for parts of it where there is no room for all at once."""
    size, parts, done = len(batch[0]), [], 0
    while done < size:
        count = min(limit.images, size - done)
        try:
            parts.append(function(*(values[done : done + count] for values in batch)))
        except (RuntimeError, MemoryError) as error:
            if not limit.refused(count, error):
                raise
            continue
        done += count
    return parts[0] if len(parts) == 1 else torch.cat(parts)
