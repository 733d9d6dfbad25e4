"""A batch of prepared images through the engine; what is too large for the memory is halved."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrpcli.errors import DeviceError, ImageError, LrpError
from lrpcli.lrp.explainer import Explainer, Result
from lrpcli.pipeline.prepare import Prepared
from lrpcli.pipeline.targets import Targets

TOP = 5


@dataclass
class Explanation:
    """One class of one image: relevance (C, h, w) in units of `start`, the total that the backward pass began with."""

    target: int
    score: float
    start: float
    relevance: NDArray[np.float32]
    layers: dict[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass
class Explained:
    """All maps of one image, and its best classes with their softmax scores."""

    explanations: list[Explanation]
    top: list[tuple[int, float]]


@dataclass(frozen=True)
class Engine:
    """The explainer, and what it is asked for each image; `keep_layers` for the relevance of every layer.

    A batch of fewer than `size` images is filled up with copies of its last one: the last digits of a result depend on
    the size of the batch, and a run that was stopped and goes on has other images left than one that was not.
    """

    explainer: Explainer
    targets: Targets
    keep_layers: bool = False
    size: int = 1

    def __call__(self, batch: Sequence[Prepared]) -> list[Explained | ImageError]:
        """One answer per image, in order. DeviceError if the memory does not even hold one image."""
        answers: list[Explained | ImageError] = []
        usable: list[tuple[Prepared, tuple[int, ...] | None]] = []
        for item in batch:
            try:
                usable.append((item, self.targets.of(item.source)))
            except ImageError as error:
                answers.append(error)
            else:
                answers.append(ImageError("compute", ""))
        results = iter(self._explain(usable, self.size))
        return [answer if str(answer) else next(results) for answer in answers]

    def _explain(self, batch: list[tuple[Prepared, Any]], size: int = 1) -> list[Explained | ImageError]:
        if not batch:
            return []
        try:
            return list(self._run(batch, size))
        except LrpError:
            raise
        except (RuntimeError, MemoryError) as error:
            if len(batch) == 1 and size <= 1:
                return [_single_failure(batch[0][0], error)]
        # Out of memory, or one image that the others need not suffer for: the halves are tried by themselves.
        if self.explainer.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1:
            return self._explain(batch)
        middle = len(batch) // 2
        return self._explain(batch[:middle]) + self._explain(batch[middle:])

    def _run(self, batch: list[tuple[Prepared, Any]], size: int) -> list[Explained | ImageError]:
        filled = batch + batch[-1:] * (size - len(batch))
        x = torch.from_numpy(np.stack([item.pixels for item, _ in filled]))
        target = self.targets.batch([classes for _, classes in filled])
        result = self.explainer(x, target, keep_layers=self.keep_layers)
        return [_answer(item, result, place) for place, (item, _) in enumerate(batch)]


def _single_failure(item: Prepared, error: Exception) -> ImageError:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "memory" in str(error).lower():
        raise DeviceError(
            "The device has too little memory even for one image. Use another --device, or a smaller model."
        ) from error
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, torch.AcceleratorError):
        raise DeviceError(
            f"The device was lost ({reason}). What is finished is safe: run the same command again, perhaps with "
            "another --device."
        ) from error
    return ImageError("compute", f"The relevance of {item.source.path!r} cannot be computed: {reason}")


def _answer(item: Prepared, result: Result, place: int) -> Explained | ImageError:
    several = result.target.dim() == 2

    def numbers(values: Tensor) -> NDArray[np.float32]:
        """(K, ...) of this image."""
        mine = values[place] if several else values[place][None]
        return mine.float().cpu().numpy()

    relevance, probabilities = numbers(result.relevance), result.logits[place].double().softmax(0)
    if not np.isfinite(relevance).all():
        return ImageError(
            "compute", f"The relevance of {item.source.path!r} is not finite; nothing was written for it."
        )
    scores, classes = probabilities.topk(min(TOP, len(probabilities)))
    targets, starts = numbers(result.target).astype(int), numbers(result.start)
    layers = {name: numbers(values) for name, values in result.layers.items()}
    explanations = [
        Explanation(
            int(index), float(probabilities[index]), float(starts[k]), relevance[k],
            {name: values[k] for name, values in layers.items()},
        )
        for k, index in enumerate(targets)
    ]  # fmt: skip
    return Explained(explanations, [(int(c), float(s)) for c, s in zip(classes, scores, strict=True)])
