"""The seal of a checkpoint file: what is known of it, and a digest that proves it whole.

The seal is the comment of the ZIP that ``torch.save`` makes. ``torch.load`` ignores it and ``unzip -z`` shows it::

    spectral-checkpoint 2 {"sequence": 12, "step": 400, "size": 9876, ...} 1f2e3d4c xxh3_128 4f0c... 00240

The digest covers every byte of the file before it, so a file that was cut, or in which a bit has changed, is known
before anything is unpacked. What a list of checkpoints needs is read without all that, and so has a CRC-32 of its own.
The last number is the length of the seal, by which it is found from the end of the file.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError

EXTRA = "checkpoints"
BLOCK = 1 << 22  # Bytes hashed and written at a time: few enough to stay in the cache between the two.

_END_RECORD = 22  # Bytes that end a ZIP without a comment; the last two are the length of the comment.
_MOST_METRICS = 50_000  # Bytes; a comment has at most 65535.
_SEAL = re.compile(
    rb"spectral-checkpoint 2 (\{.*\}) ([0-9a-f]{8}) "
    rb"(sha256 (?=[0-9a-f]{64} )|xxh3_128 (?=[0-9a-f]{32} ))([0-9a-f]+) \d{5}"
)
_SEAL_OF_FORMAT_1 = re.compile(rb"spectral-checkpoint 1 sequence (\d{20}) sha256 ([0-9a-f]{64})")
_LENGTH_OF_FORMAT_1 = 31 + 20 + 8 + 64


class DamagedCheckpointError(UserError):
    """A checkpoint file that is not what was written, or never was one of ours."""


class Digest(Protocol):
    """A hash that is being computed."""

    def update(self, data: Any, /) -> None:
        """Go on with these bytes."""

    def hexdigest(self) -> str:
        """The hash so far."""


@dataclass(frozen=True)
class Facts:
    """What a seal tells of a checkpoint.

    Attributes:
        sequence: orders the files of a folder by the time of writing, which neither the step (a run may go back) nor
            the file's clock does.
        step: number of optimizer steps done; None in files of format 1.
        timestamp: when it was saved, as the journal writes it; empty in files of format 1.
        best: 0, or how many checkpoints had been called the best, this one included.
        metrics: what the model reached at this step.
    """

    sequence: int
    step: int | None = None
    timestamp: str = ""
    best: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Seal:
    """A seal as found at the end of a file.

    Attributes:
        facts: what it tells.
        size: bytes of the ZIP before the seal.
        algorithm: of the digest.
        digest: in hexadecimal.
        covered: bytes that the digest is of, from the beginning of the file.
    """

    facts: Facts
    size: int
    algorithm: str
    digest: str
    covered: int


def fastest() -> str:
    """The algorithm that new files are sealed with."""
    return "xxh3_128" if find_spec("xxhash") else "sha256"


def digest(algorithm: str, path: Path | None = None) -> Digest:
    """A new digest.

    Args:
        algorithm: its name.
        path: the file that needs it, for the message.

    Raises:
        UserError: it takes a package that is not installed.
    """
    if algorithm == "sha256":
        return hashlib.sha256()
    try:
        new: Digest = importlib.import_module("xxhash").xxh3_128()
    except ImportError:
        raise UserError(
            f"{path or 'checkpoint'}: is sealed with {algorithm}, which takes the package xxhash; "
            f"pip install 'spectral-mlflow[{EXTRA}]' (in a clone: pip install -e '.[{EXTRA}]')"
        ) from None
    return new


class SealingWriter:
    """A file for ``torch.save`` to write into, which ends up with a seal.

    Bytes are hashed on their way, once. The last ones are held back, because the end record of the ZIP has the length
    of its comment. What the disk refuses is kept until `finish`: an exception would have to pass through torch's C++.
    """

    def __init__(self, file: BinaryIO, algorithm: str | None = None) -> None:
        self._file = file
        self._algorithm = algorithm or fastest()
        self._digest = digest(self._algorithm)
        self._held = b""
        self._size = 0
        self._failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Take the next bytes."""
        view = memoryview(data).cast("B")
        if len(view) < _END_RECORD:
            joined = self._held + bytes(view)
            self._emit(memoryview(joined)[:-_END_RECORD])
            self._held = joined[-_END_RECORD:]
        else:
            self._emit(memoryview(self._held))
            self._emit(view[:-_END_RECORD])
            self._held = bytes(view[-_END_RECORD:])
        return len(view)

    def flush(self) -> None:
        """Nothing yet: `finish` does."""

    def finish(self, facts: Facts) -> Seal:
        """Put the seal on.

        Raises:
            OSError: the disk has refused something.
        """
        size = self._size + _END_RECORD
        told = _encoded(facts, size)
        text = b"spectral-checkpoint 2 %s %08x %s " % (told, zlib.crc32(told), self._algorithm.encode())
        length = len(text) + len(self._digest.hexdigest()) + 6
        self._emit(memoryview(self._held[:-2] + length.to_bytes(2, "little") + text))
        value, covered = self._digest.hexdigest(), self._size
        self._emit(memoryview(f"{value} {length:05d}".encode()))
        if self._failure is None:
            self._file.flush()
            return Seal(facts, size, self._algorithm, value, covered)
        raise self._failure

    def _emit(self, view: memoryview) -> None:
        try:
            for start in range(0, len(view) if self._failure is None else 0, BLOCK):
                block = view[start : start + BLOCK]
                self._digest.update(block)
                self._file.write(block)
                self._size += len(block)
        except OSError as failure:
            self._failure = failure


