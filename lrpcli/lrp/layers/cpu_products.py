"""Products with large matrices on a processor, by oneDNN where torch would take a slower library.

For float32 torch multiplies matrices with MKL, which knows the processors of one maker best; oneDNN, which torch takes
for convolutions, is on others up to three times as fast with few rows. torch has no public way to it, only the operator
that its compiler puts in place of a Linear. So it is used here alone, after it was found to be there and right; for all
else there are torch's own products. It reads the weight where that lies, so nothing is kept that could grow stale.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST = 2**19
"""Numbers of a weight from which on the call is worth its own 20 microseconds."""
MEASURED = (2, 14)
"""The version of torch with which this was found to be faster; 2.6 brings another oneDNN, which is slower from 16 rows.
"""


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b for inputs (..., C), a weight (D, C) and a bias (D,).

    >>> product(torch.ones(1, 2), torch.ones(3, 2), torch.zeros(3))
    tensor([[2., 2., 2.]])
    """
    return _by_onednn(x, weight, bias) if _is_served(x, weight) else functional.linear(x, weight, bias)


def transposed_product(gradient: Tensor, weight: Tensor) -> Tensor:
    """g W for gradients (..., D) and a weight (D, C): back to inputs (..., C)."""
    rows = gradient.numel() // max(1, gradient.shape[-1])
    if rows > 1 and _is_served(gradient, weight):
        return _by_onednn(gradient, weight.t(), None)
    return gradient @ weight


def _is_served(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN takes such values, and where nobody differentiates, which that operator cannot."""
    return (
        weight.numel() >= SMALLEST
        and x.numel() > 0
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and not torch.is_grad_enabled()
        and bool(torch.backends.mkldnn.enabled)
        and has_onednn()
    )


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


@cache
def has_onednn() -> bool:
    """Whether this torch has the operator and it computes what it should: found out once."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < MEASURED:
        return False
    x, weight = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[1.0, -1.0], [0.5, 4.0], [2.0, 2.0]])
    bias = torch.tensor([1.0, 0.0, -1.0])
    try:
        with torch.no_grad():
            there, back = _by_onednn(x, weight, bias), _by_onednn(x @ weight.t(), weight.t(), None)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return torch.equal(there, x @ weight.t() + bias) and torch.equal(back, x @ weight.t() @ weight)
