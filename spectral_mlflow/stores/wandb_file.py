"""The file in which W&B keeps an offline run, read to prove what it holds: W&B itself says nothing of a full disk.

It is a log as LevelDB writes one, of protocol buffers, behind seven bytes of its own. Blocks of 32 KiB hold
pieces of records; each piece begins with the CRC-32 of its kind and content, its length and its kind
(https://github.com/google/leveldb/blob/main/doc/log_format.md).
"""

from __future__ import annotations

import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # Chosen by the version of protobuf.

from spectral_mlflow.stores.base import StoreError

MAGIC, OWN = b":W&B", 7
BLOCK = 32768
PIECE = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
WRITING_SECONDS, LOOK_SECONDS = 10.0, 0.1


def wait(path: Path, rows: int) -> None:
    """As `check`, of a run that was finished this moment: on a busy machine W&B's service writes its end afterwards."""
    deadline = time.monotonic() + WRITING_SECONDS
    while True:
        try:
            check(path, rows)
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_SECONDS)
        else:
            return


def check(path: Path, rows: int) -> None:
    """Prove that a run is there in full.

    Args:
        path: the file of a run that was finished.
        rows: how many were logged.

    Raises:
        StoreError: it ends within a record, or lacks rows or the end of the run.
        OSError: it cannot be read.
    """
    found = Counter(Record.FromString(record).WhichOneof("record_type") for record in _records(path))
    if found["history"] != rows or not found["exit"]:
        ended = "" if found["exit"] else " and no end of the run"
        raise StoreError(f"{path.name} has {found['history']} of {rows} rows{ended}; is the disk full?")


def _records(path: Path) -> Iterator[bytes]:
    parts: list[bytes] = []
    for kind, content in _pieces(path):
        if (kind in (FULL, FIRST)) == bool(parts):
            raise _torn(path)
        parts.append(content)
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts.clear()
    if parts:
        raise _torn(path)


def _pieces(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        head = file.read(OWN)
        if not head.startswith(MAGIC):
            raise _torn(path)
        size = BLOCK - OWN
        while block := file.read(size):
            place = 0
            while len(block) - place >= PIECE.size:
                checksum, length, kind = PIECE.unpack_from(block, place)
                end = place + PIECE.size + length
                if end > len(block) or zlib.crc32(block[place + PIECE.size - 1 : end]) != checksum:
                    raise _torn(path)
                yield kind, block[place + PIECE.size : end]
                place = end
            if len(block) < size and place < len(block):  # At the end of a whole block that is padding.
                raise _torn(path)
            size = BLOCK


def _torn(path: Path) -> StoreError:
    return StoreError(f"{path.name} is torn; is the disk full?")
