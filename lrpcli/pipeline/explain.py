"""Prepared images through the engine, as many at once as the memory holds."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrpcli.errors import DeviceError, ImageError, LrpError
from lrpcli.lrp.batch_limit import BatchLimit, is_lost
from lrpcli.lrp.explainer import Explainer, Result
from lrpcli.lrp.targets import WHOLE_STARTS, probabilities
from lrpcli.pipeline.class_check import class_cosines
from lrpcli.pipeline.decode import Prepared
from lrpcli.pipeline.layer_flow import LayerFlow, flow_of, kept_share
from lrpcli.pipeline.targets import Targets

TOP = 5
_Asked = tuple[Prepared, tuple[int, ...] | None]
"""An image and the classes asked of it, as Targets.of names them."""


@dataclass
class Explanation:
    """One class of one image: relevance (C, h, w) in units of `start`, the total that the backward pass began with."""

    target: int
    score: float
    start: float
    relevance: NDArray[np.float32]
    exploded: bool = False
    """See Result."""
    kept: float | None = None
    """The map's total / start; None for starts whose total says nothing."""
    layers: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    absorbed: dict[str, float] = field(default_factory=dict)
    """See Result."""
    flow: list[LayerFlow] = field(default_factory=list)
    """With the relevance of layers: what became of it in each."""

    @property
    def summed(self) -> NDArray[np.float32]:
        """The relevance (h, w) with channels summed."""
        summed: NDArray[np.float32] = self.relevance.sum(0, dtype=np.float64).astype(np.float32)
        return summed


@dataclass
class Answer:
    """All maps of one image, and its best classes with their probabilities."""

    explanations: list[Explanation]
    top: list[tuple[int, float]]
    class_cosine: float | None = None
    """See lrpcli.pipeline.class_check; None where it was not asked for."""


@dataclass(frozen=True)
class Engine:
    """The explainer, and what it is asked for each image; `keep_layers` for the relevance of every layer.

    Images whose names are in `checked` are also explained for their two best classes, see class_check.

    It computes `size` images at once, or fewer where the memory has no room for them. What is left over is filled up
    to that size with copies of the last image: the last digits of a result depend on the size of the batch, and a run
    that was stopped and goes on has other images left than one that was not.
    """

    explainer: Explainer
    targets: Targets
    keep_layers: bool = False
    checked: frozenset[str] = frozenset()
    size: int = 1
    limit: BatchLimit = field(default_factory=BatchLimit)

    def sized(self, size: int) -> "Engine":
        """The same for batches of another size."""
        return replace(self, size=size)

    def __call__(self, batch: Sequence[Prepared]) -> list[Answer | ImageError]:
        """One answer per image, in order. DeviceError if the device is lost or has no room even for one image."""
        asked = [self._ask(item) for item in batch]
        results = iter(self._explain([question for question in asked if not isinstance(question, ImageError)]))
        return [question if isinstance(question, ImageError) else next(results) for question in asked]

    def _ask(self, item: Prepared) -> "_Asked | ImageError":
        try:
            return item, self.targets.of(item.source)
        except ImageError as error:
            return error

    def _explain(self, batch: list[_Asked]) -> list[Answer | ImageError]:
        answers: list[Answer | ImageError] = []
        while len(answers) < len(batch):
            size = min(self.size, self.limit.images)
            part = batch[len(answers) : len(answers) + size]
            try:
                answers += self._run(part + part[-1:] * (size - len(part)))[: len(part)]
            except LrpError:
                raise
            except (RuntimeError, MemoryError) as error:
                if not self.limit.refused(size, error):
                    answers += map(self._alone, part)
        return answers

    def _alone(self, asked: _Asked) -> Answer | ImageError:
        """One of the images of a batch that failed: the others need not suffer for it."""
        try:
            return self._run([asked])[0]
        except LrpError:
            raise
        except (RuntimeError, MemoryError) as error:
            return compute_error(error, asked[0].source.path)

    def _run(self, batch: list[_Asked]) -> list[Answer | ImageError]:
        x = torch.from_numpy(np.stack([item.pixels for item, _ in batch]))
        if self.explainer.device.type == "cuda":  # copied while the processor goes on
            x = x.pin_memory().to(self.explainer.device, non_blocking=True)
        target = self.targets.batch([classes for _, classes in batch])
        result = _on_processor(self.explainer(x, target, keep_layers=self.keep_layers, strict=False))
        scores = probabilities(result.logits.double(), self.explainer.graph.head)
        answers = [_answer(item, result, scores, place, self.explainer) for place, (item, _) in enumerate(batch)]
        self._check_classes(x, [item for item, _ in batch], answers)
        return answers

    def _check_classes(self, x: Tensor, items: list[Prepared], answers: list[Answer | ImageError]) -> None:
        """Gives the answers of checked images their cosine."""
        chosen = [
            (place, answer)
            for place, (item, answer) in enumerate(zip(items, answers, strict=True))
            if item.source.name in self.checked and isinstance(answer, Answer) and len(answer.top) > 1
        ]
        if chosen:
            cosines = class_cosines(self.explainer, x[[place for place, _ in chosen]])
            for (_, answer), cosine in zip(chosen, cosines, strict=True):
                answer.class_cosine = cosine


