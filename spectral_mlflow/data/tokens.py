"""Token ids one after the other, wherever they are: in memory or in files that only the parts asked for are read of."""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Shard = npt.NDArray[np.integer[Any]]


class Tokens:
    """A sequence of N token ids over any number of shards, which are arrays in memory or mapped from files."""

    def __init__(self, *shards: Shard, maps: Iterable[mmap.mmap] = ()) -> None:
        """Lay shards end to end.

        Args:
            shards: ids (N_1,), (N_2,), ... of any integer type.
            maps: what of them are files.
        """
        self._shards = [shard for shard in shards if len(shard)]
        self._ends = list(accumulate(map(len, self._shards)))
        self._maps = tuple(maps)

    @classmethod
    def mapped(cls, files: Iterable[tuple[Path, int]], kind: type[np.integer[Any]]) -> Tokens:
        """Lay files end to end, without reading them.

        Args:
            files: of nothing but ids, each with the number of ids of it that count, at least one.
            kind: of the ids.

        Raises:
            OSError: a file is not there.
            ValueError: a file has fewer ids.
        """
        maps = [_map(path, length * np.dtype(kind).itemsize) for path, length in files]
        return cls(*(np.frombuffer(memory, kind) for memory in maps), maps=maps)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, where: slice) -> Tensor:
        """The ids of a slice without a step, (stop - start,) int64."""
        start, stop, step = where.indices(len(self))
        if step != 1:
            raise ValueError(f"tokens come one after the other, given a step of {step}")
        ids = np.empty(max(0, stop - start), dtype=np.int64)
        self._read(start, ids)
        self._let_go()
        return torch.from_numpy(ids)

    def gather(self, starts: npt.NDArray[np.int64], length: int) -> Tensor:
        """Windows from anywhere.

        Args:
            starts: position of the first token of each window (B,).
            length: of every window.

        Returns:
            Ids (B, length) int64.

        Raises:
            IndexError: a window is not wholly inside of the sequence.
        """
        if len(starts) and not 0 <= starts.min() <= starts.max() <= len(self) - length:
            raise IndexError(f"windows of {length} from {starts.min()} .. {starts.max()} in {len(self)} tokens")
        if len(self._shards) == 1:
            [shard] = self._shards
            rows = shard[starts[:, None] + np.arange(length)].astype(np.int64)
        else:
            rows = np.empty((len(starts), length), dtype=np.int64)
            for row, start in zip(rows, starts.tolist(), strict=True):
                self._read(start, row)
        self._let_go()
        return torch.from_numpy(rows)

    def first(self, count: int) -> Tokens:
        """The first so many of them, or all where there are fewer; nothing is copied."""
        begins = (end - len(shard) for end, shard in zip(self._ends, self._shards, strict=True))
        shards = (shard[: max(0, count - begin)] for begin, shard in zip(begins, self._shards, strict=True))
        return Tokens(*shards, maps=self._maps)

    def _read(self, start: int, into: npt.NDArray[np.int64]) -> None:
        """Fill an array with the tokens from a position on, one copy a shard that they lie in."""
        number, filled = bisect_right(self._ends, start), 0
        while filled < len(into):
            shard = self._shards[number]
            offset = start + filled - self._ends[number] + len(shard)
            part = shard[offset : offset + len(into) - filled]
            into[filled : filled + len(part)] = part
            number, filled = number + 1, filled + len(part)

    def _let_go(self) -> None:
        """Give the pages that were looked at back to the system: after some epochs they would be the whole corpus."""
        for memory in self._maps:
            memory.madvise(mmap.MADV_DONTNEED)


def _map(path: Path, size: int) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
