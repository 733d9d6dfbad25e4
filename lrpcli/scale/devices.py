"""How the nets of several processes share a machine: how many there are, and the device and threads of each."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

CPUS_A_NET = 4
"""More threads than that gain one net little: what lies between its layers runs in one."""
ANY_GPU = ("auto", "cuda")
"""Devices that leave it open which GPU is meant."""


def device_for(device: str, place: int, gpus: int) -> str:
    """The device of the process at a place, from 0, where torch sees so many GPUs: each takes the next one.

    A device that is named is taken by all.

    >>> from lrpcli.scale.devices import device_for
    >>> [device_for("auto", place, 2) for place in range(3)], device_for("cuda:1", 0, 2), device_for("auto", 1, 0)
    (['cuda:0', 'cuda:1', 'cuda:0'], 'cuda:1', 'auto')
    """
    return f"cuda:{place % gpus}" if device in ANY_GPU and gpus else device


def count_gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> int:
    """GPUs of NVIDIA that a process may use, found without torch: CUDA_VISIBLE_DEVICES may name fewer than there are.

    >>> from lrpcli.scale.devices import count_gpus
    >>> count_gpus({"CUDA_VISIBLE_DEVICES": "2,3"}), count_gpus({"CUDA_VISIBLE_DEVICES": ""})
    (2, 0)
    """
    if "CUDA_VISIBLE_DEVICES" in environment:
        named = [part.strip() for part in environment["CUDA_VISIBLE_DEVICES"].split(",")]
        return next((place for place, part in enumerate(named) if part in ("", "-1")), len(named))
    with suppress(OSError):
        return sum(re.fullmatch(r"nvidia\d+", name) is not None for name in os.listdir(devices))  # noqa: PTH208
    return 0


def usual_workers(device: str, gpus: int, cpus: int) -> int:
    """How many nets there are where nobody says it: one for each GPU that is meant, or for every few CPUs.

    >>> from lrpcli.scale.devices import usual_workers
    >>> usual_workers("auto", 8, 64), usual_workers("cpu", 8, 64), usual_workers("auto", 0, 4)
    (8, 16, 2)
    """
    if device in ANY_GPU and gpus:
        return gpus
    return 1 if device not in ("auto", "cpu") else min(cpus, max(2, cpus // CPUS_A_NET))


def threads_for(cpus: int, workers: int) -> int:
    """Threads of each net: the CPUs divided among them.

    >>> from lrpcli.scale.devices import threads_for
    >>> threads_for(64, 16), threads_for(2, 3)
    (4, 1)
    """
    return max(1, cpus // workers)


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
