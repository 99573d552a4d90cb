"""MetricsLogger: one line of numbers a step, on disk before the call returns."""

from __future__ import annotations

import logging
import operator
import threading
from collections.abc import Mapping
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any, Self

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError
from spectral_mlflow.journal import Journal, Record
from spectral_mlflow.monitoring.structured_log import StructuredLog, losses_text

_OWN = frozenset(("step", "timestamp", journal.INVALID))
_FLOATS, _TEXTS = {float}, {str}
_TAIL = 65536

_log = logging.getLogger(__name__)


class MetricsLogger:
    """Appends metrics to ``metrics.jsonl``.

    A line whose call has returned survives the death of the process; `sync` makes it survive a
    power cut. A disk that refuses does not stop training: lines wait in memory and follow in order.
    Nothing is opened for writing before the first line, so that a run in progress can be read.
    """

    def __init__(self, log_dir: str, log_interval: int = 10, *, log: StructuredLog | None = None) -> None:
        """Make the folder, if it is missing.

        Args:
            log_dir: folder of the log files.
            log_interval: steps between lines.
            log: the run's log for people, which then gets warnings only, its owner writing the
                progress; default: a ``training.log`` beside, with an entry for every line.

        Raises:
            UserError: an interval below 1.
        """
        if log_interval < 1:
            raise UserError(f"log_interval: given {log_interval}; allowed: 1 or more")
        self.log_interval = log_interval
        self.path = Path(log_dir) / "metrics.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._shared_log = log
        self._own_log: StructuredLog | None = None
        self._journal: Journal | None = None
        self._unflushed: list[Record] = []
        self._lock = threading.RLock()  # Whoever writes checkpoints calls `sync` from a thread of its own.
        self._latest: int | None = None
        self._warned: set[str] = set()

    def should_log(self, step: int) -> bool:
        """Whether this step is a multiple of the interval."""
        return step % self.log_interval == 0

    def open(self) -> Journal:
        """The file, open for writing, which else happens with the first line.

        Raises:
            OSError: it cannot be written.
        """
        if self._journal is None:
            self._journal = Journal(self.path)
        return self._journal

    def log_metrics(self, step: int, metrics: Mapping[str, float], flush: bool = True) -> None:
        """Append one line.

        Args:
            step: number of the training step.
            metrics: names to numbers; tensors and arrays of one element count as numbers. NaN and
                infinities are kept and marked. Entries named ``step`` and ``timestamp`` give way
                to those of the call.
            flush: whether to write at once, or with the next line that is flushed, `sync` or `close`.

        Raises:
            TypeError: a value is not a number.
            UserError: a metric is named ``invalid``, which marks the lines with NaN.
        """
        record: Record = {"step": operator.index(step), "timestamp": journal.now()}
        if _are_plain(metrics):
            record.update(metrics)
        else:
            self._take(record, metrics, step)
        self._unflushed.append(record)
        self._latest = record["step"]
        if flush:
            self._flush()

    def _take(self, record: Record, metrics: Mapping[str, float], step: int) -> None:
        """Add metrics to a record, one by one."""
        for name, value in metrics.items():
            if name in _OWN:
                _check_own(name)
                continue
            number = value if type(value) is float and type(name) is str else _number(name, value)
            if not isfinite(number):
                self._warn(name, number, step)
            record[name] = number

    def load_metrics(self) -> list[Record]:
        """Every line of the file, NaN and infinities restored."""
        self._flush()
        return journal.records(self.path)

    def get_latest_step(self) -> int:
        """Step of the last line, 0 without one."""
        if self._latest is None:
            self._latest = _last_step(self.path)
        return self._latest

    def sync(self) -> None:
        """Make every line so far survive a power cut.

        Raises:
            OSError: the disk refuses.
        """
        self._flush()
        if self._journal is not None:
            self._journal.sync()

    def close(self) -> None:
        """Write what is left and close the files."""
        self._flush()
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        if self._own_log is not None:
            self._own_log.close()
            self._own_log = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _flush(self) -> None:
        with self._lock:  # Before looking: another thread may have taken a line that it has not written yet.
            if not self._unflushed:
                return
            writer = self.open()
            while self._unflushed:
                record = self._unflushed.pop(0)  # Before it is written: whatever interrupts this, no line comes twice.
                writer.append(record)
                if self._shared_log is None:
                    self._human_log().entry("INFO", "metrics_logger", "Training progress", _fields(record))

    def _human_log(self) -> StructuredLog:
        if self._shared_log is not None:
            return self._shared_log
        if self._own_log is None:
            self._own_log = StructuredLog(self.path.with_name("training.log"))
        return self._own_log

    def _warn(self, name: str, value: float, step: int) -> None:
        if name in self._warned:
            return
        self._warned.add(name)
        message = f"metric {name} is {value} at step {step}; marked as invalid, training goes on"
        _log.warning(message)
        self._human_log().entry("WARNING", "metrics_logger", message)


def _are_plain(metrics: Mapping[str, float]) -> bool:
    """Whether all are finite floats by names of their own: nearly always, and quickly seen.

    The sum of finite floats may overflow; a false alarm costs only time.
    """
    return (
        {*map(type, metrics.values())} == _FLOATS
        and {*map(type, metrics)} == _TEXTS
        and _OWN.isdisjoint(metrics)
        and isfinite(sum(metrics.values()))
    )


def _check_own(name: str) -> None:
    if name == journal.INVALID:
        raise UserError("metric 'invalid': given a name that marks lines with NaN; give another one")


def _number(name: object, value: Any) -> float:
    """A number as JSON has them."""
    if not isinstance(name, str):
        raise TypeError(f"metric {name!r}: given a name of type {type(name).__name__}; allowed: a text")
    if hasattr(value, "item"):  # Tensors and numpy's numbers and arrays.
        try:
            value = value.item()
        except (RuntimeError, ValueError):
            raise TypeError(f"metric {name!r}: given {tuple(value.shape)} values; allowed: one number") from None
    if not isinstance(value, Real):
        raise TypeError(f"metric {name!r}: given {value!r} of type {type(value).__name__}; allowed: a number")
    try:
        as_float = float(value)
    except OverflowError:
        raise TypeError(f"metric {name!r}: given an integer too large for a float; allowed: a number") from None
    return int(value) if isinstance(value, int) else as_float


def _last_step(path: Path) -> int:
    """Step of the last complete line, found from the end: the file of a long run is large."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        start = max(0, path.stat().st_size - _TAIL)
        file.seek(start)
        if start:
            file.readline()
        offset = file.tell()
    lines = list(journal.read(path, offset)) or list(journal.read(path))
    return int(lines[-1][0]["step"]) if lines else 0


def _fields(record: Record) -> dict[str, str]:
    """A line as its entry in the log for people."""
    fields = {"Step": str(record["step"])}
    if losses := {name: value for name, value in record.items() if name.endswith("loss")}:
        fields["Losses"] = losses_text(losses)
    for name, value in record.items():
        if name not in losses and name not in _OWN:
            fields[name] = f"{value:.6g}"
    return fields
