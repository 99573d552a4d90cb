"""Waiting: what comes in time comes, what does not is given up."""

import threading
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow.data import waiting


@given(count=st.integers(0, 40), ahead=st.integers(1, 8))
def test_items_arrive_in_their_order(count: int, ahead: int) -> None:
    """Through the thread comes what the generator yields, and nothing else."""

    def items() -> Generator[int]:
        yield from range(count)

    assert list(waiting.each(items, 60, ahead)) == list(range(count))


def test_no_more_is_made_than_was_asked_for() -> None:
    """Besides what was taken only so many items are made ahead, and the generator is closed with its reader."""
    made, closed = [], threading.Event()

    def items() -> Generator[int]:
        try:
            for number in range(100):
                made.append(number)
                yield number
        finally:
            closed.set()

    reader = waiting.each(items, 60, ahead=3)
    assert [next(reader), next(reader)] == [0, 1]
    reader.close()
    assert closed.wait(60)
    assert len(made) <= 2 + 3 + 1


def test_a_failure_comes_out_where_it_is_waited_for() -> None:
    """Items in front of it are not lost."""

    def items() -> Generator[int]:
        yield 1
        raise OSError("gone")

    reader = waiting.each(items, 60)
    assert next(reader) == 1
    with pytest.raises(OSError, match="gone"):
        next(reader)


def test_a_time_out_is_for_each_item() -> None:
    """Who never answers is left behind."""
    over = threading.Event()
    with pytest.raises(TimeoutError, match=r"not there within 0.05 s"):
        waiting.once(over.wait, 0.05)
    over.set()
    assert waiting.once(over.is_set, 60)
