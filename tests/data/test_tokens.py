"""Tokens: one sequence, however many arrays and files it lies in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow.data import batches
from spectral_mlflow.data.tokens import Tokens

sizes = st.integers(min_value=1, max_value=12)
cuts = st.lists(st.integers(0, 60), max_size=8)


def shards(length: int, cuts: list[int], dtype: type = np.uint16) -> Tokens:
    """The numbers from 0 on, cut anywhere."""
    return Tokens(*np.split(np.arange(length, dtype=dtype), sorted(cuts)))


@given(length=st.integers(0, 60), cuts=cuts, start=st.integers(-70, 70), stop=st.integers(-70, 70))
def test_slices_are_those_of_the_whole(length: int, cuts: list[int], start: int, stop: int) -> None:
    """Wherever the shards end, a slice is what it is of one tensor."""
    tokens, whole = shards(length, cuts), torch.arange(length)
    assert len(tokens) == length
    assert torch.equal(tokens[start:stop], whole[start:stop])
    assert tokens[:].dtype == torch.int64


@given(length=st.integers(13, 60), cuts=cuts, count=sizes, size=sizes, seed=st.integers(0, 9))
def test_windows_cross_the_ends_of_shards(length: int, cuts: list[int], count: int, size: int, seed: int) -> None:
    """Each row is a run of so many tokens from its start on, over as many shards as that takes."""
    starts = np.random.default_rng(seed).integers(0, length - size + 1, count)
    rows = shards(length, cuts).gather(starts, size)
    assert rows.dtype == torch.int64
    assert torch.equal(rows, torch.from_numpy(starts)[:, None] + torch.arange(size))


@given(length=st.integers(0, 60), cuts=cuts, count=st.integers(0, 70))
def test_the_first_are_the_first(length: int, cuts: list[int], count: int) -> None:
    """So many from the start, or all there are."""
    assert shards(length, cuts).first(count)[:].tolist() == list(range(length))[:count]


@pytest.mark.parametrize("cuts", [[], [4]])
def test_windows_outside_are_refused(cuts: list[int]) -> None:
    """Neither a negative start nor an end behind the last token reads something else instead."""
    for start in (-1, 8):
        with pytest.raises(IndexError, match="in 10 tokens"):
            shards(10, cuts).gather(np.array([0, start]), 3)


def test_a_step_is_refused() -> None:
    """Every second token is not a text."""
    with pytest.raises(ValueError, match="given a step of 2"):
        shards(10, [])[::2]


@given(length=st.integers(2, 60), cuts=cuts, size=sizes, count=sizes)
def test_batches_of_shards_are_those_of_the_tensor(length: int, cuts: list[int], size: int, count: int) -> None:
    """Random batches and fixed windows do not show where the tokens lie."""
    tokens, whole = shards(length, cuts), torch.arange(length)
    fixed = [batches.windows(these, block_size=size, batch_size=count) for these in (tokens, whole)]
    for ours, theirs in zip(*fixed, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    if length > size:
        ours, theirs = (
            batches.batch(these, seed=1, step=2, batch_size=count, block_size=size) for these in (tokens, whole)
        )
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_files_are_mapped_and_not_read(tmp_path: Path) -> None:
    """Files of 4 GB with tokens at their ends only are ready at once, and these tokens are there."""
    path = tmp_path / "tokens.bin"
    with path.open("wb") as file:
        file.seek(2**32 - 8)
        file.write(np.arange(1, 5, dtype=np.uint16).tobytes())
    tokens = Tokens.mapped([(path, 2**31), (path, 2**31 - 1)], np.uint16)
    assert len(tokens) == 2**32 - 1
    for _ in range(2):  # Also after the pages were given back.
        assert tokens.gather(np.array([0, 2**31 - 2, 2**32 - 4]), 3).tolist() == [[0, 0, 0], [3, 4, 0], [1, 2, 3]]
        assert tokens[2**31 - 5 : 2**31 + 1].tolist() == [0, 1, 2, 3, 4, 0]
    assert tokens.first(2**31 - 2)[-3:].tolist() == [0, 1, 2]


def test_files_that_are_too_short_are_refused(tmp_path: Path) -> None:
    """What is not there is not made up."""
    path = tmp_path / "tokens.bin"
    path.write_bytes(bytes(10))
    assert len(Tokens.mapped([(path, 5)], np.uint16)) == 5
    with pytest.raises(ValueError, match="greater than file size"):
        Tokens.mapped([(path, 6)], np.uint16)
