"""Region perturbation as pure tensor functions [S16]: regions, their order, what replaces them, perturbed images.

Shapes: N images, C channels, h x w pixels of the model's grid, G regions.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from lrpcli.evaluation.imputation import NOISE, imputed

REGION_SHARE = 9 / 227
"""Side of a region as a share of the image's longer side, from [S16]: 9 pixels at 227."""
BLUR_SHARE = 0.05
"""Standard deviation of the blur that replaces regions, as a share of the image's longer side."""


@dataclass(frozen=True)
class Grid:
    """Regions of `size` x `size` pixels that do not overlap, cut from the top left; those at the ends may be smaller.

    Regions are numbered row by row.
    """

    height: int
    width: int
    size: int

    @property
    def rows(self) -> int:
        """Regions from top to bottom."""
        return -(-self.height // self.size)

    @property
    def columns(self) -> int:
        """Regions from left to right."""
        return -(-self.width // self.size)

    @property
    def count(self) -> int:
        """G, the number of regions."""
        return self.rows * self.columns

    def region_of_pixel(self) -> Tensor:
        """(h, w): the number of the region in which each pixel lies."""
        row, column = (torch.arange(side) // self.size for side in (self.height, self.width))
        return row[:, None] * self.columns + column

    def sums(self, values: Tensor) -> Tensor:
        """(N, G) sums over the regions of values per pixel (N, h, w), float64."""
        down, right = self.rows * self.size - self.height, self.columns * self.size - self.width
        padded = torch.nn.functional.pad(values.double(), (0, right, 0, down))
        return padded.view(-1, self.rows, self.size, self.columns, self.size).sum((2, 4)).flatten(1)


def default_region(height: int, width: int) -> int:
    """Side of a region in pixels where nothing is said: 9 at 227 and in proportion, at least 1."""
    return max(1, round(REGION_SHARE * max(height, width)))


def ranks(scores: Tensor, *, descending: bool) -> Tensor:
    """(..., G) place of each region in the order of its scores (..., G), from 0; ties keep the order of the regions."""
    order = scores.argsort(dim=-1, descending=descending, stable=True)
    return order.argsort(dim=-1)


def perturbed(x: Tensor, fill: Tensor, turn: Tensor, step: Tensor) -> Tensor:
    """One image (C, h, w) after each of the steps `step` (K,): what had its turn before is that of `fill`.

    That is (C, h, w), or (K, C, h, w) where each step has its own.
    `turn` (h, w) is the rank of each pixel's region, as `ranks` gives it. (K, C, h, w); step 0 is the image itself.
    """
    replaced = turn < step[:, None, None]
    return torch.where(replaced[:, None], fill, x)


def generator_for(x: Tensor, *purpose: object) -> torch.Generator:
    """A random generator that depends on one image's pixels and on `purpose` alone.

    So the same image gets the same noise and random orders whatever its name, its batch and its neighbours are.
    """
    digest = hashlib.sha256(repr(purpose).encode())
    digest.update(x.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return torch.Generator().manual_seed(int.from_bytes(digest.digest()[:8], "big") >> 1)


def noise_fill(x: Tensor, low: Tensor, high: Tensor, seed: int, repeat: int) -> Tensor:
    """(N, C, h, w) of uniform noise between what black (`low`) and white pixels (`high`) become, per image."""
    noise = torch.stack(
        [torch.rand(image.shape, generator=generator_for(image, "noise", seed, repeat)) for image in x]
    ).to(x)
    return low + (high - low) * noise


def mean_fill(x: Tensor) -> Tensor:
    """(N, C, h, w) of each image's mean per channel."""
    return x.mean((2, 3), keepdim=True).expand_as(x)


def blur_fill(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(N, C, h, w): the photo itself under a Gaussian of 5 % of the longer side; the borders average what there is."""
    height, width = x.shape[2:]
    deviation = BLUR_SHARE * max(height, width)
    down, across = (_gaussian(side, deviation).to(x) for side in (height, width))
    # Blurred as a photo, between black and white: a mean image must not be blurred with it.
    return low + (high - low) * (down @ ((x - low) / (high - low)) @ across.T)


def road_fill(x: Tensor, removed: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(K, C, h, w): one image (C, h, w) with the pixels `removed` (K, h, w) as those around them say, without noise.

    `low` and `high` are what black and white become: it is solved for the photo.
    """
    low, high = low.to(x), high.to(x)
    photo = ((x - low) / (high - low)).expand(len(removed), *x.shape)
    return low + (high - low) * imputed(photo, removed)


def road_noise(x: Tensor, low: Tensor, high: Tensor, seed: int, repeat: int) -> Tensor:
    """(N, C, h, w) of Gaussian noise with a standard deviation of 1 % of the range from black to white, per image."""
    noise = torch.stack(
        [torch.randn(image.shape, generator=generator_for(image, "road", seed, repeat)) for image in x]
    ).to(x)
    return NOISE * (high - low) * noise


def random_ranks(x: Tensor, regions: int, seed: int, repeat: int) -> Tensor:
    """(N, G) places of the regions in a random order, per image."""
    return torch.stack(
        [torch.randperm(regions, generator=generator_for(image, "order", seed, repeat)) for image in x]
    ).to(x.device)


def _gaussian(side: int, deviation: float) -> Tensor:
    """(side, side) matrix whose rows average the pixels of a line; each sums to one."""
    place = torch.arange(side, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((place[:, None] - place) / deviation) ** 2)
    return weights / weights.sum(1, keepdim=True)
