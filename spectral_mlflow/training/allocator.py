"""The memory of a training step, kept for the next one."""

from __future__ import annotations

import ctypes
import os

# Numbers of glibc's malloc.h, and the largest threshold that it takes.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST_THRESHOLD = 32 * 2**20
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed buffers instead of giving each back to the system.

    Every step allocates the same activations of some megabytes. By default each is mapped, filled with zeros page by
    page and unmapped again, which took a tenth to a quarter of a step of a small model on a CPU.

    Returns:
        Whether it was done: not without glibc, nor where the environment has tuned malloc already.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))
