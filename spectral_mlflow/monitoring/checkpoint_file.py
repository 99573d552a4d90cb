"""One checkpoint file: a ZIP of torch.save that proves itself (see `spectral_mlflow.monitoring.seal`)."""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from spectral_mlflow.files import sync_directory
from spectral_mlflow.monitoring.checkpoint_list import Checkpoint, sealed
from spectral_mlflow.monitoring.seal import (
    BLOCK,
    DamagedCheckpointError,
    Facts,
    SealingWriter,
    prove,
    prove_open,
)

__all__ = ["KEYS", "DamagedCheckpointError", "free_disk", "mark", "prove", "read", "remove_leftovers", "write"]

KEYS = frozenset(
    ("step", "model_state_dict", "optimizer_state_dict", "loss_history", "config", "timestamp", "git_hash")
)
MARGIN = 1 << 20  # Bytes to leave free: the ZIP's own, and room for the journals to go on.


def free_disk(folder: Path) -> int:
    """Bytes that can still be written to the disk of a folder."""
    return shutil.disk_usage(folder).free


def write(
    path: Path,
    content: dict[str, Any],
    sequence: int,
    *,
    best: int = 0,
    before_commit: Callable[[], None] | None = None,
    free_bytes: Callable[[Path], int] = free_disk,
) -> Checkpoint:
    """Write a checkpoint: whole and durable under its name, or not at all.

    Args:
        path: the file; one of that name is replaced.
        content: of types that ``torch.load(weights_only=True)`` takes, as from `Snapshot.take`.
        sequence: larger than that of any other file in the folder.
        best: what `Checkpoint.best` is to be.
        before_commit: called when the file is on the disk but not yet under its name.
        free_bytes: room on the disk of a folder.

    Raises:
        OSError: the disk is full or refuses; nothing is left behind.
    """
    if free_bytes(path.parent) < _size(content, set()) + MARGIN:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    metrics = content.get("metrics", {})
    facts = Facts(sequence, content.get("step"), content.get("timestamp", ""), best, metrics)
    # All that torch asks of a file to write into is `write` and `flush`.
    return _commit(path, facts, lambda file: torch.save(content, cast("BinaryIO", file)), before_commit)


def mark(checkpoint: Checkpoint, best: int) -> Checkpoint:
    """Write a file again, as it is, with another mark.

    Raises:
        DamagedCheckpointError: it is damaged, and stays as it is.
        OSError: the disk is full or refuses; the file stays as it was.
    """
    with checkpoint.path.open("rb") as source:
        seal = prove_open(source, checkpoint.path)
        source.seek(0)

        def copy(file: SealingWriter) -> None:
            remaining = seal.size
            while remaining:
                remaining -= file.write(source.read(min(remaining, BLOCK)))

        return _commit(checkpoint.path, replace(seal.facts, best=best, step=checkpoint.step), copy, None)


def _commit(
    path: Path, facts: Facts, save: Callable[[SealingWriter], object], before_commit: Callable[[], None] | None
) -> Checkpoint:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            _lock(file)
            sealing = SealingWriter(file)
            save(sealing)
            seal = sealing.finish(facts)
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
            if before_commit:
                before_commit()
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)
    return sealed(path, facts.step or 0, size, seal)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that died: those that nobody holds a lock on."""
    for path in folder.glob(".checkpoint_*.tmp"):
        if path.is_symlink():  # On its way to be checkpoint_latest.pt or checkpoint_best.pt.
            path.unlink(missing_ok=True)
            continue
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU, once its digest is proved. No code in it is ever run.

    Raises:
        DamagedCheckpointError: why it cannot be used.
        UserError: its digest takes a package that is not installed.
    """
    try:
        with path.open("rb") as file:
            prove_open(file, path)
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as failure:
        raise DamagedCheckpointError(f"{path}: cannot be read ({failure.strerror})") from None
    except pickle.UnpicklingError:
        raise DamagedCheckpointError(f"{path}: holds code or unknown types, which are never loaded") from None
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError) as failure:
        raise DamagedCheckpointError(f"{path}: cannot be unpacked ({type(failure).__name__})") from None
    if not isinstance(content, dict) or not content.keys() >= KEYS:
        raise DamagedCheckpointError(f"{path}: is not a checkpoint of a run")
    return content


def _lock(file: BinaryIO) -> None:
    """Show other writers that this one lives; the lock goes with the process, however it ends."""
    with suppress(OSError):  # Some network file systems have no locks.
        fcntl.flock(file, fcntl.LOCK_EX)


def _size(value: Any, seen: set[int]) -> int:
    """About how many bytes a value takes in the file; storages that tensors share count once."""
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided:
            return value.numel() * value.element_size()
        storage = value.untyped_storage()
        known = storage.data_ptr() in seen
        seen.add(storage.data_ptr())
        return 0 if known else storage.nbytes()
    if isinstance(value, dict):
        return sum(_size(item, seen) + 32 for item in value.values())
    if isinstance(value, (list, tuple, set)):
        return sum(_size(item, seen) for item in value)
    return len(value) if isinstance(value, (str, bytes)) else 10
