"""The machine and the software that a run ran on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil


def packages() -> dict[str, str]:
    """Version of every installed package."""
    described = (dist.metadata for dist in metadata.distributions())  # Read anew at each look: once is enough.
    found = {about["Name"]: about["Version"] for about in described}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def hardware() -> dict[str, Any]:
    """CPU, memory, GPU and the software between them and us."""
    import torch  # Costs a second and is not needed to read a run.

    gpu = torch.cuda.is_available()
    return {
        "platform": platform.platform(),
        "python_version": platform.python_version(),
        "torch_version": torch.__version__,
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "total_memory_gb": _memory_gb(),
        "gpu_available": gpu,
        "gpu_model": torch.cuda.get_device_name(0) if gpu else None,
        "num_gpus": torch.cuda.device_count(),
        "cuda_version": torch.version.cuda,
    }


def _memory_gb() -> float | None:
    try:
        return round(psutil.virtual_memory().total / 2**30, 2)
    except (OSError, psutil.Error):  # A container that does not show it.
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
