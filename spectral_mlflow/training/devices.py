"""What a run computes on: device, precision of matrix products, CPU threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spectral_mlflow.config import RuntimeConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.training.allocator import keep_freed_memory

AVAILABLE: dict[str, Callable[[], bool]] = {
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "cpu": lambda: True,
}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Names that Linux gives to the bfloat16 instructions of x86 and of Arm.
BFLOAT16_FLAGS = frozenset(("avx512_bf16", "amx_bf16", "bf16"))


@dataclass(frozen=True)
class Machine:
    """The device of a run and how it is used.

    Attributes:
        device: where model and batches are.
        precision: of matrix products; everything else, the weights among it, is float32.
        warning: what a person should know of this choice, one line; None where there is nothing.
    """

    device: torch.device
    precision: torch.dtype = torch.float32
    warning: str | None = None

    def autocast(self) -> torch.autocast:
        """The context in which matrix products have the precision of the run."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps gradients in the range of float16; does nothing in other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)

    def send(self, tensor: Tensor) -> Tensor:
        """A tensor of the CPU on the device; a GPU copies while the CPU goes on."""
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def facts(self) -> dict[str, Any]:
        """What was really used, for the records of a run."""
        return {
            "device": self.device.type,
            "precision": str(self.precision).removeprefix("torch."),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "threads": torch.get_num_threads(),
        }


def choose(config: RuntimeConfig) -> Machine:
    """Device and precision of a run; sets threads, matmul precision and, on a CPU, the allocator of the process.

    Where matrix products are of low precision anyway, those that stay float32 on a GPU may use TF32.
    Where float32 was asked for, it is float32.

    Raises:
        UserError: the device that was asked for is not there, or not in this precision.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = _device(config.device)
    precision, warning = _precision(config.precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest" if precision == torch.float32 else "high")
    return Machine(device, precision, warning)


def _device(asked: str) -> torch.device:
    present = [name for name, is_available in AVAILABLE.items() if is_available()]
    if asked == "auto":
        return torch.device(present[0])
    if asked not in present:
        raise UserError(
            f"runtime.device: given {asked!r}, which this machine or this build of torch does not have; "
            f"allowed here: auto, {', '.join(present)}"
        )
    return torch.device(asked)


def _precision(asked: str, device: torch.device) -> tuple[torch.dtype, str | None]:
    if asked == "auto":
        fast = device.type == "cuda" and has_bfloat16(device)
        return (torch.bfloat16 if fast else torch.float32), None
    if asked == "float16" and device.type != "cuda":
        raise UserError(
            f"runtime.precision: given 'float16' on device {device.type}, whose float16 is slower than its float32; "
            "allowed there: auto, float32, bfloat16"
        )
    if asked == "bfloat16" and device.type != "mps" and not has_bfloat16(device):
        warning = f"this {device.type} is not known to have bfloat16 instructions; without them it is up to 100x slower"
        return torch.bfloat16, f"{warning} than runtime.precision=float32"
    return PRECISIONS[asked], None


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; False also where nobody can tell.

    Torch says so of a GPU. Of a CPU the kernel does, where it is Linux.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return not BFLOAT16_FLAGS.isdisjoint(flags)
