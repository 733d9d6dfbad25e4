"""What is explained, and the relevance that the backward pass starts from (docs/configs.md)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lrpcli.errors import UsageError
from lrpcli.lrp.names import STARTS

WHOLE_STARTS = ("logit", "one", "probability")
"""Starts that are a score of the class, of which the map's total is a share."""

HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(1),
    "sigmoid": torch.sigmoid,
    "hardsigmoid": functional.hardsigmoid,
}
"""What makes probabilities of logits (N, classes), by the head of a graph."""

Target = None | int | str | Sequence[int] | Tensor
"""None or "top" (the predicted class), "topK", a class index, one index per image, or a tensor (N,) or (N, K)."""


def choose_classes(logits: Tensor, target: Target) -> Tensor:
    """Class indices (N, K) to explain for logits (N, classes); UsageError for a class that does not exist."""
    images, classes = logits.shape
    count = top_count(target)
    if count is not None:
        if not 1 <= count <= classes:
            raise UsageError(f"The target 'top{count}' does not fit: the model has {classes} classes, from top1 on.")
        return logits.topk(count, dim=1).indices
    chosen = _indices(target).to(logits.device)
    if chosen.dim() == 0:
        chosen = chosen.expand(images)
    chosen = chosen[:, None] if chosen.dim() == 1 else chosen
    if chosen.shape[0] != images:
        raise UsageError(f"There are {images} images but targets for {chosen.shape[0]}; give one target per image.")
    if bool(((chosen < 0) | (chosen >= classes)).any()):
        wrong = next(index for index in chosen.flatten().tolist() if not 0 <= index < classes)
        raise UsageError(f"The target class {wrong} lies outside 0..{classes - 1}, the model's classes.")
    return chosen


def _indices(target: Target) -> Tensor:
    """Class indices as whole numbers, (), (N,) or (N, K)."""
    try:
        given = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"The target {target!r} cannot be read as class indices: {error}.") from error
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool or given.dim() > 2:
        raise UsageError(
            f"The target must be whole class indices, one or (N,) or (N, K); it has the type {given.dtype} and the "
            f"shape {tuple(given.shape)}."
        )
    return given.long()


def top_count(target: object) -> int | None:
    """K of a target "topK" (1 for None and "top"), or None if the target names classes."""
    if target is None:
        return 1
    if isinstance(target, str):
        if target == "top":
            return 1
        if target.startswith("top") and target[3:].isdecimal():
            return int(target[3:])
        raise UsageError(f"The target {target!r} is not known; use 'top', 'topK' such as 'top3', or a class index.")
    return None


def check_start(start: str) -> str:
    """The name of a start; UsageError if it is not known."""
    if start not in STARTS:
        raise UsageError(f"The start {start!r} is not known; choose one of {', '.join(STARTS)}.")
    return start


def probabilities(logits: Tensor, head: str = "softmax") -> Tensor:
    """Probabilities (N, classes) by the head that the model has; a single logit is that of a sigmoid.

    >>> import torch
    >>> from lrpcli.lrp.targets import probabilities
    >>> probabilities(torch.tensor([[0.0, 0.0, 0.0, 0.0]])), probabilities(torch.tensor([[0.0, 0.0]]), "sigmoid")
    (tensor([[0.2500, 0.2500, 0.2500, 0.2500]]), tensor([[0.5000, 0.5000]]))
    """
    return HEADS["sigmoid" if head == "softmax" and logits.shape[1] == 1 else head](logits)


def start_relevance(logits: Tensor, classes: Tensor, start: str, head: str = "softmax") -> Tensor:
    """Start relevance (N, classes) for one class per image, `classes` (N,); contrastive starts like logit."""
    column = classes[:, None]
    if start == "one":
        return torch.zeros_like(logits).scatter_(1, column, 1.0)
    if start in ("logit", "contrastive", "contrastive-positive"):
        return torch.zeros_like(logits).scatter_(1, column, logits.gather(1, column))
    likely = probabilities(logits, head)
    chosen = likely.gather(1, column)
    if start == "probability":
        return torch.zeros_like(logits).scatter_(1, column, chosen)
    check_start(start)
    one_by_one = head != "softmax" or logits.shape[1] == 1
    others = torch.zeros_like(logits) if one_by_one else -chosen * likely
    return others.scatter_(1, column, chosen * (1 - chosen))


def opposite_start(logits: Tensor, classes: Tensor) -> Tensor:
    """The other classes' start for a contrastive map: the target's logit spread evenly over them [G18]."""
    column = classes[:, None]
    share = logits.gather(1, column) / max(logits.shape[1] - 1, 1)
    return share.expand_as(logits).scatter(1, column, 0.0)


def equal_scale(total: Tensor, opposite: Tensor) -> Tensor:
    """What the other classes' map must be multiplied by to have the target's total, (N,); 1 where it has none."""
    empty = opposite == 0
    return torch.where(empty, 1.0, total / opposite.masked_fill(empty, 1.0))
