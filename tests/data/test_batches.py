"""Batches: pure, uniform, shifted by one; windows: everything once."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow.data import batches

NUMBERS = torch.arange(100_000)  # A token is its own position, so windows show where they start.

GOLDEN = [90947, 22843, 32362, 9050, 28580, 32821]

counts = st.integers(min_value=0, max_value=2**64 - 1)
sizes = st.integers(min_value=1, max_value=20)


@given(seed=counts, step=counts, batch_size=sizes, block_size=sizes)
def test_a_batch_is_a_pure_function(seed: int, step: int, batch_size: int, block_size: int) -> None:
    """Equal arguments give equal batches, and the global generators neither matter nor move."""
    arguments = {"seed": seed, "step": step, "batch_size": batch_size, "block_size": block_size}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = batches.batch(NUMBERS, **arguments)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    torch.rand(3)
    second = batches.batch(NUMBERS, **arguments)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@given(seed=counts, step=counts, batch_size=sizes, block_size=sizes)
def test_targets_are_inputs_shifted_by_one(seed: int, step: int, batch_size: int, block_size: int) -> None:
    """Inputs are B runs of T neighbouring tokens, and each target is the token behind its input."""
    inputs, targets = batches.batch(NUMBERS, seed=seed, step=step, batch_size=batch_size, block_size=block_size)
    assert inputs.shape == targets.shape == (batch_size, block_size)
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.is_contiguous()
    assert targets.is_contiguous()
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(block_size))
    assert torch.equal(targets, inputs + 1)


@given(pairs=st.lists(st.tuples(counts, counts), min_size=2, max_size=2, unique=True))
def test_different_seeds_or_steps_give_different_batches(pairs: list[tuple[int, int]]) -> None:
    """No window of one (seed, step) comes again, in its place, in another."""
    (one, _), (other, _) = (
        batches.batch(NUMBERS, seed=seed, step=step, batch_size=16, block_size=4) for seed, step in pairs
    )
    assert (one[:, 0] == other[:, 0]).sum() <= 2  # By chance 16 places agree in 0.00016 on average.


def test_successive_steps_share_no_windows() -> None:
    """The streams of neighbouring steps do not overlap, as counters that are too close would."""
    starts = torch.cat(
        [batches.batch(NUMBERS, seed=0, step=step, batch_size=64, block_size=1)[0][:, 0] for step in range(20)]
    )
    assert len(starts.unique()) > 1280 * 0.98


def test_a_larger_batch_begins_with_the_smaller_one() -> None:
    """The first rows do not depend on how many follow."""
    large, _ = batches.batch(NUMBERS, seed=3, step=7, batch_size=12, block_size=5)
    small, _ = batches.batch(NUMBERS, seed=3, step=7, batch_size=4, block_size=5)
    assert torch.equal(large[:4], small)


def test_batches_are_the_same_everywhere() -> None:
    """These starts were drawn once; any machine and any later version draws them again."""
    inputs, _ = batches.batch(NUMBERS, seed=42, step=1, batch_size=6, block_size=1)
    assert inputs[:, 0].tolist() == GOLDEN


def test_every_start_is_equally_likely() -> None:
    """Over 2,000 batches the starts pass a chi-squared test, first and last one included."""
    tokens, block_size = torch.arange(13), 3
    drawn = [batches.batch(tokens, seed=0, step=step, batch_size=10, block_size=block_size)[0] for step in range(2000)]
    counted = torch.bincount(torch.cat(drawn)[:, 0], minlength=10).double()
    assert len(counted) == 10
    chi_squared = ((counted - 2000) ** 2 / 2000).sum()
    assert chi_squared < 27.9  # 9 degrees of freedom, p = 0.001


def test_the_smallest_sequence_has_one_window() -> None:
    """T + 1 tokens are enough, and T are refused with both numbers."""
    inputs, targets = batches.batch(torch.arange(4), seed=0, step=0, batch_size=2, block_size=3)
    assert inputs.tolist() == [[0, 1, 2]] * 2
    assert targets.tolist() == [[1, 2, 3]] * 2
    with pytest.raises(ValueError, match="need 4 tokens, given 3"):
        batches.batch(torch.arange(3), seed=0, step=0, batch_size=2, block_size=3)


@given(length=st.integers(min_value=1, max_value=300), block_size=sizes, batch_size=sizes)
def test_windows_cover_every_target_exactly_once(length: int, block_size: int, batch_size: int) -> None:
    """Laid side by side, inputs are all tokens but the last and targets all but the first."""
    tokens = torch.arange(length)
    found = list(batches.windows(tokens, block_size=block_size, batch_size=batch_size))
    inputs = torch.cat([torch.empty(0, dtype=torch.int64), *(inputs.flatten() for inputs, _ in found)])
    targets = torch.cat([torch.empty(0, dtype=torch.int64), *(targets.flatten() for _, targets in found)])
    assert torch.equal(inputs, tokens[:-1])
    assert torch.equal(targets, tokens[1:])


@given(length=st.integers(min_value=2, max_value=300), block_size=sizes, batch_size=sizes)
def test_only_the_last_window_is_shorter(length: int, block_size: int, batch_size: int) -> None:
    """Whole windows come in full batches, then in one smaller batch, then the rest alone."""
    shapes = [
        tuple(x.shape) for x, _ in batches.windows(torch.arange(length), block_size=block_size, batch_size=batch_size)
    ]
    whole, rest = divmod(length - 1, block_size)
    full, fewer = divmod(whole, batch_size)
    expected = [(batch_size, block_size)] * full + [(fewer, block_size)] * (fewer > 0) + [(1, rest)] * (rest > 0)
    assert shapes == expected
