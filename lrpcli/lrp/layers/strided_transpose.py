"""The transpose of a strided convolution as one convolution without stride, for inputs of few channels.

Inputs whose place has the same remainder by the stride s (a phase) meet the same s-th taps of the kernel. So all s * s
phases together are a convolution of the output's gradient by s * s times as many, s times smaller, kernels, whose
results are put side by side. The library's own backward kernel fills its vectors with channels, of which a first layer
has three; here there are 3 s^2.
"""

import torch
from torch import Tensor
from torch.nn import functional


def split_into_phases(weight: Tensor, stride: int) -> Tensor:
    """Kernels (s s C, D, a, b) of the phases of a weight (D, C, h, w), with a = ceil(h / s) and b = ceil(w / s)."""
    outputs, channels, height, width = weight.shape
    tall, wide = -(-height // stride), -(-width // stride)
    padded = functional.pad(weight, (0, wide * stride - width, 0, tall * stride - height))
    taps = padded.reshape(outputs, channels, tall, stride, wide, stride).permute(3, 5, 1, 0, 2, 4).flip(4, 5)
    phases = taps.reshape(stride * stride * channels, outputs, tall, wide)
    return phases.contiguous(memory_format=torch.channels_last)


def spread_by_phases(
    gradient: Tensor, phases: Tensor, stride: int, padding: tuple[int, ...], shape: torch.Size
) -> Tensor:
    """sum_j w_ij g_j for every input i of `shape` (N, C, H, W), from g (N, D, h, w)."""
    reach = (phases.shape[2] - 1, phases.shape[3] - 1)
    by_phase = torch.convolution(gradient, phases, None, [1, 1], reach, [1, 1], False, [0, 0], 1)
    whole = _side_by_side(by_phase, stride)  # over the padded input, up to the last one that a tap met
    bottom, right = (shape[i] + padding[i - 2] - whole.shape[i] for i in (2, 3))
    return functional.pad(whole, (-padding[1], right, -padding[0], bottom))


def _side_by_side(by_phase: Tensor, stride: int) -> Tensor:
    """(N, s s C, h, w) as (N, C, h s, w s), channels last: s C numbers at a time stay beside each other in memory."""
    images, phases, height, width = by_phase.shape
    rows = by_phase.permute(0, 2, 3, 1).view(images, height, width, stride, phases // stride).transpose(2, 3)
    return rows.reshape(images, height * stride, width * stride, phases // stride**2).permute(0, 3, 1, 2)
