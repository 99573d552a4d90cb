"""How fast a machine multiplies matrices, and what share of that training reaches."""

from __future__ import annotations

import statistics
import time

import torch

SIZE = 1024
REPETITIONS = 7
SECONDS = 0.25


def matmul_rate(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Floating point operations a second in products of two 1024 x 1024 matrices, the median of several.

    It takes about a quarter of a second at most, where one product takes less. Global random
    generators are left as they are.

    Args:
        device: of the matrices; a CPU uses as many threads as torch is set to.
        dtype: of the matrices.
    """
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(SIZE, SIZE, generator=generator).to(device, dtype) for _ in range(2))
    product = torch.empty_like(first)  # Fresh memory in each repetition would be timed too.
    torch.mm(first[:256], second, out=product[:256])  # Libraries start and choose their kernels.
    seconds: list[float] = []
    while len(seconds) < REPETITIONS and sum(seconds) < SECONDS:
        _wait(device)
        started = time.perf_counter()
        torch.mm(first, second, out=product)
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return 2 * SIZE**3 / statistics.median(seconds)


def _wait(device: torch.device) -> None:
    """Until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Speed:
    """Floating point operations of the training steps of this process, over their seconds.

    Evaluation, compilation, checkpoints and plots are not in it.

    Args:
        flops_per_token: of the model, forward and backward, with whole windows.
        matmul_rate: of the machine, FLOP/s.
    """

    def __init__(self, flops_per_token: int, matmul_rate: float) -> None:
        self.flops_per_token = flops_per_token
        self.matmul_rate = matmul_rate
        self._tokens = 0
        self._seconds = 0.0

    def add(self, tokens: int, seconds: float) -> float:
        """Count one step with whole windows; returns its FLOP/s over those of the matrix products."""
        self._tokens += tokens
        self._seconds += seconds
        return tokens * self.flops_per_token / seconds / self.matmul_rate

    def summary(self) -> dict[str, float]:
        """All steps so far by the names of results.json; without a step only what is known before."""
        known = {
            "flops_per_token": float(self.flops_per_token),
            "matmul_flops_per_second": self.matmul_rate,
        }
        if not self._tokens:
            return known
        reached = self._tokens * self.flops_per_token / self._seconds
        return known | {"flops_per_second": reached, "flops_utilisation": reached / self.matmul_rate}
