"""The largest batch that fits in memory, found by training steps of a state that is thrown away.

Sizes are powers of two (times the parts of a batch), so that a little more or less free memory
seldom changes what is found. A GPU refuses what does not fit, so there sizes double until it does. A
CPU would swap instead: there memory is measured in steps that are small beside what is free, and the
rest follows in proportion, which is too much rather than too little.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.data.batches import batch
from spectral_mlflow.data.dataset import Dataset
from spectral_mlflow.errors import UserError
from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.evaluation import EVALUATION_BATCHES
from spectral_mlflow.training.state import TrainState
from spectral_mlflow.training.step import optimizer_step

CPU_SHARE = 0.7  # Of the memory that is free; plots, the companion and other programs need some too.
GPU_SHARE = 0.9  # Of all memory; its pieces fit less well in a long run than in a short trial.
MEASURABLE = 2**27  # Bytes: much beside the noise, little beside what is free.

# Limit and use of a container's memory, in bytes, by the second and the first version of Linux's control groups.
CONTAINERS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def check_device(device: torch.device) -> None:
    """Refuse a device that does not tell its memory.

    Raises:
        UserError: it is such a device.
    """
    if device.type not in ("cpu", "cuda"):
        raise UserError(
            f"training.auto_batch_size: given true on device {device.type}; allowed on cpu and cuda; "
            "set training.batch_size instead"
        )


def largest(config: ExperimentConfig, dataset: Dataset, state: TrainState, machine: Machine) -> int:
    """Windows in the largest batch that fits beside the model, a multiple of the parts of a batch.

    It is at most as many as the training split has side by side.

    Args:
        config: all settings; its batch size is not looked at.
        dataset: where batches come from.
        state: is trained a few steps, and of no further use.
        machine: where, on a device that `check_device` takes, and in which precision.

    Raises:
        UserError: not even one window fits.
    """
    parts = config.training.gradient_accumulation
    most = max(1, len(dataset.train) // config.model.block_size // parts)

    def trial(windows: int) -> None:
        _train(config, dataset, state, machine, windows)

    if machine.device.type == "cuda":
        found = _double(lambda windows: _fits(trial, windows, machine.device), most)
    else:
        memory = _Memory()
        found = by_memory(lambda windows: memory.growth(lambda: trial(windows)), int(CPU_SHARE * free_memory()), most)
    if not found:
        raise UserError(
            "training.auto_batch_size: not even one window fits in memory; use a smaller model or "
            "model.block_size, or runtime.activation_checkpointing=true"
        )
    return found * parts


def by_memory(need: Callable[[int], int], available: int, most: int) -> int:
    """The largest power of two, at most ``most``, whose memory stays below what is available; 0: none does.

    Args:
        need: memory of so many windows in bytes; is asked for ever more, until it is measurable.
        available: bytes.
        most: windows.
    """
    windows = 1
    while (bytes_needed := need(windows)) < min(MEASURABLE, available / 4) and 2 * windows <= most:
        windows *= 2
    fitting = min(most, windows * available // max(1, bytes_needed))
    return 1 << (fitting.bit_length() - 1) if fitting else 0


def _double(fits: Callable[[int], bool], most: int) -> int:
    """The last power of two, at most ``most``, before one that does not fit; 0: not even 1 does."""
    found, windows = 0, 1
    while windows <= most and fits(windows):
        found, windows = windows, 2 * windows
    return found


def _train(config: ExperimentConfig, dataset: Dataset, state: TrainState, machine: Machine, windows: int) -> None:
    """Two steps, since the optimizer's averages exist from the second one on, and a batch of the evaluation."""
    parts = min(2, config.training.gradient_accumulation)  # In the second part the gradients of the first are there.
    inputs, targets = (
        machine.send(part)
        for part in batch(
            dataset.train, seed=config.training.seed, step=0,
            batch_size=windows * parts, block_size=config.model.block_size,
        )
    )  # fmt: skip
    for _ in range(2):
        optimizer_step(state, machine, state.model, inputs, targets, parts=parts)
    with torch.no_grad(), machine.autocast():
        state.model(inputs[:windows].repeat(EVALUATION_BATCHES, 1)).float()


def _fits(trial: Callable[[int], None], windows: int, device: torch.device) -> bool:
    torch.cuda.set_per_process_memory_fraction(GPU_SHARE, device)
    try:
        trial(windows)
    except torch.OutOfMemoryError:
        return False
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        torch.cuda.empty_cache()
    return True


def free_memory() -> int:
    """Bytes that this process may still take without swapping, also inside a container."""
    free = [psutil.virtual_memory().available]
    for limit, used in CONTAINERS:
        with suppress(OSError, ValueError):  # No such file, or "max".
            free.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(0, min(free))


class _Memory:
    """How far the memory of this process grows beyond what it was at first.

    What an earlier trial has left with the allocator counts for the later ones, which use it again. Pages of files,
    which are code most of all, do not: the system takes them back and reads them again as it likes.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._first = self._own()

    def growth(self, run: Callable[[], None]) -> int:
        """Bytes at the highest, looked at every millisecond while it runs."""
        highest, done = self._own(), threading.Event()

        def watch() -> None:
            nonlocal highest
            while not done.wait(0.001):
                highest = max(highest, self._own())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            run()
        finally:
            done.set()
            watcher.join()
        return max(0, highest - self._first)

    def _own(self) -> int:
        memory = self._process.memory_info()
        return int(memory.rss - getattr(memory, "shared", 0))  # Which only Linux tells.