def compute_error(error: RuntimeError | MemoryError, path: str) -> ImageError:
    """What an error of computing one image says of it. DeviceError if the device is lost or its memory is full."""
    BatchLimit().refused(1, error)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if is_lost(error):
        raise DeviceError(
            f"The device was lost ({reason}). What is finished is safe: run the same command again, perhaps with "
            "another --device."
        ) from error
    return ImageError("compute", f"The relevance of {path!r} cannot be computed: {reason.rstrip('.')}.")


def _on_processor(result: Result) -> Result:
    """All at once: every copy from a GPU waits for it."""
    layers = {name: values.cpu() for name, values in result.layers.items()}
    absorbed = {name: values.cpu() for name, values in result.absorbed.items()}
    relevance, logits, target, start, exploded = (
        values.cpu() for values in (result.relevance, result.logits, result.target, result.start, result.exploded)
    )
    return replace(
        result, relevance=relevance, logits=logits, target=target, start=start, exploded=exploded, layers=layers,
        absorbed=absorbed,
    )  # fmt: skip


def _answer(item: Prepared, result: Result, scores: Tensor, place: int, explainer: Explainer) -> Answer | ImageError:
    """The answer for one image of a batch, from the result that the explainer gave for it."""
    several = result.target.dim() == 2

    def numbers(values: Tensor) -> NDArray[np.float32]:
        """(K, ...) of this image."""
        mine = values[place] if several else values[place][None]
        return mine.float().numpy()

    relevance, likely = numbers(result.relevance), scores[place]
    if place in result.failures or not np.isfinite(relevance).all():
        reason = result.failures.get(place, "")
        return ImageError(
            "compute",
            f"The relevance of {item.source.path!r} is not finite; nothing was written for it. {reason}".rstrip(),
        )
    classes = result.logits[place].topk(min(TOP, len(likely))).indices  # sigmoids of large logits are all 1
    targets, starts = numbers(result.target).astype(int), numbers(result.start)
    exploded = numbers(result.exploded).astype(bool)
    layers = {name: numbers(values) for name, values in result.layers.items()}
    absorbed = {name: numbers(values) for name, values in result.absorbed.items()}
    whole = explainer.start in WHOLE_STARTS
    explanations = [
        Explanation(
            int(index), float(likely[index]), float(starts[k]), relevance[k], bool(exploded[k]),
            kept_share(relevance[k], starts[k]) if whole else None,
            {name: values[k] for name, values in layers.items()},
            {name: float(values[k]) for name, values in absorbed.items()},
        )
        for k, index in enumerate(targets)
    ]  # fmt: skip
    if layers:
        for one in explanations:
            one.flow = flow_of(explainer, one.relevance, one.layers, one.absorbed, one.start if whole else None)
    return Answer(explanations, [(int(index), float(likely[index])) for index in classes])
