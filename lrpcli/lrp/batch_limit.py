"""How the process keeps its memory between layers and batches, and how many images the device's memory holds."""

import ctypes
import sys

import torch

from lrpcli.errors import DeviceError

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of glibc's malloc.h
_FULL = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "alloc_failed")
"""What torch, its allocators on processors, and CUDA's libraries say."""
_HAS_LOST_ERROR = hasattr(torch, "AcceleratorError")
"""From torch 2.8 on."""


def keep_freed_memory() -> None:
    """Lets the C library keep freed memory instead of giving it back; for programs, which own their process.

    glibc returns every large block at once and fetches empty pages for the next layer, which costs more than the
    layer. Memory then stays at its highest level until the process ends. Other C libraries are left as they are.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(_TRIM_THRESHOLD, -1)
        tune(_MMAP_MAX, 0)


class BatchLimit:
    """How many images at once the device has room for, learnt from the batches that were too large."""

    def __init__(self) -> None:
        self.images = sys.maxsize

    def refused(self, images: int, error: Exception) -> bool:
        """Whether `error`, met with so many images, says that the memory is full; only half as many are tried then.

        DeviceError if it does not even hold one image.
        """
        if not is_full(error):
            return False
        if images == 1:
            raise DeviceError(
                "The device has too little memory even for one image. Use another --device, or a smaller model."
            ) from error
        self.images = min(self.images, images // 2)
        torch.cuda.empty_cache()
        return True


def is_full(error: Exception) -> bool:
    """Whether an error says that memory is full: torch has one of its own for GPUs, others are known by their text."""
    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in text for words in _FULL)


def is_lost(error: Exception) -> bool:
    """Whether an error says that the device fails; torch before 2.8 has no class for that, only a text."""
    return isinstance(error, torch.AcceleratorError) if _HAS_LOST_ERROR else str(error).startswith("CUDA error")
