"""ROAD's fill [Rong et al. 2022]: removed pixels become what their neighbours say, by a sparse system of equations."""

import torch
from torch import Tensor

STRAIGHT, DIAGONAL = 1 / 6, 1 / 12
"""Weights of the neighbours beside and across a pixel."""
NOISE = 0.01
"""Standard deviation of what is added to the solution, as a share of the range from black to white."""
TOLERANCE = 1e-5
"""Length of the residual over that of the right-hand side at which a solution is good: far below the noise."""
MOST = 2000
"""Steps of the conjugate gradient; regions of a whole 224 x 224 image take some hundred."""
CHECKED = 8
"""Steps between looks at the residual, each of which waits for the device."""


def imputed(photo: Tensor, removed: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """(K, C, h, w): `photo` (K, C, h, w) with the pixels `removed` (K, h, w) solved for.

    For every removed pixel i, x_i = sum_j w_j x_j over its 8 neighbours: 1/6 for those beside it, 1/12 for those across,
    divided by their sum at borders. Solved by conjugate gradient, all images at once; where nothing is left, a pixel is
    its channel's mean.
    """
    removed = removed[:, None]
    weight = _neighbours(torch.ones_like(photo[:1, :1]))  # sums of weights: 1 but for the borders
    known = torch.where(removed, 0.0, photo)
    guess = torch.where(removed, _known_mean(photo, removed), 0.0)

    def applied(x: Tensor) -> Tensor:
        """The system's matrix, which is symmetric and positive definite, times x."""
        return torch.where(removed, weight * x - _neighbours(x), 0.0)

    right = torch.where(removed, _neighbours(known), 0.0)
    return known + _conjugate_gradient(applied, right, guess, tolerance)


def _conjugate_gradient(applied, right: Tensor, x: Tensor, tolerance: float) -> Tensor:  # type: ignore[no-untyped-def]
    """The solution of applied(x) = right, from the guess x; every plane (h, w) is a system of its own."""
    residual = right - applied(x)
    direction, size = residual, _dot(residual, residual)
    enough = tolerance**2 * _dot(right, right)
    for step in range(MOST):
        if step % CHECKED == 0 and bool((size <= enough).all()):
            break
        image = applied(direction)
        pace = _ratio(size, _dot(direction, image))
        x = x + pace * direction
        residual = residual - pace * image
        size, before = _dot(residual, residual), size
        direction = residual + _ratio(size, before) * direction
    return x


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum((2, 3), keepdim=True)


def _ratio(left: Tensor, right: Tensor) -> Tensor:
    """left / right; 0 where a plane is solved to the last digit."""
    return torch.where(right > 0, left / torch.where(right > 0, right, 1.0), 0.0)


def _known_mean(photo: Tensor, removed: Tensor) -> Tensor:
    """(K, C, 1, 1): the mean of what is left of each plane, or of all where nothing is."""
    left = torch.where(removed.all(3, keepdim=True).all(2, keepdim=True), True, ~removed)
    return (photo * left).sum((2, 3), keepdim=True) / left.sum((2, 3), keepdim=True)


def _neighbours(x: Tensor) -> Tensor:
    """(K, C, h, w): the weighted sum of each pixel's neighbours; beyond the borders there is nothing."""
    across = _beside(x, 3)
    return STRAIGHT * across + _beside(STRAIGHT * x + DIAGONAL * across, 2)


def _beside(x: Tensor, axis: int) -> Tensor:
    """The sum of the values before and behind along an axis."""
    side, found = x.shape[axis], torch.zeros_like(x)
    if side > 1:
        found.narrow(axis, 1, side - 1).add_(x.narrow(axis, 0, side - 1))
        found.narrow(axis, 0, side - 1).add_(x.narrow(axis, 1, side - 1))
    return found
