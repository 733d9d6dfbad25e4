"""What is compared: configs under LRN rules, and controls; each scores the pixels of an image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lrpcli.errors import UsageError
from lrpcli.evaluation.settings import EvaluationSettings
from lrpcli.lrp.batch_limit import BatchLimit
from lrpcli.lrp.explainer import Explainer
from lrpcli.models.model import Model

RANDOM = "random"
NORM = "gradient-norm"
"""Name of the gradient control: not the config `gradient`, which keeps the sign."""


@dataclass(frozen=True)
class Method:
    """A way to score pixels. `config` is None for the random order, `lrn` where the config's own rule holds.

    `norm`: the score of a pixel is the Euclidean norm over its channels [S16], not their sum.
    """

    name: str
    config: str | None = None
    lrn: str | None = None
    control: bool = False
    norm: bool = False


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
    }
    found += [controls[control] for control in settings.controls]
    names = [method.name for method in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name!r} is given as a config and as a control. Name it once.")
    return tuple(found)


class Maps:
    """The relevance maps of all methods, by explainers that share one copy of the model."""

    def __init__(self, model: Model, methods: Sequence[Method], device: str, dtype: torch.dtype) -> None:
        self.methods = [method for method in methods if method.config is not None]
        first, *others = self.methods
        explainer = Explainer(model, str(first.config), lrn=first.lrn, device=device, dtype=dtype)
        self.explainers = [explainer, *(explainer.with_config(str(other.config), lrn=other.lrn) for other in others)]
        self._predict_limit, self._explain_limit = BatchLimit(), BatchLimit()

    @property
    def device(self) -> torch.device:
        """Where images are computed."""
        return self.explainers[0].device

    def predict(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, h, w); in parts where there is no room for all at once."""
        return in_parts(self._predict_limit, self.explainers[0].predict, x)

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        """(M, N, h, w): scores per pixel for the classes `target` (N,), methods without a map left out."""
        return torch.stack([self.one(place, x, target) for place in range(len(self.methods))])

    def one(self, place: int, x: Tensor, target: Tensor) -> Tensor:
        """(N, h, w): what one method says."""

        def explain(x: Tensor, target: Tensor) -> Tensor:
            relevance = self.explainers[place](x, target, strict=False).relevance
            return relevance.norm(dim=1) if self.methods[place].norm else relevance.sum(1)

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
