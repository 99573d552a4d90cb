"""How the values of each parameter are distributed, in a small file for the stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from spectral_mlflow.files import replace_file

BUCKETS = 30


def write_histograms(model: torch.nn.Module, step: int, folder: Path) -> Path:
    """Write a histogram of each parameter, the wave parts included.

    Args:
        model: on any device.
        step: for the name of the file.
        folder: where the file goes; made if missing.

    Returns:
        The file: JSON with ``parameters``, by name ``edges`` [BUCKETS + 1], ``counts`` [BUCKETS] and
        ``invalid``, the number of values that are not finite and in none of the buckets.

    Raises:
        OSError: the disk refuses.
    """
    path = folder / f"histograms_step_{step}.json"
    found = {name: _histogram(parameter.detach()) for name, parameter in model.named_parameters()}
    replace_file(path, json.dumps({"step": step, "parameters": found}).encode() + b"\n")
    return path


def _histogram(values: torch.Tensor) -> dict[str, Any]:
    flat = values.flatten().double() if values.device.type != "mps" else values.flatten().float()
    finite = flat[flat.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 0.0)
    if low == high:  # One value alone still needs a bucket with a width.
        low, high = low - 0.5, high + 0.5
    counts = torch.histc(finite, BUCKETS, low, high)
    edges = torch.linspace(low, high, BUCKETS + 1, dtype=torch.float64)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "invalid": flat.numel() - finite.numel()}
