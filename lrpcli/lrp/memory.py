"""How the process keeps its memory between layers and batches."""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of glibc's malloc.h


def keep_freed_memory() -> None:
    """Lets the C library keep freed memory instead of giving it back; for programs, which own their process.

    glibc returns every large block at once and fetches empty pages for the next layer, which costs more than the
    layer. Memory then stays at its highest level until the process ends. Other C libraries are left as they are.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(_TRIM_THRESHOLD, -1)
        tune(_MMAP_MAX, 0)
