"""Times taken in turns."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.timing import Times, interleaved


class World:
    """A clock that only work moves, and who worked when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.worked: list[str] = []
        self.pace = 1.0

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def worker(self, name: str, seconds: float) -> Callable[[], None]:
        """An action that takes so long."""

        def work() -> None:
            self.now += seconds * self.pace
            self.worked.append(name)

        return work


def test_each_call_is_timed_and_the_first_is_not() -> None:
    """Every action is called once unmeasured, then as often as asked for, and each time is its own."""
    world = World()
    actions = {"fast": world.worker("fast", 0.5), "slow": world.worker("slow", 2.0)}
    times = interleaved(actions, rounds=3, calls=2, clock=world.clock)
    assert times == {"fast": Times((0.5,) * 6), "slow": Times((2.0,) * 6)}
    assert world.worked[:2] == ["fast", "slow"]
    assert len(world.worked) == 2 + 2 * 6


def test_every_round_gives_everybody_a_turn_in_another_order() -> None:
    """Calls of one turn follow each other, each action has one turn a round, and neighbours change."""
    world = World()
    names = list("abcde")
    interleaved({name: world.worker(name, 1.0) for name in names}, rounds=20, calls=2, clock=world.clock)
    calls = world.worked[5:]
    turns = calls[::2]
    assert turns == calls[1::2]
    rounds = [turns[first : first + 5] for first in range(0, 100, 5)]
    assert all(sorted(turn) == names for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 10


@given(paces=st.lists(st.floats(1, 10), min_size=3, max_size=9))
def test_a_machine_that_slows_down_does_not_change_a_ratio(paces: list[float]) -> None:
    """Where the pace changes from round to round, the ratio of medians stays what it is."""
    world = World()
    schedule = iter(paces)
    calls = 0

    def work(seconds: float) -> Callable[[], None]:
        def action() -> None:
            nonlocal calls
            if calls >= 2 and calls % 2 == 0:
                world.pace = next(schedule)
            calls += 1
            world.now += seconds * world.pace

        return action

    times = interleaved({"one": work(1.0), "three": work(3.0)}, rounds=len(paces), clock=world.clock)
    assert times["three"].median / times["one"].median == pytest.approx(3)


@given(seconds=st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30))
def test_median_lies_between_the_quartiles(seconds: list[float]) -> None:
    """Quartiles enclose the median, and all lie within the times."""
    times = Times(tuple(seconds))
    low, high = times.spread
    assert min(seconds) <= low <= times.median <= high <= max(seconds)
    assert sum(taken <= times.median for taken in seconds) >= len(seconds) / 2
