"""CheckpointManager: saving, keeping and finding the checkpoints of a run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_link
from spectral_mlflow.monitoring import checkpoint_file, retention
from spectral_mlflow.monitoring.background import Background
from spectral_mlflow.monitoring.checkpoint_folder import CheckpointFolder
from spectral_mlflow.monitoring.checkpoint_list import BEST, LATEST, Checkpoint, best_of, listing
from spectral_mlflow.monitoring.retention import CheckpointStrategy, Policy, positive
from spectral_mlflow.monitoring.seal import DamagedCheckpointError
from spectral_mlflow.monitoring.snapshot import Snapshot
from spectral_mlflow.provenance import get_git_hash

_log = logging.getLogger(__name__)


class CheckpointManager(CheckpointFolder):
    """Keeps the checkpoints ``checkpoints/checkpoint_step_{N}.pt`` of one run.

    A checkpoint counts as saved once it is whole and survives a power cut: when `save_checkpoint` returns, or, with
    ``asynchronous``, when `wait` does. The links ``checkpoint_latest.pt`` and ``checkpoint_best.pt`` are for people:
    loading goes by the sequence number and the digest in each file. One process at a time may save into a folder.

    Attributes:
        directory: the folder of the files.
        skipped: why there is no checkpoint of a step at which one was asked for.
        saved: the last one that this manager has saved.
    """

    def __init__(
        self,
        experiment_dir: str,
        save_interval: int = 1000,
        keep_last_n: int = 3,
        *,
        strategy: CheckpointStrategy | None = None,
        keep: Policy | None = None,
        asynchronous: bool = False,
        before_commit: Callable[[], None] | None = None,
        on_saved: Callable[[Checkpoint, Sequence[Checkpoint]], None] | None = None,
        on_skipped: Callable[[int, str], None] | None = None,
        on_wait: Callable[[int, float], None] | None = None,
        on_damage: Callable[[str, str], None] | None = None,
        free_bytes: Callable[[Path], int] = checkpoint_file.free_disk,
    ) -> None:
        """Make the folder, if it is missing.

        Args:
            experiment_dir: root directory of the experiment.
            save_interval: steps between checkpoints.
            keep_last_n: number of newest checkpoints to retain.
            strategy: decides in place of ``save_interval`` and ``keep_last_n`` when to save and what to keep.
            keep: what to retain besides, such as ``retention.every(1000) | retention.hourly(2)``.
            asynchronous: write in a thread, beside the caller, who waits only for a copy of the state in memory; a
                save that comes before the one before is done waits for it.
            before_commit: called, in the writing thread, when a file is on the disk but not yet under its name. Where
                it raises OSError the checkpoint is skipped.
            on_saved: told in the writing thread what was saved, and what retention has removed for it.
            on_skipped: told in the writing thread the step of a checkpoint that the disk refused, and why.
            on_wait: told the step of a checkpoint that had to wait, and the seconds.
            on_damage: told the path of every damaged checkpoint that loading meets, and what is wrong.
            free_bytes: room on the disk of a folder.

        Raises:
            UserError: an interval or a number below 1.
        """
        self.save_interval = strategy.save_interval if strategy else positive("save_interval", save_interval)
        self.keep_last_n = positive("keep_last_n", keep_last_n)
        directory = Path(experiment_dir) / "checkpoints"
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory, on_damage=on_damage)
        self._background = Background()
        self.strategy = strategy
        self.skipped: dict[int, str] = {}
        self.saved: Checkpoint | None = None
        newest = strategy.policy if strategy else retention.last(keep_last_n)
        self._policy = newest | (keep or retention.nothing)
        self._asynchronous = asynchronous
        self._before_commit = before_commit
        self._on_saved = on_saved
        self._on_skipped = on_skipped
        self._on_wait = on_wait
        self._free_bytes = free_bytes
        self._snapshot = Snapshot(copy=asynchronous)

    @cached_property
    def _git_hash(self) -> str:
        return get_git_hash()  # Of the code that runs, which later commits do not change.

    def should_checkpoint(self, step: int, metrics: Mapping[str, float] | None = None) -> bool:
        """Whether this step is a multiple of the interval, or the best so far where the strategy saves that.

        Args:
            step: number of optimizer steps done.
            metrics: what the model reaches at this step.
        """
        return step > 0 and (step % self.save_interval == 0 or self._improves(metrics))

    def _improves(self, metrics: Mapping[str, float] | None) -> bool:
        strategy = self.strategy
        if strategy is None or metrics is None or strategy.best_metric not in metrics:
            return False
        return strategy.improves(float(metrics[strategy.best_metric]), listing(self.directory))

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Take the memory for the copies of asynchronous saves now, rather than amid training.

        Args:
            model: its parameters and buffers get their copies.
            optimizer: its state; one without a state yet is expected to keep two moments of each parameter, as Adam.
        """
        if self._asynchronous:
            self.wait()
            expected = {"moments": [torch.empty_like(p) for p in model.parameters() for _ in range(2)]}
            state = optimizer.state_dict() if optimizer.state else expected
            self._snapshot.take({"model": model.state_dict(), "optimizer": state})

    def save_checkpoint(
        self,
        step: int,
        model: nn.Module,
        optimizer: Optimizer,
        loss_history: Sequence[float],
        config: Mapping[str, Any],
        *,
        scheduler: Any = None,
        state: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        best: bool = False,
    ) -> str:
        """Save a checkpoint, then remove those that need not be kept.

        A full disk never stops training: the checkpoint is skipped with a warning, noted in
        `skipped`, and the earlier ones stay as they are. A checkpoint of the same step is replaced.

        Args:
            step: number of optimizer steps done.
            model: its ``state_dict`` is saved.
            optimizer: its ``state_dict`` is saved.
            loss_history: losses so far.
            config: settings of the run.
            scheduler: anything with a ``state_dict``.
            state: everything else that an exact resume needs.
            metrics: what the model reaches at this step.
            best: mark it as the best so far; retention spares it besides the newest.

        Returns:
            Path of the file, or the empty string when it was skipped. An asynchronous save is only accepted then.

        Raises:
            TypeError: a value that could not be loaded again, by its dotted name.
        """
        self._wait_before(step)
        metrics = None if metrics is None else self._numbers(metrics)
        content: dict[str, Any] = {
            "step": int(step),
            "model_state_dict": model.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "loss_history": [_float(loss) for loss in loss_history],
            "config": config,
            "timestamp": journal.now(),
            "git_hash": self._git_hash,
        }
        if scheduler is not None:
            content["scheduler_state_dict"] = scheduler.state_dict()
        content |= {name: given for name, given in (("metrics", metrics), ("state", state)) if given is not None}
        content = self._snapshot.take(content)
        path = self.directory / f"checkpoint_step_{int(step)}.pt"
        write = partial(self._write, path, content, best or self._improves(content.get("metrics")))
        if not self._asynchronous:
            return write()
        self._background.start(write)
        return str(path)

    def _numbers(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Metrics as the seal takes them, what decides which is the best first: a seal has not room for any number."""
        decides = self.strategy.best_metric if self.strategy else "val_loss"
        return {name: _float(metrics[name]) for name in sorted(metrics, key=lambda name: name != decides)}

    def wait(self) -> None:
        """Wait until what an asynchronous save has accepted is saved, or skipped.

        Raises:
            Exception: what went wrong in the writing thread, but for disks that refuse.
        """
        self._background.wait()

    def close(self) -> None:
        """Wait for the last save. The end of the program does so too."""
        self.wait()

    def mark_best(self, path: str) -> None:
        """Call a checkpoint the best: retention spares it until another one is marked. The file is written anew.

        Raises:
            UserError: it is not a checkpoint of this run.
            DamagedCheckpointError: it is damaged.
            OSError: the disk is full or refuses.
        """
        checkpoints = self.list_checkpoints()
        chosen = next((known for known in checkpoints if known.path.name == Path(path).name), None)
        if chosen is None:
            raise UserError(f"no checkpoint {path} to call the best; {self.directory} has {self._names() or 'none'}")
        checkpoint_file.mark(chosen, _next_mark(checkpoints))
        self._link(BEST, chosen.path)

    def cleanup_old_checkpoints(self) -> None:
        """Remove all that need not be kept; the best and the newest that is whole always stay."""
        self.wait()
        self._retain(self._newest_whole())

    def _wait_before(self, step: int) -> None:
        """One save at a time: its copy of the state is what the next one would overwrite."""
        if self._background.busy:
            started = time.perf_counter()
            self._background.wait()
            seconds = time.perf_counter() - started
            _log.info("checkpoint of step %d waited %.1f s for the one before", step, seconds)
            if self._on_wait:
                self._on_wait(step, seconds)
        self._background.wait()

    def _write(self, path: Path, content: dict[str, Any], best: bool) -> str:
        try:
            checkpoints = listing(self.directory)
            sequence = max((known.sequence for known in checkpoints), default=0) + 1
            checkpoint_file.remove_leftovers(self.directory)
            self.saved = checkpoint_file.write(
                path, content, sequence, best=_next_mark(checkpoints) if best else 0,
                before_commit=self._before_commit, free_bytes=self._free_bytes,
            )  # fmt: skip
        except OSError as failure:
            return self._skip(content["step"], failure)
        self.skipped.pop(content["step"], None)
        if self.strategy is None or self.strategy.save_latest:
            self._link(LATEST, path)
        if best:
            self._link(BEST, path)
        removed = self._retain(path)
        if self._on_saved:
            self._on_saved(self.saved, removed)
        return str(path)

    def _retain(self, whole: Path | None) -> list[Checkpoint]:
        checkpoints = listing(self.directory)
        best = best_of(checkpoints, self.directory)
        spared = {whole, best.path if best else None}
        removed = []
        for checkpoint, kept in zip(checkpoints, self._policy(checkpoints), strict=True):
            if kept or checkpoint.path in spared:
                continue
            try:
                checkpoint.path.unlink(missing_ok=True)
                removed.append(checkpoint)
            except OSError as failure:
                _log.warning("%s: old checkpoint cannot be removed: %s", checkpoint.path, failure)
        return removed

    def _newest_whole(self) -> Path | None:
        for checkpoint in listing(self.directory):
            try:
                checkpoint_file.prove(checkpoint.path)
            except DamagedCheckpointError:
                continue
            return checkpoint.path
        return None

    def _skip(self, step: int, failure: OSError) -> str:
        reason = failure.strerror or str(failure)
        self.skipped[step] = reason
        _log.warning("checkpoint of step %d skipped, training goes on: %s", step, reason)
        if self._on_skipped:
            self._on_skipped(step, reason)
        return ""

    def _link(self, name: str, target: Path) -> None:
        try:
            replace_link(self.directory / name, target.name)
        except OSError as failure:
            _log.debug("%s: link not made: %s", self.directory / name, failure)


def _next_mark(checkpoints: Sequence[Checkpoint]) -> int:
    return max((checkpoint.best for checkpoint in checkpoints), default=0) + 1


def _float(loss: float | Tensor) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)
