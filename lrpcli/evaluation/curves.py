"""The score of the predicted class as regions are replaced: many images, orders and steps in full batches."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lrpcli.evaluation import perturbation
from lrpcli.evaluation.perturbation import Grid
from lrpcli.evaluation.settings import PerturbationSettings
from lrpcli.lrp.targets import probabilities

Predict = Callable[[Tensor], Tensor]
Progress = Callable[[int], None]
"""Is told how many images have gone through the net since the last call."""


@dataclass(frozen=True)
class PerturbationPath:
    """One path from the image to its perturbed end: an order of regions, (N, G) ranks, and which fill replaces them."""

    method: str
    order: str
    rank: Tensor
    fill: int


def class_scores(logits: Tensor, target: Tensor, score: str) -> Tensor:
    """(N,) float64: probability or logit of the classes `target` (N,), from logits (N, classes).

    `score` is "logit" or the model's head, see targets.HEADS.
    """
    values = logits.double()
    return (values if score == "logit" else probabilities(values, score)).gather(1, target[:, None])[:, 0]


def fills_for(x: Tensor, pixel_range: tuple[Tensor, Tensor], settings: PerturbationSettings) -> Tensor:
    """(F, N, C, h, w): what replaces regions; of ROAD what is added to what the pixels around say.

    Noise and that are drawn `repeats` times; other fills are always the same.
    """
    low, high = (bound.to(x) for bound in pixel_range)
    if settings.fill == "mean":
        return perturbation.mean_fill(x)[None]
    if settings.fill == "blur":
        return perturbation.blur_fill(x, low, high)[None]
    draws = range(settings.repeats)
    if settings.fill == "road":
        return torch.stack([perturbation.road_noise(x, low, high, settings.seed, repeat) for repeat in draws])
    return torch.stack([perturbation.noise_fill(x, low, high, settings.seed, repeat) for repeat in draws])


def paths_for(
    x: Tensor, maps: Mapping[str, Tensor], random: str | None, fills: int, grid: Grid, settings: PerturbationSettings
) -> list[PerturbationPath]:
    """The paths that are measured: every map (N, h, w) in every order under every fill, and random orders by name."""
    paths = []
    for name, scores in maps.items():
        sums = grid.sums(scores)
        for order in settings.orders:
            rank = perturbation.ranks(sums, descending=order == "morf")
            paths += [PerturbationPath(name, order, rank, fill) for fill in range(fills)]
    if random is not None:
        for repeat in range(settings.repeats):
            rank = perturbation.random_ranks(x, grid.count, settings.seed, repeat)
            paths.append(PerturbationPath(random, "random", rank, repeat % fills))
    return paths


@dataclass(frozen=True)
class Perturbation:
    """Everything that a perturbed image is made of: images (N, C, h, w), fills (F, N, C, h, w), paths and steps.

    With `pixel_range` (low, high) the fills are added to what ROAD makes of the removed pixels. In each step `stride`
    regions are replaced.
    """

    x: Tensor
    fills: Tensor
    paths: list[PerturbationPath]
    grid: Grid
    steps: int
    pixel_range: tuple[Tensor, Tensor] | None = None
    stride: int = 1

    def along(self, image: int, path: PerturbationPath, step: Tensor) -> Tensor:
        """(K, C, h, w): one image on one of the paths after `step` (K,) regions."""
        turn = path.rank[image].to(self.x.device)[self.grid.region_of_pixel().to(self.x.device)]
        fill = self.fills[path.fill, image]
        if self.pixel_range is not None:
            fill = fill + perturbation.road_fill(self.x[image], turn < step[:, None, None], *self.pixel_range)
        return perturbation.perturbed(self.x[image], fill, turn, step)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Perturbed images (B, C, h, w) with the numbers (B,) of the images they come from, made when asked for.

        In the order image, path, step 1..L; B is `size` but for the last batch.
        """
        whole = len(self.x) * len(self.paths) * self.steps
        for first in range(0, whole, size):
            places = range(first, min(first + size, whole))
            parts = [
                self.along(
                    image, self.paths[path], torch.arange(steps.start, steps.stop, device=self.x.device) * self.stride
                )
                for image, path, steps in self._stretches(places)
            ]
            image = torch.arange(places.start, places.stop, device=self.x.device) // (len(self.paths) * self.steps)
            yield torch.cat(parts) if len(parts) > 1 else parts[0], image

    def _stretches(self, places: range) -> Iterator[tuple[int, int, range]]:
        """Image, path and steps of consecutive perturbed images, those of one path together."""
        first = places.start
        while first < places.stop:
            path, step = divmod(first, self.steps)
            last = min(self.steps, step + places.stop - first)
            yield *divmod(path, len(self.paths)), range(step + 1, last + 1)
            first += last - step

    def scores(
        self, predict: Predict, target: Tensor, start: Tensor, score: str, batch_size: int, progress: Progress
    ) -> Tensor:
        """(N, T, L + 1) float64: scores of the classes `target` (N,); `start` (N,) are those of step 0."""
        found = []
        for batch, image in self.batches(batch_size):
            found.append(class_scores(predict(batch), target[image], score))
            progress(len(batch))
        later = torch.cat(found).view(len(self.x), len(self.paths), self.steps)
        return torch.cat([start[:, None, None].expand(-1, len(self.paths), 1), later], dim=2)


def mean_curves(scores: Tensor, paths: list[PerturbationPath]) -> dict[str, dict[str, Tensor]]:
    """Method -> order -> (N, L + 1): the scores (N, T, L + 1) averaged over repeats."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, path in enumerate(paths):
        places.setdefault((path.method, path.order), []).append(place)
    curves: dict[str, dict[str, Tensor]] = {}
    for (method, order), chosen in places.items():
        curves.setdefault(method, {})[order] = scores[:, chosen].mean(1)
    return curves
