"""Which device a run uses, and how many CPU threads."""

from __future__ import annotations

from collections.abc import Callable

import torch

from spectral_mlflow.config import RuntimeConfig
from spectral_mlflow.errors import UserError

AVAILABLE: dict[str, Callable[[], bool]] = {
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "cpu": lambda: True,
}


def choose(config: RuntimeConfig) -> torch.device:
    """The device of a run; sets the number of CPU threads where one is asked for.

    Raises:
        UserError: the device that was asked for is not there.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    present = [name for name, is_available in AVAILABLE.items() if is_available()]
    if config.device == "auto":
        return torch.device(present[0])
    if config.device not in present:
        raise UserError(
            f"runtime.device: given {config.device!r}, which this machine or this build of torch does not have; "
            f"allowed here: auto, {', '.join(present)}"
        )
    return torch.device(config.device)
