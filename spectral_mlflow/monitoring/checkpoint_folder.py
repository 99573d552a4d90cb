"""CheckpointFolder: finding and loading the checkpoints of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import checkpoint_file, retention
from spectral_mlflow.monitoring.checkpoint_list import Checkpoint, Verified, best_of, describe, listing, verified
from spectral_mlflow.monitoring.seal import DamagedCheckpointError

_log = logging.getLogger(__name__)


class CheckpointFolder:
    """The checkpoints of a folder, for reading. Nothing that is loaded can run code.

    Attributes:
        directory: the folder of the files.
    """

    def __init__(self, directory: Path, *, on_damage: Callable[[str, str], None] | None = None) -> None:
        """Look at a folder.

        Args:
            directory: the folder of the files.
            on_damage: told the path of every damaged checkpoint that loading meets, and what is wrong.
        """
        self.directory = directory
        self._on_damage = on_damage

    def wait(self) -> None:
        """Wait for what is being written: nothing here."""

    def list_checkpoints(self) -> list[Checkpoint]:
        """The checkpoint files, newest first; those that have lost their seal come last."""
        self.wait()
        return listing(self.directory)

    def load_latest_checkpoint(self) -> dict[str, Any] | None:
        """The newest checkpoint that is whole, tensors on the CPU; None without one.

        Damaged ones are passed over, each with a warning.
        """
        checkpoints = self.list_checkpoints()
        for lost in (checkpoint for checkpoint in checkpoints if not checkpoint.sequence):
            self._try(lost.path)  # It may have been the newest: the warning has to come.
        content = self._first_whole([checkpoint.path for checkpoint in checkpoints if checkpoint.sequence])
        if content is None and checkpoints:
            _log.warning("%s: every checkpoint is damaged; starting from scratch", self.directory)
        return content

    def load_best_checkpoint(self, metric: str | None = None, maximize: bool = False) -> dict[str, Any] | None:
        """The best checkpoint that is whole, tensors on the CPU; None without one.

        Args:
            metric: what it is the best by, such as ``val_loss``; default: the one that was marked as the best, and
                where none was, the lowest ``val_loss``.
            maximize: whether a higher value is better.
        """
        checkpoints = self.list_checkpoints()
        best_first = retention.ranked(checkpoints, metric or "val_loss", maximize=maximize)
        if metric is None:
            marked = sorted((known for known in checkpoints if known.best), key=lambda known: -known.best)
            chosen = best_of(checkpoints, self.directory)
            best_first = [*([chosen] if chosen else []), *marked, *best_first]
        return self._first_whole(list(dict.fromkeys(known.path for known in best_first)))

    def load_checkpoint(self, path: str) -> dict[str, Any]:
        """One particular checkpoint, tensors on the CPU.

        Raises:
            UserError: there is no such file.
            DamagedCheckpointError: it is damaged.
        """
        self.wait()
        if not Path(path).is_file():
            raise UserError(f"no checkpoint {path}; {self.directory} has {self._names() or 'none'}")
        return checkpoint_file.read(Path(path))

    def verify(self, path: str | None = None) -> list[Verified]:
        """Read checkpoints from the first byte to the last, and tell of each whether it is whole.

        Args:
            path: one of them; default: all, newest first.

        Raises:
            UserError: there is no such file, or its digest takes a package that is not installed.
        """
        checkpoints = self.list_checkpoints()
        if path is not None:
            if not Path(path).is_file():
                raise UserError(f"no checkpoint {path}; {self.directory} has {self._names() or 'none'}")
            checkpoints = [describe(Path(path))]
        return [verified(checkpoint) for checkpoint in checkpoints]

    def latest_path(self) -> str | None:
        """Path of the newest checkpoint."""
        newest = next(iter(self.list_checkpoints()), None)
        return str(newest.path) if newest else None

    def best_path(self) -> str | None:
        """Path of the checkpoint marked as the best."""
        best = best_of(self.list_checkpoints(), self.directory)
        return str(best.path) if best else None

    def _first_whole(self, paths: Sequence[Path]) -> dict[str, Any] | None:
        for path in paths:
            content = self._try(path)
            if content is not None:
                return content
        return None

    def _try(self, path: Path) -> dict[str, Any] | None:
        try:
            return checkpoint_file.read(path)
        except DamagedCheckpointError as failure:
            _log.warning("checkpoint passed over: %s", failure)
            if self._on_damage:
                self._on_damage(str(path), str(failure).removeprefix(f"{path}: "))
            return None

    def _names(self) -> str:
        return ", ".join(checkpoint.path.name for checkpoint in listing(self.directory))
