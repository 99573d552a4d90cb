"""The journal: append-only JSON lines that survive the death of the process that wrote them.

`metrics.jsonl` and `events.jsonl` of a run directory are journals. Whoever writes appends one
object a line; whoever reads (the companion, resume, the analysis) sees every complete line, in
order, and the byte offset behind it. A torn last line is ignored by readers and cut by the next
writer.

JSON has no NaN and no infinities. A line with such a value stays valid JSON: the value becomes
null and the field ``invalid`` names it, so that a reader gets back exactly what was written.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from spectral_mlflow.errors import UserError
from spectral_mlflow.files import sync_directory

Record = dict[str, Any]

INVALID = "invalid"
RETRY_DELAYS = (0.01, 0.05, 0.25)
LAST_DELAYS = (*RETRY_DELAYS, 1.0, 2.0)  # Before what is still in memory is lost for good.

_ENCODER = json.JSONEncoder(allow_nan=False)  # `json.dumps` would make one for every line.
_log = logging.getLogger(__name__)
_second = (-1, "")  # The newest second, and how it is written: a loop asks many times in each.


def now() -> str:
    """Current time as the journal writes it: ISO 8601, UTC, milliseconds."""
    global _second  # Replaced at once, so that no thread sees half of it.
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    known, text = _second
    if seconds != known:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        _second = (seconds, text)
    return f"{text}.{rest // 1_000_000:03d}Z"


def milliseconds(timestamp: str) -> int:
    """Milliseconds since the epoch of a journal timestamp, as MLflow wants them."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)


def encode(record: Mapping[str, Any]) -> bytes:
    """One line of the journal, newline included.

    Raises:
        UserError: a field has the name that marks non-finite values.
    """
    if INVALID in record:
        raise UserError(f"field {INVALID!r}: given a name that marks lines with NaN; give another one")
    try:
        text = _ENCODER.encode(record)
    except ValueError:
        text = _ENCODER.encode(without_non_finite(record))
    return text.encode() + b"\n"


def decode(line: bytes) -> Record:
    """The record of one line, non-finite values restored.

    Raises:
        ValueError: the line is not a JSON object, or names non-finite values that it does not have.
    """
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    return with_non_finite(record)


def without_non_finite(record: Mapping[str, Any]) -> Record:
    """A copy that is JSON: NaN and infinities are null, and the entry ``invalid`` has their places and true values.

    The place of an entry of the record is its name, that of a value further down a JSON pointer (RFC 6901).
    """
    invalid: dict[str, str] = {}
    finite: Record = _finite(record, "", invalid)
    return {**finite, INVALID: invalid} if invalid else finite


def with_non_finite(record: Record) -> Record:
    """The record that `without_non_finite` was given.

    Raises:
        ValueError: its entry ``invalid`` is none of ours.
    """
    try:
        for place, text in record.pop(INVALID, {}).items():
            *folders, leaf = _path(place)
            target: Any = record
            for name in folders:
                target = target[int(name) if isinstance(target, list) else name]
            target[int(leaf) if isinstance(target, list) else leaf] = float(text)
    except (AttributeError, LookupError, TypeError) as failure:
        raise ValueError(f"entry {INVALID!r} of another form: {failure}") from failure
    return record


def _finite(value: Any, pointer: str, invalid: dict[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item, f"{pointer}/{_escaped(str(name))}", invalid) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item, f"{pointer}/{index}", invalid) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        path = _path(pointer)
        invalid[pointer if len(path) > 1 or path[0].startswith("/") else path[0]] = str(value)
        return None
    return value


def _path(place: str) -> list[str]:
    if not place.startswith("/"):
        return [place]
    return [part.replace("~1", "/").replace("~0", "~") for part in place.split("/")[1:]]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


