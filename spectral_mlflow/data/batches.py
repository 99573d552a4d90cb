"""Batches of a token sequence: random ones to train on, fixed ones to measure with.

Both are pure functions, so a resumed run sees what the uninterrupted one would have seen, and any
number of ranks can make the same batch and each take its rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spectral_mlflow.data.tokens import Tokens


def batch(tokens: Tokens | Tensor, *, seed: int, step: int, batch_size: int, block_size: int) -> tuple[Tensor, Tensor]:
    """Random windows: those that begin at `window_starts`.

    Args:
        tokens: N ids; as a tensor (N,) int64.
        seed: in 0 .. 2^64 - 1.
        step: in 0 .. 2^64 - 1.
        batch_size: number of windows B.
        block_size: length of a window T.

    Returns:
        Inputs and targets, each (B, T) int64; a target is the token behind its input.

    Raises:
        ValueError: there are fewer than T + 1 tokens.
    """
    starts = window_starts(len(tokens), seed=seed, step=step, batch_size=batch_size, block_size=block_size)
    if isinstance(tokens, Tokens):
        rows = tokens.gather(starts, block_size + 1)
    else:
        rows = tokens.unfold(0, block_size + 1, 1).index_select(0, torch.from_numpy(starts).to(tokens.device))
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def window_starts(num_tokens: int, *, seed: int, step: int, batch_size: int, block_size: int) -> npt.NDArray[np.int64]:
    """Where the windows of a batch begin; every start is equally likely, whatever came before.

    They are a counter-based stream (Philox, Salmon et al. 2011) with (seed, step) as its key.
    Its raw output is the same in every version of numpy, which numpy's ``integers`` does not promise.

    Args:
        num_tokens: N, to choose from.
        seed: in 0 .. 2^64 - 1.
        step: in 0 .. 2^64 - 1.
        batch_size: number of windows B.
        block_size: length of a window T.

    Returns:
        Position of the first token of each window (B,).

    Raises:
        ValueError: there are fewer than T + 1 tokens.
    """
    num_starts = num_tokens - block_size
    if num_starts < 1:
        raise ValueError(f"a window of {block_size} and its target need {block_size + 1} tokens, given {num_tokens}")
    stream = np.random.Philox(key=np.array([seed, step], dtype=np.uint64))
    # The remainder favours no start by more than num_starts / 2^64.
    return (stream.random_raw(batch_size) % np.uint64(num_starts)).astype(np.int64)


def windows(tokens: Tokens | Tensor, *, block_size: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Fixed windows side by side, in which every token but the first is a target exactly once.

    Args:
        tokens: N ids; as a tensor (N,) int64.
        block_size: length of a window T.
        batch_size: most windows in a batch B.

    Yields:
        Inputs and targets, each (B, T) int64, views of one stretch of the tokens; fewer rows in the last
        batch of whole windows, and what is left over behind them as one shorter window (1, rest).
    """
    whole = max(0, len(tokens) - 1) // block_size
    for first in range(0, whole, batch_size):
        rows = min(batch_size, whole - first)
        part = tokens[first * block_size : (first + rows) * block_size + 1]
        yield part[:-1].view(rows, block_size), part[1:].view(rows, block_size)
    if whole * block_size < len(tokens) - 1:
        part = tokens[whole * block_size :]
        yield part[None, :-1], part[None, 1:]


def num_windows(num_tokens: int, block_size: int) -> int:
    """How many windows `windows` makes of so many tokens, a shorter one at the end included."""
    return -(-max(0, num_tokens - 1) // block_size)
