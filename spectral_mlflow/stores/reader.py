"""Reading a journal from a byte offset on, in batches."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from spectral_mlflow import journal
from spectral_mlflow.journal import Record

Batch = Sequence[tuple[Record, int]]

NOT_METRICS = ("step", "timestamp")
# What a file that an event names may raise when it is not what it should be.
DAMAGED = (OSError, ValueError, LookupError, TypeError, struct.error)
LINES = 500
TAIL = 1 << 20


def batches(path: Path, offset: int, lines: int = LINES) -> Iterator[Batch]:
    """Complete records from an offset on, each with the offset behind it.

    Args:
        path: the journal.
        offset: bytes already read. One that is not at the end of a line belongs to another file (the
            journal lost lines in a power cut): then everything is read again.
        lines: most records of a batch.
    """
    found = journal.read(path, offset if is_boundary(path, offset) else 0)
    while batch := list(islice(found, lines)):
        yield batch


def is_boundary(path: Path, offset: int) -> bool:
    """Whether a line of the file ends right before the offset."""
    if offset == 0:
        return True
    if not path.exists() or path.stat().st_size < offset:
        return False
    with path.open("rb") as file:
        file.seek(offset - 1)
        return file.read(1) == b"\n"


def has_more(path: Path, offset: int) -> bool:
    """Whether there is a record behind the offset."""
    return next(batches(path, offset, lines=1), None) is not None


def last_record(path: Path) -> Record | None:
    """The last complete record, None without one."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        tail = file.read()
    for line in reversed(tail.split(b"\n")[:-1]):
        try:
            return journal.decode(line)
        except ValueError:
            continue
    return None


def is_line(record: Record) -> bool:
    """Whether a record says when and at which step something was measured."""
    return isinstance(record.get("step"), int) and "timestamp" in record


def numbers(record: Record) -> list[tuple[str, float]]:
    """Name and value of each metric of a line."""
    return [
        (name, value)
        for name, value in record.items()
        if name not in NOT_METRICS and isinstance(value, (int, float)) and not isinstance(value, bool)
    ]


def encodable(text: str) -> str:
    """The text with a question mark for each half of a character, as a model may generate it, and without NUL.

    No store takes those.
    """
    return text.encode(errors="replace").decode().replace("\0", "")
