"""One checkpoint file: a ZIP of torch.save that proves itself.

The comment of the ZIP, which ``torch.load`` ignores and ``unzip -z`` shows, is the seal::

    spectral-checkpoint 1 sequence 00000000000000000012 sha256 4f0c...

The digest covers every byte of the file before it, so a file that was cut, or in which a bit has
changed, is known before anything is unpacked. The sequence number orders the files of a folder by
the time of writing, which neither the step (a run may go back) nor the file's clock does.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pickle
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from spectral_mlflow.errors import UserError
from spectral_mlflow.files import sync_directory
from spectral_mlflow.monitoring.plain import plain

KEYS = frozenset(
    ("step", "model_state_dict", "optimizer_state_dict", "loss_history", "config", "timestamp", "git_hash")
)
MARGIN = 1 << 20  # Bytes to leave free: the ZIP's own, and room for the journals to go on.

_NAME = re.compile(r"checkpoint_step_(\d+)\.pt")
_SEAL = re.compile(rb"spectral-checkpoint 1 sequence (\d{20}) sha256 ([0-9a-f]{64})")
_SEAL_SIZE = 31 + 20 + 8 + 64
_DIGEST_SIZE = 64


class DamagedCheckpointError(UserError):
    """A checkpoint file that is not what was written, or never was one of ours."""


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a checkpoint file without loading it.

    ``sequence`` is 0 for a file that has lost its seal.
    """

    path: Path
    step: int
    sequence: int
    size: int
    digest: str


def listing(folder: Path) -> list[Checkpoint]:
    """The checkpoints of a folder, newest first; those without a seal come last."""
    found = [_describe(path, int(match[1])) for path in folder.glob("*.pt") if (match := _NAME.fullmatch(path.name))]
    return sorted(found, key=lambda checkpoint: (checkpoint.sequence, checkpoint.step), reverse=True)


def _describe(path: Path, step: int) -> Checkpoint:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            sequence, digest = _seal_of(file) or (0, "")
    except OSError:  # Reading it will say why.
        sequence, size, digest = 0, 0, ""
    return Checkpoint(path, step, sequence, size, digest)


def write(path: Path, content: dict[str, Any], sequence: int, free_bytes: Callable[[Path], int]) -> None:
    """Write a checkpoint: whole and durable under its name, or not at all.

    Args:
        path: the file; one of that name is replaced.
        content: reduced to what ``torch.load(weights_only=True)`` takes.
        sequence: larger than that of any other file in the folder.
        free_bytes: room on the disk of a folder.

    Raises:
        OSError: the disk is full or refuses; nothing is left behind.
        TypeError: a value that could not be loaded again, by its dotted name.
    """
    content = _loadable(content)
    if free_bytes(path.parent) < _size(content, set()) + MARGIN:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w+b") as file:
            _lock(file)
            _save(content, file)
            seal(file, sequence)
            os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that died: those that nobody holds a lock on."""
    for path in folder.glob(".checkpoint_step_*.tmp"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU, once its digest is proved. No code in it is ever run.

    Raises:
        DamagedCheckpointError: why it cannot be used.
    """
    try:
        with path.open("rb") as file:
            _prove(file, path)
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


def prove(path: Path) -> None:
    """Check a file against its digest, without loading it.

    Raises:
        DamagedCheckpointError: they do not agree.
    """
    try:
        with path.open("rb") as file:
            _prove(file, path)
    except OSError as failure:
        raise DamagedCheckpointError(f"{path}: cannot be read ({failure.strerror})") from None


def seal(file: BufferedRandom, sequence: int) -> None:
    """Put the seal on a ZIP without a comment; its last two bytes are the comment's length."""
    file.seek(-2, os.SEEK_END)
    file.write(_SEAL_SIZE.to_bytes(2, "little"))
    file.write(b"spectral-checkpoint 1 sequence %020d sha256 " % sequence)
    file.flush()
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.write(digest.encode())
    file.flush()


def free_disk(folder: Path) -> int:
    """Bytes that can still be written to the disk of a folder."""
    return shutil.disk_usage(folder).free


def _save(content: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(content, file)
    except RuntimeError as failure:  # Torch hides what the disk said behind an error of its own.
        if isinstance(failure.__context__, OSError):
            raise failure.__context__ from None
        raise


def _seal_of(file: BinaryIO) -> tuple[int, str] | None:
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - _SEAL_SIZE))
    match = _SEAL.fullmatch(file.read())
    return (int(match[1]), match[2].decode()) if match else None


def _prove(file: BinaryIO, path: Path) -> None:
    seal = _seal_of(file)
    if seal is None:
        raise DamagedCheckpointError(f"{path}: has no seal; it was cut, or not written by this package")
    remaining = file.tell() - _DIGEST_SIZE
    file.seek(0)
    digest = hashlib.sha256()
    while remaining > 0 and (block := file.read(min(remaining, 1 << 20))):
        digest.update(block)
        remaining -= len(block)
    if digest.hexdigest() != seal[1]:
        raise DamagedCheckpointError(f"{path}: does not agree with its digest")


def _lock(file: BinaryIO) -> None:
    """Show other writers that this one lives; the lock goes with the process, however it ends."""
    with suppress(OSError):  # Some network file systems have no locks.
        fcntl.flock(file, fcntl.LOCK_EX)


def _loadable(content: dict[str, Any]) -> dict[str, Any]:
    return dict(plain(content, _leaf, "checkpoint"))


def _leaf(value: Any, place: str) -> Any:
    if isinstance(value, (torch.Tensor, torch.Size, torch.dtype, torch.device)):
        return value
    if isinstance(value, np.ndarray):
        try:
            return torch.from_numpy(value.copy())
        except TypeError:  # Texts, objects, foreign byte order.
            return plain(value.tolist(), _leaf, place)
    raise TypeError(
        f"{place}: a {type(value).__name__} cannot be kept in a checkpoint; "
        "give numbers, texts, tensors, arrays, and lists and dictionaries of these"
    )


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
