"""What is measured on the maps themselves, a batch of images at a time: all measures but perturbation and boxes."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrpcli.evaluation import map_metrics
from lrpcli.evaluation.classes import Mosaic
from lrpcli.evaluation.curves import Progress
from lrpcli.evaluation.localisation import rank_inside, share_inside
from lrpcli.evaluation.methods import Maps
from lrpcli.evaluation.metrics import VALUES
from lrpcli.evaluation.perturbation import generator_for
from lrpcli.evaluation.randomised import with_reset_last_layer, with_reset_parameters
from lrpcli.models.model import Model

Values = dict[str, Tensor]
"""Name of a metric -> (N,), NaN where it is not defined."""
MapsOf = Callable[..., Maps]


class MapMeasures:
    """Measures on maps, of those chosen; ModelError where the model's parameters cannot be reset.

    `maps_of` makes the Maps of a model with other parameters.
    """

    def __init__(self, model: Model, maps: Maps, measures: Sequence[str], seed: int, maps_of: MapsOf) -> None:
        self.maps, self.measures, self.seed = maps, measures, seed
        self.reset: tuple[Maps, Maps] | None = None
        """Maps of the model with all its parameters reset, and with its last layer reset."""
        if "randomise" in measures:
            self.reset = maps_of(with_reset_parameters(model, seed)), maps_of(with_reset_last_layer(model, seed))

    @property
    def names(self) -> set[str]:
        """The metrics that an image has for every method with a map."""
        return {name for measure in self.measures for name in VALUES.get(measure, ())}

    @property
    def passes_per_image(self) -> int:
        """How many maps are made for each image beside one for each method."""
        explained = len(self.maps.explainers)
        return (
            (self.maps.extra_passes(3) if "class" in self.measures else 0)
            + (2 * explained if "randomise" in self.measures else 0)
            + (explained if "focus" in self.measures else 0)
        )

    def __call__(
        self,
        x: Tensor,
        logits: Tensor,
        target: Tensor,
        mosaics: Sequence[Mosaic | None],
        insides: Sequence[NDArray[np.bool_] | None],
        progress: Progress,
    ) -> tuple[Tensor, list[Values]]:
        """The maps (M, N, h, w) of images (N, C, h, w) for the classes `target` (N,), and what is measured on each.

        `insides` (h, w) are the masks of the images on the model's grid.
        """
        classes = self._classes(x, logits, target)
        kept, found = [], []
        for place in range(len(self.maps.methods)):
            scores, values = self._of_classes(place, x, logits, classes)
            if self.reset is not None:
                everything, last = (reset.one(place, x, target) for reset in self.reset)
                values["entropy"] = map_metrics.entropy_gains(scores, everything)
                values["last_layer"] = map_metrics.rank_correlations(scores, last)
            if "kept" in self.measures:
                values |= self._kept(scores, self.maps.starts(place, logits, target))
            if "complexity" in self.measures:
                values["gini"] = map_metrics.gini(scores)
            if "ground-truth" in self.measures:
                values |= self._ground_truth(scores, insides)
            if "focus" in self.measures:
                values["focus"] = self._focus(place, x, mosaics)
            kept.append(scores)
            found.append(values)
        progress(len(x) * self.passes_per_image)
        return torch.stack(kept), found

    def _classes(self, x: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        """(N, K): the predicted class, and with the measure `class` the second class and a random other one."""
        count = logits.shape[1]
        if "class" not in self.measures or count < 2:
            return target[:, None]
        second = logits.scatter(1, target[:, None], -torch.inf).argmax(1)
        drawn = [int(torch.randint(count - 1, (), generator=generator_for(image, "class", self.seed))) for image in x]
        random = torch.tensor(drawn, device=target.device)
        return torch.stack([target, second, random + (random >= target)], 1)

    def _of_classes(self, place: int, x: Tensor, logits: Tensor, classes: Tensor) -> tuple[Tensor, Values]:
        if classes.shape[1] == 1:
            alone = torch.full((len(x),), torch.nan, dtype=torch.float64)
            unknown = dict.fromkeys(VALUES["class"], alone) if "class" in self.measures else {}
            return self.maps.one(place, x, classes[:, 0]), unknown
        scores, (own, second, random) = self.maps.of_classes(place, x, classes, logits)
        pairs = [(own, second), (own, random), (own.abs(), second.abs()), (own.abs(), random.abs())]
        return scores, {name: map_metrics.cosines(*pair) for name, pair in zip(VALUES["class"], pairs, strict=True)}

    @staticmethod
    def _kept(scores: Tensor, start: Tensor | None) -> Values:
        if start is None:
            start = torch.zeros(len(scores), dtype=scores.dtype, device=scores.device)  # NaN: it has none
        kept = map_metrics.kept_shares(scores, start)
        return {"kept": kept, "wrong_sign": torch.where(kept.isnan(), kept, (kept < 0).double())}

    @staticmethod
    def _ground_truth(scores: Tensor, insides: Sequence[NDArray[np.bool_] | None]) -> Values:
        """Mass and rank in the masks; NaN where an image has none, or one that is empty on the grid."""
        found = torch.full((2, len(scores)), torch.nan, dtype=torch.float64)
        for number, (one, inside) in enumerate(zip(scores.float().cpu().numpy(), insides, strict=True)):
            if inside is not None and inside.any() and np.isfinite(one).all():
                mass = share_inside(one, inside)
                found[0, number] = torch.nan if mass is None else mass
                found[1, number] = rank_inside(one, inside)
        return {"mass": found[0], "rank": found[1]}

    def _focus(self, place: int, x: Tensor, mosaics: Sequence[Mosaic | None]) -> Tensor:
        """(N,): the share of the positive relevance for a mosaic's class that lies in the quarters of that class."""
        found = torch.full((len(x),), torch.nan, dtype=torch.float64)
        known = [number for number, mosaic in enumerate(mosaics) if mosaic is not None]
        usable = [mosaic for mosaic in mosaics if mosaic is not None]
        if usable:
            pixels = torch.from_numpy(np.stack([mosaic.pixels for mosaic in usable])).to(x)
            target = torch.tensor([mosaic.target for mosaic in usable], device=x.device)
            cells = torch.tensor([mosaic.cells for mosaic in usable])
            scores = self.maps.one(place, pixels, target)
            found[known] = map_metrics.positive_shares(scores, cells.to(scores.device)).cpu()
        return found
