"""Whether the numbers that came out are an explanation: finite, and not so large that little but rounding is left."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lrpcli.errors import UsageError
from lrpcli.lrp.exploded import EXPLODED


def require_finite_input(x: Tensor) -> None:
    """UsageError names the images of `x` (N, C, H, W) whose pixels are not finite."""
    if x.dim() < 2 or x.numel() == 0:
        return
    finite = _largest(x).isfinite()
    if not bool(finite.all()):
        raise UsageError(
            f"{_images((~finite).nonzero()[:, 0].tolist())} of the batch (counted from 0) has pixels that are not "
            f"finite in {str(x.dtype).removeprefix('torch.')}, so there is nothing to explain. Leave it out, or mend "
            "the preprocessing."
        )


def failures(logits: Tensor, totals: Sequence[Mapping[str, Tensor]]) -> dict[int, str]:
    """Images whose logits (N, D) or whose totals (N,) at any layer are not finite, and what is not, as a sentence.

    A total is finite only if every relevance in it is.
    """
    named = [(name, total) for part in totals for name, total in part.items() if len(total) == len(logits)]
    names = [name for name, _ in named]
    rows = torch.stack([logits.isfinite().all(1), *(total.isfinite() for _, total in named)])
    if bool(rows.all()):
        return {}
    places = rows.to(torch.uint8).argmin(0).tolist()
    return {
        image: "Its logits are not finite."
        if places[image] == 0
        else f"Its relevance is not finite from {names[places[image] - 1]!r} down."
        for image in (~rows.all(0)).nonzero()[:, 0].tolist()
    }


def has_exploded(relevance: Tensor, start: Tensor) -> Tensor:
    """Whether the largest of an image's relevances (N, C, H, W) is EXPLODED times its `start` (N, D) or more, (N,)."""
    size = start.abs().sum(1)
    return _largest(relevance) > EXPLODED * size


def _largest(values: Tensor) -> Tensor:
    """The largest magnitude in each image's values (N, C, ...), (N,); NaN where one is NaN. Copies none of them."""
    axes = tuple(range(1, values.dim()))
    return torch.maximum(values.amax(axes), -values.amin(axes))


def describe(failed: Mapping[int, str]) -> str:
    """What failed, for several images at once."""
    reasons = " ".join(f"Image {image}: {reason}" for image, reason in list(failed.items())[:5])
    return (
        f"{_images(list(failed))} of the batch (counted from 0) cannot be explained. {reasons} Leave it out, or "
        "compute in float64; an epsilon above 0 keeps relevance from growing."
    )


def _images(places: list[int]) -> str:
    first = ", ".join(map(str, places[:10])) + (", ..." if len(places) > 10 else "")
    return f"Image {first}" if len(places) == 1 else f"Each of the images {first}"
