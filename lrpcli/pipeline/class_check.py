"""Whether maps depend on the class: how alike those of the best and of the second class of an image are."""

import torch
from torch import Tensor

from lrpcli.lrp.explainer import Explainer

SIGNED_STARTS = ("logit", "contrastive", "contrastive-positive")
"""Starts whose map turns its sign with the logit's."""


def class_cosines(explainer: Explainer, x: Tensor) -> list[float | None]:
    """For each image of `x` (N, C, H, W), the cosine of the maps of its best and its second class [Sixt et al. 2020].

    Channels are summed. The start is the explainer's own, and every map is taken as if its logit were positive: 1 means
    that both classes have the same map. None where a map is zero or not finite. The net has at least two outputs.
    """
    result = explainer(x, "top2", strict=False)
    maps = result.relevance.sum(2).flatten(2).double()  # (N, 2, H W)
    if explainer.start in SIGNED_STARTS:
        maps = maps * torch.where(result.start < 0, -1.0, 1.0)[..., None]
    cosines = torch.nn.functional.cosine_similarity(maps[:, 0], maps[:, 1], dim=1)
    known = cosines.isfinite() & (maps.abs().sum(2) > 0).all(1)
    return [float(cosine) if fine else None for cosine, fine in zip(cosines, known, strict=True)]