def _encoded(facts: Facts, size: int) -> bytes:
    record = {"sequence": facts.sequence, "step": facts.step, "size": size, "timestamp": facts.timestamp}
    return journal.encode({**record, "best": facts.best, "metrics": _fitting(facts.metrics)}).rstrip(b"\n")


def _fitting(metrics: Mapping[str, float]) -> dict[str, float]:
    """The first metrics for which a comment has room, numbers only."""
    kept: dict[str, float] = {}
    room = _MOST_METRICS
    for name, value in metrics.items():
        room -= 2 * len(json.dumps(name)) + 60  # At most: the name stands twice where the value is not finite.
        if room >= 0 and isinstance(value, (int, float)):
            kept[name] = value
    return kept


def find(file: BinaryIO) -> Seal | None:
    """The seal at the end of a file; None where there is none."""
    size = os.fstat(file.fileno()).st_size
    found = _of_format_2(_last(file, size, 5), file, size)
    if found is None and (match := _SEAL_OF_FORMAT_1.fullmatch(_last(file, size, _LENGTH_OF_FORMAT_1))):
        facts = Facts(int(match[1]))
        found = Seal(facts, size - _LENGTH_OF_FORMAT_1, "sha256", match[2].decode(), size - 64)
    return found


def _last(file: BinaryIO, size: int, length: int) -> bytes:
    file.seek(max(0, size - length))
    return file.read(length)


def _of_format_2(length: bytes, file: BinaryIO, size: int) -> Seal | None:
    if not length.isdigit() or not (match := _SEAL.fullmatch(_last(file, size, int(length)))):
        return None
    if zlib.crc32(match[1]) != int(match[2], 16):
        return None
    try:
        known = journal.decode(match[1])
        facts = Facts(known["sequence"], known["step"], known["timestamp"], known["best"], known["metrics"])
        value = match[4].decode()
        return Seal(facts, known["size"], match[3].decode().strip(), value, size - len(value) - 6)
    except (ValueError, LookupError, TypeError, AttributeError):  # A bit of it has changed.
        return None


def prove(path: Path) -> Seal:
    """Check a file against its digest, without unpacking it.

    Raises:
        DamagedCheckpointError: they do not agree, or the file cannot be read.
        UserError: the digest takes a package that is not installed.
    """
    try:
        with path.open("rb") as file:
            return prove_open(file, path)
    except OSError as failure:
        raise DamagedCheckpointError(f"{path}: cannot be read ({failure.strerror})") from None


def prove_open(file: BinaryIO, path: Path) -> Seal:
    """As `prove`, for a file that is open."""
    seal = find(file)
    if seal is None:
        raise DamagedCheckpointError(f"{path}: has no seal; it was cut, or not written by this package")
    computed = digest(seal.algorithm, path)
    file.seek(0)
    remaining = seal.covered
    while remaining > 0 and (block := file.read(min(remaining, BLOCK))):
        computed.update(block)
        remaining -= len(block)
    if computed.hexdigest() != seal.digest:
        raise DamagedCheckpointError(f"{path}: does not agree with its digest")
    return seal
