"""Copies of modules that share the tensors of the original."""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def copied(module: nn.Module, convert: Callable[[Tensor], Tensor] = Tensor.detach) -> nn.Module:
    """A copy of a module and all its parts in which `convert` has made each tensor of the original's.

    Whatever else it holds is deep-copied, and raises what cannot be.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        for tensor in (*part._parameters.values(), *part._buffers.values(), *vars(part).values()):
            if isinstance(tensor, Tensor):
                kept = convert(tensor)
                memo[id(tensor)] = nn.Parameter(kept, False) if isinstance(tensor, nn.Parameter) else kept
    return copy.deepcopy(module, memo)
