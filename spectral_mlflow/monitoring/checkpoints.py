"""CheckpointManager: saving, keeping and finding the checkpoints of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_link
from spectral_mlflow.monitoring import checkpoint_file
from spectral_mlflow.monitoring.checkpoint_file import Checkpoint, DamagedCheckpointError
from spectral_mlflow.provenance import get_git_hash

LATEST = "checkpoint_latest.pt"
BEST = "checkpoint_best.pt"

_log = logging.getLogger(__name__)


class CheckpointManager:
    """Keeps the checkpoints ``checkpoints/checkpoint_step_{N}.pt`` of one run.

    A saved checkpoint is whole and survives a power cut before `save_checkpoint` returns. The links
    ``checkpoint_latest.pt`` and ``checkpoint_best.pt`` are for people: loading goes by the sequence
    number and the digest in each file. One process at a time may save into a folder.

    Attributes:
        directory: the folder of the files.
        skipped: why there is no checkpoint of a step at which one was asked for.
    """

    def __init__(
        self,
        experiment_dir: str,
        save_interval: int = 1000,
        keep_last_n: int = 3,
        *,
        on_damage: Callable[[str, str], None] | None = None,
        free_bytes: Callable[[Path], int] = checkpoint_file.free_disk,
    ) -> None:
        """Make the folder, if it is missing.

        Args:
            experiment_dir: root directory of the experiment.
            save_interval: steps between checkpoints.
            keep_last_n: number of newest checkpoints to retain.
            on_damage: told the path of every damaged checkpoint that loading meets, and what is wrong.
            free_bytes: room on the disk of a folder.

        Raises:
            UserError: an interval or a number below 1.
        """
        self.save_interval = _positive("save_interval", save_interval)
        self.keep_last_n = _positive("keep_last_n", keep_last_n)
        self.directory = Path(experiment_dir) / "checkpoints"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.skipped: dict[int, str] = {}
        self._on_damage = on_damage
        self._free_bytes = free_bytes
        self._best = self._linked_best()

    @cached_property
    def _git_hash(self) -> str:
        return get_git_hash()  # Of the code that runs, which later commits do not change.

    def should_checkpoint(self, step: int) -> bool:
        """Whether this step is a multiple of the interval."""
        return step > 0 and step % self.save_interval == 0

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
        """Save a checkpoint, then remove those beyond the retention limit.

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
            Path of the file, or the empty string when it was skipped.

        Raises:
            TypeError: a value that could not be loaded again, by its dotted name.
        """
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
        path = self.directory / f"checkpoint_step_{int(step)}.pt"
        try:
            checkpoint_file.remove_leftovers(self.directory)
            checkpoint_file.write(path, content, self._next_sequence(), self._free_bytes)
        except OSError as failure:
            return self._skip(step, failure)
        self.skipped.pop(step, None)
        self._link(LATEST, path)
        if best:
            self.mark_best(str(path))
        self._retain(path)
        return str(path)

    def load_latest_checkpoint(self) -> dict[str, Any] | None:
        """The newest checkpoint that is whole, tensors on the CPU; None without one.

        Damaged ones are passed over, each with a warning. Nothing that is loaded can run code.
        """
        checkpoints = self.list_checkpoints()
        for lost in (checkpoint for checkpoint in checkpoints if not checkpoint.sequence):
            self._try(lost.path)  # It may have been the newest: the warning has to come.
        for checkpoint in checkpoints:
            content = self._try(checkpoint.path) if checkpoint.sequence else None
            if content is not None:
                return content
        if checkpoints:
            _log.warning("%s: every checkpoint is damaged; starting from scratch", self.directory)
        return None

    def load_best_checkpoint(self) -> dict[str, Any] | None:
        """The checkpoint marked as the best, None without one or when it is damaged."""
        return self._try(self._best) if self._best is not None and self._best.exists() else None

    def load_checkpoint(self, path: str) -> dict[str, Any]:
        """One particular checkpoint, tensors on the CPU.

        Raises:
            UserError: there is no such file.
            DamagedCheckpointError: it is damaged.
        """
        if not Path(path).is_file():
            raise UserError(f"no checkpoint {path}; {self.directory} has {self._names() or 'none'}")
        return checkpoint_file.read(Path(path))

    def list_checkpoints(self) -> list[Checkpoint]:
        """The checkpoint files, newest first; those that have lost their seal come last."""
        return checkpoint_file.listing(self.directory)

    def latest_path(self) -> str | None:
        """Path of the newest checkpoint."""
        newest = next(iter(self.list_checkpoints()), None)
        return str(newest.path) if newest else None

    def best_path(self) -> str | None:
        """Path of the checkpoint marked as the best."""
        return str(self._best) if self._best is not None and self._best.exists() else None

    def mark_best(self, path: str) -> None:
        """Call a checkpoint the best: retention spares it until another one is marked.

        Raises:
            UserError: it is not a checkpoint of this run.
        """
        chosen = self.directory / Path(path).name
        if chosen not in (checkpoint.path for checkpoint in self.list_checkpoints()):
            raise UserError(f"no checkpoint {path} to call the best; {self.directory} has {self._names() or 'none'}")
        self._best = chosen
        self._link(BEST, chosen)

    def cleanup_old_checkpoints(self) -> None:
        """Remove all but the newest ``keep_last_n``, the best and the newest that is whole."""
        self._retain(self._newest_whole())

    def _retain(self, whole: Path | None) -> None:
        spared = {whole, self._best}
        for path in superseded(self.list_checkpoints(), self.keep_last_n):
            if path in spared:
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as failure:
                _log.warning("%s: old checkpoint cannot be removed: %s", path, failure)

    def _newest_whole(self) -> Path | None:
        for checkpoint in self.list_checkpoints():
            try:
                checkpoint_file.prove(checkpoint.path)
            except DamagedCheckpointError:
                continue
            return checkpoint.path
        return None

    def _next_sequence(self) -> int:
        return max((checkpoint.sequence for checkpoint in self.list_checkpoints()), default=0) + 1

    def _try(self, path: Path) -> dict[str, Any] | None:
        try:
            return checkpoint_file.read(path)
        except DamagedCheckpointError as failure:
            _log.warning("checkpoint passed over: %s", failure)
            if self._on_damage:
                self._on_damage(str(path), str(failure).removeprefix(f"{path}: "))
            return None

    def _skip(self, step: int, failure: OSError) -> str:
        reason = failure.strerror or str(failure)
        self.skipped[step] = reason
        _log.warning("checkpoint of step %d skipped, training goes on: %s", step, reason)
        return ""

    def _link(self, name: str, target: Path) -> None:
        try:
            replace_link(self.directory / name, target.name)
        except OSError as failure:
            _log.debug("%s: link not made: %s", self.directory / name, failure)

    def _linked_best(self) -> Path | None:
        link = self.directory / BEST
        if not link.is_symlink():
            return None
        target = self.directory / link.readlink().name
        return target if target in (checkpoint.path for checkpoint in self.list_checkpoints()) else None

    def _names(self) -> str:
        return ", ".join(checkpoint.path.name for checkpoint in self.list_checkpoints())


def superseded(newest_first: Sequence[Checkpoint], keep_last_n: int) -> list[Path]:
    """The files beyond the retention limit."""
    return [checkpoint.path for checkpoint in newest_first[keep_last_n:]]


def _float(loss: float | Tensor) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def _positive(name: str, value: int) -> int:
    if value >= 1:
        return value
    raise UserError(f"{name}: given {value}; allowed: 1 or more")
