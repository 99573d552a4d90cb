"""The log for people: training.log."""

from __future__ import annotations

import gzip
import logging
import re
import shutil
import threading
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from spectral_mlflow.journal import LineFile

if TYPE_CHECKING:
    import torch

LARGEST_FILE = 100_000_000
BACKUPS = 5

_NO_FIELDS: Mapping[str, str] = MappingProxyType({})
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")  # All but the tab.

_log = logging.getLogger(__name__)


class StructuredLog:
    """Appends entries, each with the operating system when the call returns.

    The form of an entry::

        [2025-07-09 14:30:25.123] [INFO] [trainer] Training progress
          - Epoch: 5/100, Batch: 25/50
          - Losses: {loss: 0.45, coherence_loss: 0.12}

    At 100 MB the file is rotated: it gets the next number and a new one is begun, then it is gzipped; the five files
    before the newest are kept. What a program that follows the log may rely on:

    - A file is only ever appended to, by whole entries, and to none after it got another name. Whoever keeps it open
      can read it to its end, also when it has no name any more.
    - When another file (inode) has the name, nothing follows in the one before. Read that to its end, then go on at the
      beginning of the new one. No entry is lost or comes twice, unless the log is rotated twice between two looks;
      then what is between them is in the backups, ``training.log.NUMBER.gz``, the highest number the newest. A file
      of the same number that is not gzipped is the same one.
    - For a moment no file has the name: that is no end, and the new one follows.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], datetime] = datetime.now,
        largest_file: int = LARGEST_FILE,
        backups: int = BACKUPS,
    ) -> None:
        """Open or create the file.

        Args:
            path: the file; its folder must exist.
            clock: the local time.
            largest_file: bytes at which the file is rotated.
            backups: rotated files to keep, at least 1.

        Raises:
            OSError: the file cannot be opened.
        """
        self.path = path
        self._clock = clock
        self._backups = backups
        self._largest = self._limit = largest_file
        self._lock = threading.RLock()
        self._file = LineFile(path)
        self._close = weakref.finalize(self, LineFile.close, self._file)  # For loops that never close it.

    def entry(self, level: str, module: str, message: str, fields: Mapping[str, str] = _NO_FIELDS) -> None:
        """Append one entry. Never raises for a disk that refuses: entries then wait in memory.

        Args:
            level: such as INFO, WARNING, ERROR.
            module: the part of the program that speaks.
            message: one line; line ends in it, and in the fields, are escaped.
            fields: what belongs to it, one line each.
        """
        time = self._clock().isoformat(" ", "milliseconds")
        lines = [f"[{time}] [{level}] [{module}] {message}", *[f"  - {key}: {text}" for key, text in fields.items()]]
        if not "".join(lines).isprintable():
            lines = [one_line(line) for line in lines]
        lines.append("")
        content = "\n".join(lines).encode(errors="backslashreplace")
        with self._lock:
            if self._file.size + len(content) > self._limit and self._file.size:
                self._rotate()
            self._file.write(content)

    def close(self) -> None:
        """Close the file."""
        self._close()

    def _rotate(self) -> None:
        self._limit = self._file.size + self._largest  # Where it cannot be done now, it is not tried at every entry.
        try:
            self._pack()  # Of a rotation that was interrupted, or for which the disk had no room.
            newest = max(self._numbers(".gz"), default=0)
            moved = self._numbered(newest + 1)
            self.path.replace(moved)
            try:
                self._file.reopen()
            except OSError:
                moved.replace(self.path)
                raise
            self._limit = self._largest
            self._pack()
        except OSError as failure:
            _log.warning("%s: rotation failed, nothing is lost: %s", self.path, failure)

    def _pack(self) -> None:
        """Gzip what has a number, and let the oldest go: wherever it is interrupted, the next call goes on there."""
        unfinished = self.path.with_name(f"{self.path.name}.tmp")
        for number in self._numbers(""):
            moved, packed = self._numbered(number), self._numbered(number, ".gz")
            try:
                if not packed.exists():
                    with moved.open("rb") as plain, gzip.open(unfinished, "wb", compresslevel=1) as target:
                        shutil.copyfileobj(plain, target)  # Level 1: training waits for it.
                    unfinished.replace(packed)
                moved.unlink()
            finally:
                unfinished.unlink(missing_ok=True)
        for number in sorted(self._numbers(".gz"))[: -self._backups]:
            self._numbered(number, ".gz").unlink()

    def _numbers(self, ending: str) -> list[int]:
        """Of the files that were rotated and have this ending."""
        names = [path.name for path in self.path.parent.iterdir() if path.name.startswith(f"{self.path.name}.")]
        found = [name.removeprefix(f"{self.path.name}.").removesuffix(ending) for name in names]
        return [int(number) for number in found if number.isdecimal()]

    def _numbered(self, number: int, ending: str = "") -> Path:
        return self.path.with_name(f"{self.path.name}.{number}{ending}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def training_fields(
    *,
    epoch: tuple[int, int] | None = None,
    batch: tuple[int, int] | None = None,
    files: tuple[int, int] | None = None,
    losses: Mapping[str, float] = MappingProxyType({}),
    gpu_gb: tuple[float, float] | None = None,
    ram_gb: float | None = None,
    eta_seconds: float | None = None,
    samples: str | None = None,
) -> dict[str, str]:
    """The fields of a training progress entry, those that are given.

    Args:
        epoch: number of the epoch, and of all.
        batch: number of the batch in the epoch, and of all.
        files: files processed, and how many of them augmented.
        losses: name to value.
        gpu_gb: GPU memory used, and of all, in GB.
        ram_gb: memory of the process in GB.
        eta_seconds: time remaining.
        samples: path of the samples saved.
    """
    places = [f"{name}: {at[0]}/{at[1]}" for name, at in (("Epoch", epoch), ("Batch", batch)) if at]
    memory = [f"GPU {gpu_gb[0]:.2f}GB/{gpu_gb[1]:.2f}GB"] if gpu_gb else []
    memory += [f"RAM: {ram_gb:.2f}GB"] if ram_gb is not None else []
    first, _, rest = ", ".join(places).partition(": ")
    fields = {
        first: rest,
        "Files processed": f"{files[0]} ({files[1]} augmented)" if files else "",
        "Losses": losses_text(losses) if losses else "",
        "Memory": ", ".join(memory),
        "ETA": "" if eta_seconds is None else duration(eta_seconds),
        "Samples saved": samples or "",
    }
    return {key: text for key, text in fields.items() if text}


def model_fields(model: torch.nn.Module) -> dict[str, str]:
    """The fields of an entry on a model: its parameters, their size, and where they are.

    Args:
        model: parameters that it has twice count once.
    """
    parameters = list(model.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    size = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    parts = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in model.named_children()}
    return {
        "Parameters": f"{total:,} ({trained:,} trained)",
        "Size": f"{size / 2**20:.2f}MB",
        "Parts": ", ".join(f"{name} {count:,}" for name, count in parts.items() if count) or "one",
    }


def losses_text(losses: Mapping[str, float]) -> str:
    """Losses in one field, such as ``{loss: 0.45, coherence_loss: 0.12}``."""
    return f"{{{', '.join([f'{name}: {_short(value)}' for name, value in losses.items()])}}}"


def duration(seconds: float) -> str:
    """A length of time as people say it: ``42s``, ``15min``, ``2h 15min``, ``3d 4h``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes}min"
    return f"{hours // 24}d {hours % 24}h"


def _short(value: float) -> str:
    """Two decimals; a value that they would hide as 0.00 keeps its size."""
    return f"{value:.2e}" if 0 < abs(value) < 0.01 else f"{value:.2f}"


def one_line(text: str) -> str:
    """Without what would break the line, or forge an entry."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
