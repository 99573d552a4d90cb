"""Ways to save a model and its optimizer, ours beside those a user would pick instead."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import async_save

from spectral_mlflow.monitoring import CheckpointManager

OURS, OURS_IN_PLACE, TORCH, DCP, DCP_CACHED = (
    "ours, asynchronous",
    "ours, synchronous",
    "torch.save, fsync",
    "DCP async_save",
    "DCP async_save, buffers kept",
)


class State:
    """A stack of layers and its AdamW, which have a state without a step having been taken.

    Without gradients, so that the memory of the process is that of the state.
    """

    def __init__(self, width: int, layers: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.model = nn.Sequential(*[nn.Linear(width, width) for _ in range(layers)])
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        for parameter in self.model.parameters():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(1.0),
                "exp_avg": torch.randn(parameter.shape, generator=generator),
                "exp_avg_sq": torch.rand(parameter.shape, generator=generator),
            }

    def as_dict(self) -> dict[str, Any]:
        """What is saved."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    @property
    def bytes(self) -> int:
        """Of all tensors: each parameter has two more in the optimizer."""
        return 3 * sum(parameter.nbytes for parameter in self.model.parameters())


class Saver(ABC):
    """One way to save. Training may go on once `save` returns; `finish` returns once all is on the disk."""

    def __init__(self, state: State, folder: Path) -> None:
        """Save this state into a folder, which need not be there."""
        self.state = state
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.step = 0

    @abstractmethod
    def save(self) -> None:
        """What training has to wait for."""

    def finish(self) -> None:
        """The rest."""
        return


class Ours(Saver):
    """`CheckpointManager`: digest, fsync of file and folder, rename, links, retention."""

    asynchronous = True

    def __init__(self, state: State, folder: Path) -> None:
        super().__init__(state, folder)
        self.manager = CheckpointManager(str(folder), keep_last_n=1, asynchronous=self.asynchronous)

    def save(self) -> None:
        """See `CheckpointManager.save_checkpoint`."""
        self.step += 1
        if not self.manager.save_checkpoint(self.step, self.state.model, self.state.optimizer, [], {}):
            raise OSError(self.manager.skipped[self.step])

    def finish(self) -> None:
        """See `CheckpointManager.wait`."""
        self.manager.wait()
        if self.manager.skipped:
            raise OSError(str(self.manager.skipped))


class OursInPlace(Ours):
    """The same without a thread."""

    asynchronous = False


class Torch(Saver):
    """``torch.save`` to a file, and fsync."""

    def save(self) -> None:
        """Save over the file before."""
        with (self.folder / "torch.pt").open("wb") as file:
            torch.save(self.state.as_dict(), file)
            file.flush()
            os.fsync(file.fileno())


class Dcp(Saver):
    """``torch.distributed.checkpoint.async_save`` in one process; its copies are made before it returns."""

    stager: DefaultStager | None = None

    def save(self) -> None:
        """Save into a new folder."""
        self.step += 1
        writer = FileSystemWriter(self.folder / f"dcp-{self.step}", sync_files=True)
        self.result: Any = async_save(
            self.state.as_dict(), storage_writer=writer, async_stager=self.stager, no_dist=True
        )

    def finish(self) -> None:
        """Wait for its thread, and remove the folder before."""
        self.result.result()
        shutil.rmtree(self.folder / f"dcp-{self.step - 1}", ignore_errors=True)


class DcpCached(Dcp):
    """With a stager that keeps its buffers, which spares it new memory at each save."""

    def __init__(self, state: State, folder: Path) -> None:
        super().__init__(state, folder)
        pinned = torch.cuda.is_available()
        self.stager = DefaultStager(StagingOptions(pinned, False, False, pinned))


MEMORY_SAVES = 3

# One process is what is meant; DCP says so in a thread of its own, where no context reaches.
warnings.filterwarnings("ignore", "torch.distributed is disabled")

SAVERS: Mapping[str, Callable[[State, Path], Saver]] = {
    OURS: Ours,
    OURS_IN_PLACE: OursInPlace,
    TORCH: Torch,
    DCP: Dcp,
    DCP_CACHED: DcpCached,
}


def memory(width: int, layers: int, place: Path, threads: int) -> dict[str, int]:
    """Largest resident bytes of each way to save, less those that the process has with its state."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        measured = {name: pool.submit(_memory, name, width, layers, place, threads) for name in SAVERS}
        return {name: peak.result() for name, peak in measured.items()}


def _memory(name: str, width: int, layers: int, place: Path, threads: int) -> int:
    torch.set_num_threads(threads)
    _save(SAVERS[name](State(8, 1), place / name / "small"))  # Code is read from the disk when it is first used.
    state = State(width, layers)
    saver = SAVERS[name](state, place / name / "large")
    before = psutil.Process().memory_info().rss
    for _ in range(MEMORY_SAVES):
        _save(saver)
    unit = 1 if sys.platform == "darwin" else 1024
    return max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before)


def _save(saver: Saver) -> None:
    saver.save()
    saver.finish()