class LineFile:
    """The writing end of a file of lines, for several threads.

    A line, once `write` has returned, is with the operating system: it survives ``kill -9``.
    `sync` makes it survive a power cut too. When the disk refuses, the line is tried again, then
    kept in memory and written, in order, before the next one that succeeds. Files beside each other
    that are refused for the same reason tell it once.
    """

    _refused: ClassVar[set[LineFile]] = set()  # Those whose lines wait; the first in a folder has told of it.

    def __init__(self, path: Path, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Open or create the file, cutting a torn last line.

        Args:
            path: the file; its folder must exist.
            sleep: waits between retries; a parameter so that tests need not wait.

        Raises:
            OSError: the file cannot be opened.
        """
        self.path = path
        self._sleep = sleep
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = _cut_torn_line(self._file)
        self._pending: list[bytes] = []
        self._named = False  # Whether the folder has been synced since.
        self._torn = False  # Whether the file may be longer than the lines that are known to be whole.
        self._lock = threading.RLock()  # One that a thread can take again after an exception of a signal's handler.

    @property
    def pending(self) -> int:
        """Number of lines that the disk has refused so far and memory still holds."""
        return len(self._pending)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    def write(self, line: bytes) -> None:
        """Append what ends with a line end. Never raises for a disk that refuses (see the class)."""
        with self._lock:
            self._pending.append(line)
            if self._flush() is None or len(self._pending) > 1:  # Already refusing: one try a line is enough.
                return
            if failure := self._retry(RETRY_DELAYS):
                if self.path.parent not in [file.path.parent for file in tuple(self._refused)]:
                    self._say(f"{failure}; lines are kept in memory until it works again")
                self._refused.add(self)

    def reopen(self) -> None:
        """Go on in a new file of this path, as the one so far has another name now. Lines that are pending stay so.

        Raises:
            OSError: the disk refuses; lines then go on into the file so far.
        """
        with self._lock:
            new = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            old, self._file = self._file, new
            self._size, self._torn, self._named = 0, False, False
            os.close(old)

    def sync(self) -> None:
        """Flush what is pending and make the file survive a power cut.

        Raises:
            OSError: the disk refuses either.
        """
        with self._lock:
            if failure := self._flush():
                raise failure
        os.fsync(self._file)  # Not under the lock: it takes long, and lines may follow meanwhile.
        if not self._named:
            sync_directory(self.path.parent)  # Only then is the name of a new file durable too.
            self._named = True

    def close(self) -> None:
        """Flush what is pending, with patience, and close the file. Lines that are lost are told on stderr."""
        with self._lock:
            if failure := self._flush() and self._retry(LAST_DELAYS):
                self._say(f"{failure}; the last {self.pending} lines are lost")
            self._refused.discard(self)
            file, self._file = self._file, -1  # The system gives the number to other files.
            os.close(file)

    def _retry(self, delays: tuple[float, ...]) -> OSError | None:
        failure = None
        for delay in delays:
            self._sleep(delay)
            if (failure := self._flush()) is None:
                break
        return failure

    def _flush(self) -> OSError | None:
        try:
            while self._pending:
                if self._torn:  # Half a line, or one whose writing was interrupted by an exception.
                    os.ftruncate(self._file, self._size)
                line = self._pending[0]
                self._torn = True
                written = os.write(self._file, line)
                while written < len(line):  # There was no room for more: the rest finds out why.
                    written += os.write(self._file, line[written:])
                self._size += written  # From here on no call, so no signal's handler comes between.
                del self._pending[0]
                self._torn = False
            self._refused.discard(self)
        except OSError as failure:
            with suppress(OSError):  # At once, for whoever reads meanwhile.
                os.ftruncate(self._file, self._size)
            return failure
        return None

    def _say(self, message: str) -> None:
        with suppress(OSError, ValueError):  # Nobody may be listening.
            print(f"{self.path}: {message}", file=sys.stderr)


class Journal(LineFile):
    """The writing end of one journal file."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record. Never raises for a disk that refuses (see `LineFile`)."""
        self.write(encode(record))


def _cut_torn_line(file: int) -> int:
    size = end = os.fstat(file).st_size
    block = 65536
    while end > 0:
        start = max(0, end - block)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
    return end


def read(path: Path, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """Every complete record from a byte offset on, each with the offset behind it.

    A missing file is an empty journal. A damaged line is skipped with a warning in the log; a torn
    last line is left for the next call.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                record = decode(line)
            except ValueError as failure:
                _log.warning("%s: damaged line before byte %d skipped: %s", path, offset, failure)
                continue
            yield record, offset


def records(path: Path) -> list[Record]:
    """All complete records of a journal."""
    return [record for record, _ in read(path)]
