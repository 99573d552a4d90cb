"""Smaller checkpoints for an archive or an upload: bytes shuffled, then zstd.

The bytes of neighbouring numbers are alike in their exponents and not in their fractions. Shuffling puts the first
bytes of many numbers together, then all second ones, and so on (as Blosc and HDF5 do), which leaves zstd long runs.

The file is a line that names its form, and one zstd frame of blocks of 1 MiB, each shuffled on its own. Decompressed,
the checkpoint is what it was to the last byte, and proves itself by its seal.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from spectral_mlflow.errors import UserError
from spectral_mlflow.files import whole_file
from spectral_mlflow.monitoring.seal import EXTRA, DamagedCheckpointError, prove

SUFFIX = ".szst"

_HEADER = b"spectral-shuffled 1\n"
_BLOCK = 1 << 20
_WIDTH = 4  # Bytes of a float32, which most of a checkpoint is made of; torch aligns its tensors to 64.


def compress_checkpoint(path: Path, target: Path, *, level: int = 1) -> int:
    """Write a compressed copy of a checkpoint, once it has proved whole.

    Args:
        path: the checkpoint.
        target: the copy, replaced if it is there; by custom its name ends in `SUFFIX`.
        level: of zstd.

    Returns:
        Bytes of the copy.

    Raises:
        DamagedCheckpointError: the checkpoint is damaged.
        UserError: zstandard is not installed.
        OSError: the disk refuses; nothing is left behind.
    """
    zstd = _zstandard()
    prove(path)

    def fill(file: BinaryIO) -> None:
        file.write(_HEADER)
        compressor = zstd.ZstdCompressor(level=level, write_checksum=True)
        with path.open("rb") as source, compressor.stream_writer(file, closefd=False) as packed:
            for block in _blocks(source):
                packed.write(_shuffled(block))

    _write(target, fill)
    return target.stat().st_size


def decompress_checkpoint(path: Path, target: Path) -> None:
    """Write the checkpoint that a compressed copy was made of, to the last byte.

    Args:
        path: the copy.
        target: the checkpoint, replaced if it is there, but only by one that proves whole.

    Raises:
        DamagedCheckpointError: the copy is damaged.
        UserError: it is none, or zstandard is not installed.
        OSError: the disk refuses; nothing is left behind.
    """
    zstd = _zstandard()

    def fill(file: BinaryIO) -> None:
        with path.open("rb") as source:
            if source.read(len(_HEADER)) != _HEADER:
                raise UserError(f"{path}: is not a compressed checkpoint; spectral export makes them")
            try:
                with zstd.ZstdDecompressor().stream_reader(source) as unpacked:
                    for block in _blocks(unpacked):
                        file.write(_unshuffled(block))
            except zstd.ZstdError:
                raise DamagedCheckpointError(f"{path}: cannot be decompressed") from None

    def check(written: Path) -> None:
        try:
            prove(written)
        except DamagedCheckpointError:
            raise DamagedCheckpointError(f"{path}: does not hold a whole checkpoint") from None

    _write(target, fill, check)


def _zstandard() -> Any:
    try:
        return importlib.import_module("zstandard")
    except ImportError:
        raise UserError(
            "compressed checkpoints take the package zstandard; "
            f"pip install 'spectral-mlflow[{EXTRA}]' (in a clone: pip install -e '.[{EXTRA}]')"
        ) from None


def _blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        while len(block) < _BLOCK and (more := file.read(_BLOCK - len(block))):
            block += more  # A stream may give less than it has.
        yield block


def _shuffled(block: bytes) -> bytes:
    whole = len(block) - len(block) % _WIDTH
    return np.frombuffer(block[:whole], np.uint8).reshape(-1, _WIDTH).T.tobytes() + block[whole:]


def _unshuffled(block: bytes) -> bytes:
    whole = len(block) - len(block) % _WIDTH
    return np.frombuffer(block[:whole], np.uint8).reshape(_WIDTH, -1).T.tobytes() + block[whole:]


def _write(target: Path, fill: Callable[[BinaryIO], None], check: Callable[[Path], object] = lambda _: None) -> None:
    """Write a file that is whole and durable under its name, or not at all."""
    with whole_file(target) as file:
        fill(file)
        file.flush()
        check(Path(file.name))
