"""The block-length curriculum: short windows first, twice as long at each stage.

Shorter windows are the usual ones cut into pieces. So every step has the same tokens with and
without the curriculum, and there are as many of them.
"""

from __future__ import annotations

from torch import Tensor

from spectral_mlflow.config import TrainingConfig

HALVINGS = 3  # From an eighth of the block, where nobody says otherwise.


def block_sizes(training: TrainingConfig, block_size: int) -> list[int]:
    """Window lengths of the stages, ascending; the last one is the whole block."""
    if not training.block_warmup_steps:
        return [block_size]
    first = training.first_block_size
    sizes = [block_size]
    while sizes[0] % 2 == 0 and (sizes[0] > first if first else len(sizes) <= HALVINGS):
        sizes.insert(0, sizes[0] // 2)
    return sizes


def block_size_at(step: int, training: TrainingConfig, block_size: int) -> int:
    """Window length at a step, counted from 1; the stages before ``block_warmup_steps`` are equally long."""
    sizes = block_sizes(training, block_size)
    if step >= training.block_warmup_steps:
        return block_size
    return sizes[step * (len(sizes) - 1) // training.block_warmup_steps]


def cut(windows: Tensor, size: int) -> Tensor:
    """Windows (B, T) as windows (B T / size, size)."""
    return windows.reshape(-1, size)
