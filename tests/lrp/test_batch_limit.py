"""A full memory is known as such, so that fewer images are tried; what a net cannot take is another error."""

import pytest
import torch
from torch import nn

from lrpcli import Explainer
from lrpcli.errors import DeviceError, ModelError
from lrpcli.lrp.batch_limit import BatchLimit, is_full
from tests.lrp.helpers import Call

X = torch.ones(2, 3, 4, 4)
TOO_LARGE = 2**29
"""Side of a plane that no machine holds."""


def asks_for(function):
    return Explainer(Call(lambda self, x: self.fc(function(x).mean((2, 3))), fc=nn.Linear(3, 5)), "epsilon")


def test_a_processor_without_memory_is_no_fault_of_the_net():
    explain = asks_for(lambda x: nn.functional.adaptive_avg_pool2d(x, TOO_LARGE))
    with pytest.raises(RuntimeError, match="allocate memory") as caught:
        explain(X)
    assert is_full(caught.value)
    assert not isinstance(caught.value, ModelError)


@pytest.mark.parametrize("text", [
    "CUDA out of memory. Tried to allocate 2.00 GiB.",
    "MPS backend out of memory",
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
])  # fmt: skip
def test_what_full_memory_is_called(text):
    assert is_full(RuntimeError(text))


@pytest.mark.parametrize("text", ["Trying to resize storage that is not allocated by this process", "size mismatch"])
def test_what_only_sounds_like_full_memory(text):
    assert not is_full(RuntimeError(text))


def test_half_as_many_images_are_tried_until_none_are_left():
    room = BatchLimit()
    assert not room.refused(8, RuntimeError("size mismatch"))
    assert room.refused(9, MemoryError())
    assert room.images == 4
    with pytest.raises(DeviceError, match="too little memory even for one image"):
        room.refused(1, MemoryError())
