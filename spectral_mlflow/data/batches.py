"""Batches of a token sequence: random ones to train on, fixed ones to measure with.

Both are pure functions, so a resumed run sees what the uninterrupted one would have seen, and any
number of ranks can make the same batch and each take its rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


def batch(tokens: Tensor, *, seed: int, step: int, batch_size: int, block_size: int) -> tuple[Tensor, Tensor]:
    """Random windows; every start is equally likely, whatever came before.

    The starts are a counter-based stream (Philox, Salmon et al. 2011) with (seed, step) as its key.
    Its raw output is the same in every version of numpy, which numpy's ``integers`` does not promise.

    Args:
        tokens: ids (N,) int64.
        seed: in 0 .. 2^64 - 1.
        step: in 0 .. 2^64 - 1.
        batch_size: number of windows B.
        block_size: length of a window T.

    Returns:
        Inputs and targets, each (B, T) int64; a target is the token behind its input.

    Raises:
        ValueError: there are fewer than T + 1 tokens.
    """
    num_starts = len(tokens) - block_size
    if num_starts < 1:
        raise ValueError(f"a window of {block_size} and its target need {block_size + 1} tokens, given {len(tokens)}")
    stream = np.random.Philox(key=np.array([seed, step], dtype=np.uint64))
    # The remainder favours no start by more than num_starts / 2^64.
    starts = (stream.random_raw(batch_size) % np.uint64(num_starts)).astype(np.int64)
    first = torch.from_numpy(starts).to(tokens.device)
    windows = tokens.unfold(0, block_size, 1)
    return windows.index_select(0, first), windows.index_select(0, first + 1)


def windows(tokens: Tensor, *, block_size: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Fixed windows side by side, in which every token but the first is a target exactly once.

    Args:
        tokens: ids (N,) int64.
        block_size: length of a window T.
        batch_size: most windows in a batch B.

    Yields:
        Inputs and targets, each (B, T) int64, views of the tokens; fewer rows in the last batch of
        whole windows, and what is left over behind them as one shorter window (1, rest).
    """
    inputs, targets = tokens[:-1], tokens[1:]
    whole = len(targets) // block_size * block_size
    if whole:
        rows = (torch.split(part[:whole].view(-1, block_size), batch_size) for part in (inputs, targets))
        yield from zip(*rows, strict=True)
    if whole < len(targets):
        yield inputs[None, whole:], targets[None, whole:]
