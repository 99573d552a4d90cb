"""Memory that grows with the steps."""

from __future__ import annotations

from itertools import pairwise

from spectral_mlflow.monitoring.anomalies.detector import Detector, Known, Scene, Sign
from spectral_mlflow.monitoring.anomalies.statistics import mann_kendall, median, theil_sen

MEASURED = {"system/rss_mb": "memory of the process", "gpu_memory_mb": "memory of the GPU"}
BLOCK = 4  # Samples, of which the smallest counts.
WINDOW = 24  # Blocks, for a memory that climbs in most of them.
LONG = 48  # Blocks, for one that goes up in stairs, as plots and samples have it; their stairs soon level off.
CLIMB = 0.3  # Of the mean growth, in a block that climbs.
SCORE = 5.0  # Of the Mann-Kendall test.
LEAST_MB = 16.0  # In a window,
LEAST_PART = 0.02  # and as a part of the memory.
STEADY = 0.6  # Of the mean growth, in each third of the window: an evaluation or a checkpoint is one jump.


class MemoryDetector(Detector):
    """Tests the last samples of each memory for a steady trend."""

    MEMORY = ("blocks", "block", "begun")

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self.blocks: dict[str, list[float]] = {name: [] for name in MEASURED}
        self.block: dict[str, list[float]] = {name: [] for name in MEASURED}
        self.begun: dict[str, list[int]] = {name: [] for name in MEASURED}

    def look(self, scene: Scene) -> Sign | None:
        """When a block is full."""
        signs = [self._look(name, value, scene.record.step)
                 for name in MEASURED if (value := scene.finite(name)) is not None]  # fmt: skip
        return next((sign for sign in signs if sign), None)

    def _look(self, name: str, value: float, step: int) -> Sign | None:
        block, blocks, begun = self.block[name], self.blocks[name], self.begun[name]
        block.append(value)
        if len(block) < BLOCK:
            return None
        blocks.append(min(block))
        begun.append(step)
        block.clear()
        del blocks[:-LONG], begun[:-LONG]
        recent = blocks[-WINDOW:]
        window = WINDOW if _climbs(recent) else LONG
        growth = self._growth(blocks[-window:]) if len(blocks) >= window else 0.0
        if not growth:
            return None
        first, since = blocks[-window], begun[-window]
        message = f"{MEASURED[name]} grows steadily: {first:,.0f} MB, {growth:,.1f} MB more in {step - since} steps"
        blocks.clear()
        begun.clear()
        return Sign("memory_growth", message, since)

    @staticmethod
    def _growth(blocks: list[float]) -> float:
        """MB in the window; 0 where that is no steady growth."""
        least = max(LEAST_MB, LEAST_PART * blocks[0])
        if blocks[-1] - blocks[0] < least or mann_kendall(blocks) < SCORE:
            return 0.0
        quarter = len(blocks) // 4
        levels = [median(blocks[first : first + quarter]) for first in range(0, 4 * quarter, quarter)]
        steps = [after - before for before, after in pairwise(levels)]
        growth = theil_sen(blocks) * len(blocks)
        return growth if growth >= least and 3 * min(steps) >= STEADY * sum(steps) else 0.0


def _climbs(blocks: list[float]) -> bool:
    """Whether most blocks are above the one before, by more than a measurement wavers."""
    least = CLIMB * (blocks[-1] - blocks[0]) / len(blocks)
    rises = [after - before > max(least, 0.0) for before, after in pairwise(blocks)]
    return 2 * sum(rises) > len(rises)
