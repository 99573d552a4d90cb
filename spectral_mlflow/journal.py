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
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Record = dict[str, Any]

INVALID = "invalid"
RETRY_DELAYS = (0.01, 0.05, 0.25)

_log = logging.getLogger(__name__)


def now() -> str:
    """Current time as the journal writes it: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(timestamp: str) -> int:
    """Milliseconds since the epoch of a journal timestamp, as MLflow wants them."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)


def encode(record: Mapping[str, Any]) -> bytes:
    """One line of the journal, newline included."""
    try:
        text = json.dumps(record, allow_nan=False)
    except ValueError:
        text = json.dumps(without_non_finite(record), allow_nan=False)
    return text.encode() + b"\n"


def decode(line: bytes) -> Record:
    """The record of one line, non-finite values restored.

    Raises:
        ValueError: the line is not a JSON object.
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
    """The record that `without_non_finite` was given."""
    for place, text in record.pop(INVALID, {}).items():
        *folders, leaf = _path(place)
        target: Any = record
        for name in folders:
            target = target[int(name) if isinstance(target, list) else name]
        target[int(leaf) if isinstance(target, list) else leaf] = float(text)
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


class Journal:
    """The writing end of one journal file.

    A record, once `append` has returned, is with the operating system: it survives ``kill -9``.
    `sync` makes it survive a power cut too. When the disk refuses, the line is tried again, then
    kept in memory and written, in order, before the next one that succeeds.
    """

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

    @property
    def pending(self) -> int:
        """Number of lines that the disk has refused so far and memory still holds."""
        return len(self._pending)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record. Never raises for a disk that refuses (see the class)."""
        self._pending.append(encode(record))
        failure = self._flush()
        if failure is None:
            return
        if len(self._pending) > 1:  # Already refusing: one try a line is enough.
            return
        for delay in RETRY_DELAYS:
            self._sleep(delay)
            failure = self._flush()
            if failure is None:
                return
        print(f"{self.path}: {failure}; lines are kept in memory until it works again", file=sys.stderr)

    def sync(self) -> None:
        """Flush what is pending and make the file survive a power cut."""
        self._flush()
        os.fsync(self._file)

    def close(self) -> None:
        """Flush what is pending and close the file."""
        failure = self._flush()
        if failure is not None:
            print(f"{self.path}: {failure}; {self.pending} lines are lost", file=sys.stderr)
        os.close(self._file)

    def _flush(self) -> OSError | None:
        while self._pending:
            line = self._pending[0]
            try:
                written = os.write(self._file, line)
                if written < len(line):
                    raise OSError(f"only {written} of {len(line)} bytes written")
            except OSError as failure:
                os.ftruncate(self._file, self._size)  # Never leave half a line behind.
                return failure
            self._size += len(line)
            del self._pending[0]
        return None


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
