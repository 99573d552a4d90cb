"""DataUsage: how much of the corpus a run has seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Positions = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class DataUsage:
    """Counts files, documents, tokens and augmented samples, each file and document once.

    A batch takes time that grows with its own size and the logarithm of the corpus, and no memory: one bit for each
    file and document says whether it was seen.

    Attributes:
        tokens: seen so far, again and again.
        documents: different ones seen.
        files: different ones seen.
        augmented_files: those of which something augmented was seen.
        augmented: samples that began in an augmented document.
        cache_hits: splits that were read from the cache of tokens.
    """

    COUNTS = ("tokens", "documents", "files", "augmented_files", "augmented", "cache_hits")

    def __init__(
        self,
        starts: Positions | None = None,
        files: Positions | None = None,
        augmented: Flags | None = None,
        *,
        num_tokens: int = 0,
        cache_hits: int = 0,
    ) -> None:
        """Nothing is seen yet.

        Args:
            starts: (D,) ascending; the token at which each document begins; None: documents are not known.
            files: (D,) the file that each document is from, numbered from 0.
            augmented: (D,) whether a document is another one in changed form.
            num_tokens: tokens of the corpus, for the epochs; 0: not known.
            cache_hits: as above.
        """
        none = np.zeros(0, np.int64)
        self._starts = none if starts is None else starts
        self._files = none if files is None else files
        self._augmented = np.zeros(len(self._starts), bool) if augmented is None else augmented
        self._changed = bool(self._augmented.any())
        self._num_tokens = num_tokens
        self._seen = np.zeros(len(self._starts), bool)
        count = int(self._files.max()) + 1 if len(self._files) else 0
        self._seen_files, self._seen_augmented = np.zeros(count, bool), np.zeros(count, bool)
        self.tokens = self.documents = self.files = self.augmented_files = self.augmented = 0
        self.cache_hits = cache_hits

    def windows(self, starts: Positions, length: int) -> None:
        """Count a batch of windows of the corpus.

        Args:
            starts: (B,) the first token of each window.
            length: T, tokens of a window.
        """
        self.tokens += len(starts) * length
        if self.documents >= len(self._starts) and not self._changed:
            return  # None is known, or each was seen.
        first = np.searchsorted(self._starts, starts, "right") - 1
        last = np.searchsorted(self._starts, starts + (length - 1), "right") - 1
        self.augmented += int(np.count_nonzero(self._augmented[first]))
        touched = _ranges(first, last)
        new = touched[~self._seen[touched]]
        if len(new):
            self._see(np.unique(new))

    def add(
        self, *, files: int = 0, documents: int = 0, tokens: int = 0, augmented: int = 0, cache_hits: int = 0
    ) -> None:
        """Count what a loop with data of its own has seen since the last call.

        Args:
            files: new ones.
            documents: new ones.
            tokens: or samples, or whatever the loop counts its data in.
            augmented: samples in changed form; of `files` as many count as augmented.
            cache_hits: samples or files that came from a cache.
        """
        self.files += files
        self.documents += documents
        self.tokens += tokens
        self.augmented += augmented
        self.augmented_files += min(augmented, files)
        self.cache_hits += cache_hits

    def metrics(self) -> dict[str, float]:
        """What is known, by the names of the journal."""
        found: dict[str, float] = {"data/tokens": float(self.tokens)}
        if self._num_tokens:
            found["data/epochs"] = self.tokens / self._num_tokens
        for name in ("files", "documents", "augmented", "cache_hits"):
            if value := getattr(self, name):
                found[f"data/{name}"] = float(value)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Counts, and the bits of what was seen."""
        bits = {name: torch.from_numpy(np.packbits(flags)) for name, flags in self._flags().items()}
        return {"counts": {name: getattr(self, name) for name in self.COUNTS}, "seen": bits}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name in self.COUNTS:
            setattr(self, name, state["counts"][name])
        for name, flags in self._flags().items():
            bits = state["seen"][name].numpy()
            if len(bits):  # Else it was not known then which documents there are.
                flags[:] = np.unpackbits(bits, count=len(flags)).astype(bool)

    def _see(self, documents: Positions) -> None:
        self._seen[documents] = True
        self.documents += len(documents)
        self.files += _mark(self._seen_files, self._files[documents])
        self.augmented_files += _mark(self._seen_augmented, self._files[documents[self._augmented[documents]]])

    def _flags(self) -> dict[str, Flags]:
        return {"documents": self._seen, "files": self._seen_files, "augmented_files": self._seen_augmented}


def _ranges(first: Positions, last: Positions) -> Positions:
    """All of first[0]..last[0], first[1]..last[1], and so on."""
    lengths = last - first + 1
    ends = np.cumsum(lengths)
    ranges: Positions = np.arange(ends[-1]) + np.repeat(first - (ends - lengths), lengths)
    return ranges


def _mark(flags: Flags, places: Positions) -> int:
    """Set flags; returns how many were not set before."""
    new = np.unique(places[~flags[places]])
    flags[new] = True
    return len(new)
