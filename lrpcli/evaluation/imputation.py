"""ROAD's fill [Rong et al. 2022]: removed pixels become what their neighbours say, by a sparse system of equations."""

from collections.abc import Callable

import torch
from torch import Tensor

STRAIGHT, DIAGONAL = 1 / 6, 1 / 12
"""Weights of the neighbours beside and across a pixel."""
NOISE = 0.01
"""Standard deviation of what is added to the solution, as a share of the range from black to white."""
TOLERANCE = 3e-5
"""Length of the residual over that of the right-hand side at which a solution is good.

Its error is then about 0.001 of the range, far below the noise.
"""
MOST = 2000
"""Steps of the conjugate gradient; regions in the middle of 224 x 224 pixels take a hundred."""
CHECKED = 8
"""Steps between looks at the residual, each of which waits for the device."""


def imputed(photo: Tensor, removed: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """(K, C, h, w): `photo` (K, C, h, w) with the pixels `removed` (K, h, w) solved for.

    For every removed pixel i, x_i = sum_j w_j x_j over its 8 neighbours: 1/6 for those beside it, 1/12 for those
    across, divided by their sum at borders. Solved by conjugate gradient, all images at once; where nothing is left, a
    pixel is its channel's mean.
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


def _conjugate_gradient(applied: Callable[[Tensor], Tensor], right: Tensor, x: Tensor, tolerance: float) -> Tensor:
    """The solution of applied(x) = right, from the guess x.

    Every plane (h, w) is a system of its own, which stays as it is once it is solved, whatever the others need. Where
    `right` is zero, nothing says what x is but for a constant: the guess.
    """
    residual = right - applied(x)
    direction, size = residual, _dot(residual, residual)
    length = _dot(right, right)
    enough = torch.where(length > 0, tolerance**2 * length, torch.inf)
    for step in range(MOST):
        unsolved = size > enough
        if step % CHECKED == 0 and not bool(unsolved.any()):
            break
        image = applied(direction)
        pace = torch.where(unsolved, size / _dot(direction, image), 0.0)
        x = torch.where(unsolved, x + pace * direction, x)
        residual = residual - pace * image
        size, before = torch.where(unsolved, _dot(residual, residual), size), size
        direction = residual + torch.where(unsolved, size / before, 0.0) * direction
    return x


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum((2, 3), keepdim=True)


def _known_mean(photo: Tensor, removed: Tensor) -> Tensor:
    """(K, C, 1, 1): the mean of what is left of each plane, or of all where nothing is."""
    left = torch.where(removed.all(3, keepdim=True).all(2, keepdim=True), True, ~removed)
    return (photo * left).sum((2, 3), keepdim=True) / left.sum((2, 3), keepdim=True)


def _neighbours(x: Tensor) -> Tensor:
    """(K, C, h, w): the weighted sum of each pixel's neighbours; beyond the borders there is nothing."""
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    beside = padded[..., :-2] + padded[..., 2:]  # (K, C, h + 2, w)
    rows = torch.add(DIAGONAL * beside, padded[..., 1:-1], alpha=STRAIGHT)
    return torch.add(rows[..., :-2, :] + rows[..., 2:, :], beside[..., 1:-1, :], alpha=STRAIGHT)
