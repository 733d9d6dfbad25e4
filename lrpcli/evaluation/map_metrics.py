"""What single maps are worth, as pure functions of tensors; docs/evaluation.md has the formulas and their sources.

Shapes: N maps of h x w pixels. Everything is computed in float64; NaN stands for what a map does not define.
"""

import torch
from torch import Tensor
from torch.nn import functional

BINS = 100
"""Of the histogram whose entropy says how complex a map is."""


def cosines(left: Tensor, right: Tensor) -> Tensor:
    """(N,) cosines of the angles between maps (N, h, w) and (N, h, w), in -1..1; NaN where either map is zero.

    Sixt et al. 2020: 1 for two maps that differ by a positive factor at most.
    """
    return _products(_unit(left), _unit(right))


def _unit(maps: Tensor) -> Tensor:
    """(N, h * w) float64 of Euclidean length 1; NaN for a map of zeros."""
    flat = maps.flatten(1).double()
    scaled = flat / flat.abs().amax(1, keepdim=True)  # squares of tiny relevance would vanish
    return functional.normalize(scaled, eps=0)


def _products(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(1).clamp(-1, 1)


def gini(maps: Tensor) -> Tensor:
    """(N,) Gini indices of the absolute maps (N, h, w): 0 if all pixels are alike, 1 - 1/(h w) if one has everything.

    With sizes a_1 <= ... <= a_n: sum_i (2 i - n - 1) a_i / (n sum_i a_i). NaN for a map of zeros.
    """
    sizes = maps.flatten(1).double().abs().sort(1).values
    count = sizes.shape[1]
    place = torch.arange(1, count + 1, dtype=torch.float64, device=sizes.device)
    return ((2 * place - count - 1) * sizes).sum(1) / (count * sizes.sum(1))


def histogram_entropy(maps: Tensor) -> Tensor:
    """(N,) entropies, in nats, of histograms of the signed maps (N, h, w): 100 bins of one width over each map's range.

    0 for a map that is the same everywhere, NaN for one that is not finite. As np.histogram has it, the last bin holds
    the largest value.
    """
    flat = maps.flatten(1).double()
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    width = torch.where(high > low, high - low, 1.0)
    place = ((flat - low) / width * BINS).nan_to_num(0).floor().clamp(0, BINS - 1).long()
    counts = torch.zeros(len(flat), BINS, dtype=torch.float64, device=flat.device)
    counts.scatter_add_(1, place, torch.ones_like(flat))
    entropy = torch.xlogy(counts, flat.shape[1] / counts.clamp(min=1)).sum(1) / flat.shape[1]
    return torch.where(flat.isfinite().all(1), entropy, torch.nan)


def entropy_gains(before: Tensor, after: Tensor) -> Tensor:
    """(N,): (H' - H) / H of maps (N, h, w) before and after all parameters were reset; NaN where H is 0.

    Hedström et al. 2023 (eMPRT): an explanation of a net that has learnt something is simpler than one of noise.
    """
    first = histogram_entropy(before)
    return (histogram_entropy(after) - first) / torch.where(first > 0, first, torch.nan)


def rank_correlations(left: Tensor, right: Tensor) -> Tensor:
    """(N,) Spearman correlations of the absolute maps (N, h, w) and (N, h, w), in -1..1; NaN where one is constant."""
    one, two = (_ranks(maps.flatten(1).abs()) for maps in (left, right))
    return cosines(one - one.mean(1, keepdim=True), two - two.mean(1, keepdim=True))


def _ranks(values: Tensor) -> Tensor:
    """(N, P) float64 ranks from 1; equal values share the mean of their ranks."""
    ordered, order = values.sort(1)
    firsts = torch.searchsorted(ordered, ordered, side="left")
    lasts = torch.searchsorted(ordered, ordered, side="right")
    shared = (firsts + lasts + 1).double() / 2
    return torch.zeros_like(shared).scatter_(1, order, shared)


def positive_shares(maps: Tensor, cells: Tensor) -> Tensor:
    """(N,) shares of the positive relevance of maps (N, h, w) in the marked quarters; NaN where there is none.

    `cells` (N, 4) are booleans: top left, top right, bottom left, bottom right; the first rows and columns are h // 2
    and w // 2. Arias-Duart et al. 2022 (Focus).
    """
    positive = maps.double().clamp(min=0)
    down, across = maps.shape[1] // 2, maps.shape[2] // 2
    quarters = torch.stack(
        [part.sum((1, 2)) for half in (positive[:, :down], positive[:, down:])
         for part in (half[:, :, :across], half[:, :, across:])], 1,
    )  # fmt: skip
    return (quarters * cells.to(quarters)).sum(1) / quarters.sum(1)


def kept_shares(maps: Tensor, start: Tensor) -> Tensor:
    """(N,): the totals of maps (N, h, w) over what the backward pass started from, (N,); NaN where that is zero."""
    start = start.double()
    return maps.double().sum((1, 2)) / torch.where(start == 0, torch.nan, start)


def edges(photo: Tensor) -> Tensor:
    """(N, h, w): how large the gradient of photos (N, C, h, w) is, by Sobel's filters on the mean over the channels.

    Beyond the borders the pixels at the borders go on.
    """
    grey = functional.pad(photo.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")[:, 0]
    rows = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]  # (N, h, w + 2)
    columns = grey[:, :, :-2] + 2 * grey[:, :, 1:-1] + grey[:, :, 2:]  # (N, h + 2, w)
    return torch.hypot(rows[:, :, 2:] - rows[:, :, :-2], columns[:, 2:] - columns[:, :-2])
