"""Which document, file and kind of document each training token is from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

KINDS: dict[str, type[np.generic]] = {"starts": np.int64, "files": np.int64, "augmented": np.bool_}

Rows = list[tuple[int, int, bool]]  # Start, file, whether augmented.


@dataclass(frozen=True, eq=False)
class Documents:
    """The D documents of a split, in the order of their tokens. Those without a token are not among them.

    Attributes:
        starts: position of the first token of each (D,), the separator before it included; increasing.
        files: number of the file that each is from (D,).
        augmented: whether each was made of another one (D,).
    """

    starts: npt.NDArray[np.int64]
    files: npt.NDArray[np.int64]
    augmented: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Rows) -> Documents:
        """A table of rows."""
        return cls(*_columns(rows))

    @classmethod
    def mapped(cls, folder: Path, rows: int) -> Documents:
        """The first so many rows that `append` has written, without reading them.

        Raises:
            OSError: a file is not there.
            ValueError: a file has fewer rows.
        """
        if not rows:  # Nothing cannot be mapped.
            return cls.of([])
        return cls(*(np.memmap(_path(folder, name), kind, "r", shape=(rows,)) for name, kind in KINDS.items()))

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def number_of_files(self) -> int:
        """Different files that the documents are from."""
        return len(np.unique(self.files))


def append(folder: Path, place: int, rows: Rows) -> None:
    """Write rows to the disk, one file a column, from a row on; what was there behind it is written over.

    Raises:
        OSError: the disk refuses.
    """
    for name, column in zip(KINDS, _columns(rows), strict=True):
        path = _path(folder, name)
        with path.open("r+b" if place else "wb") as file:
            file.seek(place * column.itemsize)
            file.write(column.tobytes())
            file.flush()
            os.fsync(file.fileno())


def _columns(rows: Rows) -> list[npt.NDArray[Any]]:
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    return [np.array(column, kind) for column, kind in zip(columns, KINDS.values(), strict=True)]


def _path(folder: Path, name: str) -> Path:
    return folder / f"documents-{name}.bin"
