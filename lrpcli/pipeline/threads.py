"""How many threads a net gets on a processor that decodes and draws besides."""

import contextlib
import math
import os

import torch
from torch import Tensor, nn

PHOTO = 300e6
"""Multiplications that take as long as decoding and drawing a photo: 20 ms, where a net does 15 million in one."""
MANY = 64
"""Photos from which on it pays to find out."""


def share_threads(module: nn.Module, shape: tuple[int, int, int], images: int) -> None:
    """Has torch use as many threads for these images as suit the net, if the user has not said how many.

    Threads of one layer wait for each other. Where others work on the same processors, a small net is quicker with as
    many threads as it keeps busy, and the rest is left to decoding and drawing.
    """
    if images < MANY or os.environ.get("OMP_NUM_THREADS"):
        return
    with contextlib.suppress(Exception):  # what is wrong with the net is said when an image goes through it
        torch.set_num_threads(suitable_threads(torch.get_num_threads(), multiplications(module, shape)))


def suitable_threads(threads: int, multiplications: float) -> int:
    """The part of so many threads that a net keeps busy which takes so many multiplications a photo; 0 is not known.

    >>> from lrpcli.pipeline.threads import suitable_threads
    >>> [suitable_threads(threads, 147e6) for threads in (1, 2, 4, 16)], suitable_threads(16, 724e6)
    ([1, 1, 2, 6], 12)
    """
    if not multiplications:
        return threads
    return math.ceil(threads * multiplications / (multiplications + PHOTO))


def multiplications(module: nn.Module, shape: tuple[int, int, int]) -> int:
    """Those of the convolutions and fully connected layers of a net, for one input (C, h, w); it runs once.

    >>> from torch import nn
    >>> from lrpcli.pipeline.threads import multiplications
    >>> multiplications(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 4 * 4, 10)), (3, 6, 6))
    4736
    """
    total = 0

    def count(layer: nn.Module, given: object, output: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor)
        total += output.numel() * weight[0].numel()

    kinds = (nn.Conv2d, nn.Linear)
    hooks = [layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, kinds)]
    try:
        parameter = next(module.parameters())
        with torch.no_grad():
            module(torch.zeros(1, *shape, dtype=parameter.dtype, device=parameter.device))
    finally:
        for hook in hooks:
            hook.remove()
    return total
