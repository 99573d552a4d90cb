"""The checkpoints of a folder, known from their seals alone: no torch, and a few hundred bytes read of each."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from spectral_mlflow.monitoring import seal

LATEST = "checkpoint_latest.pt"
BEST = "checkpoint_best.pt"

_NAME = re.compile(r"checkpoint_step_(\d+)\.pt")


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a checkpoint file without loading it.

    Attributes:
        path: the file.
        step: number of optimizer steps done.
        sequence: orders files by the time of writing; 0 for a file that has lost its seal.
        size: bytes of the file.
        digest: in hexadecimal; empty without a seal.
        algorithm: of the digest.
        timestamp: when it was saved, ISO 8601; empty where unknown.
        metrics: what the model reached at this step.
        best: 0, or how many checkpoints had been called the best, this one included.
    """

    path: Path
    step: int
    sequence: int
    size: int
    digest: str
    algorithm: str = ""
    timestamp: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    best: int = 0

    @property
    def seconds(self) -> float | None:
        """When it was saved, in seconds since the epoch; None where unknown."""
        return datetime.fromisoformat(self.timestamp).timestamp() if self.timestamp else None


def listing(folder: Path) -> list[Checkpoint]:
    """The checkpoints of a folder, newest first; those without a seal come last.

    Raises:
        OSError: the folder cannot be read.
    """
    # Not a glob, which takes a folder that may not be read for an empty one.
    names = [entry.name for entry in os.scandir(folder)] if folder.exists() else []
    found = [describe(folder / name) for name in names if _NAME.fullmatch(name)]
    return sorted(found, key=lambda checkpoint: (checkpoint.sequence, checkpoint.step), reverse=True)


def describe(path: Path) -> Checkpoint:
    """What name and seal of a file tell."""
    match = _NAME.fullmatch(path.name)
    step = int(match[1]) if match else 0
    try:
        with path.open("rb") as file:
            found = seal.find(file)
        size = path.stat().st_size
    except OSError:  # Reading it will say why.
        return Checkpoint(path, step, 0, 0, "")
    return sealed(path, step, size, found) if found else Checkpoint(path, step, 0, size, "")


def sealed(path: Path, step: int, size: int, found: seal.Seal) -> Checkpoint:
    """A file of which the seal is known."""
    facts = found.facts
    return Checkpoint(
        path, step, facts.sequence, size, found.digest, found.algorithm, facts.timestamp, facts.metrics, facts.best
    )


def best_of(newest_first: Sequence[Checkpoint], folder: Path) -> Checkpoint | None:
    """The checkpoint that was last called the best.

    Files of format 1 have no mark; among these the link tells, as far as it names one of them.
    """
    marked = max(newest_first, key=lambda checkpoint: checkpoint.best, default=None)
    if marked is None or marked.best:
        return marked
    link = folder / BEST
    name = link.readlink().name if link.is_symlink() else ""
    return next((checkpoint for checkpoint in newest_first if checkpoint.path.name == name), None)


@dataclass(frozen=True)
class Verified:
    """What came of reading a checkpoint from its first byte to its last.

    Attributes:
        checkpoint: the file.
        damage: what is wrong with it; empty when it is whole.
    """

    checkpoint: Checkpoint
    damage: str


def verified(checkpoint: Checkpoint) -> Verified:
    """Check one file against its digest, without unpacking it.

    Raises:
        UserError: the digest takes a package that is not installed.
    """
    try:
        seal.prove(checkpoint.path)
    except seal.DamagedCheckpointError as failure:
        return Verified(checkpoint, str(failure).removeprefix(f"{checkpoint.path}: "))
    return Verified(checkpoint, "")
