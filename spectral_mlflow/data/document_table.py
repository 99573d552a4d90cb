"""Which document, file and kind of document each training token is from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


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
    def of(cls, rows: list[tuple[int, int, bool]]) -> Documents:
        """A table of rows (start, file, whether augmented)."""
        starts, files, augmented = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(
            np.array(starts, dtype=np.int64), np.array(files, dtype=np.int64), np.array(augmented, dtype=np.bool_)
        )

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def number_of_files(self) -> int:
        """Different files that the documents are from."""
        return len(np.unique(self.files))
