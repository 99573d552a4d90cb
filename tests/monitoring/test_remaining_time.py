"""The remaining time of runs in simulated time, against what it turns out to be."""

import io
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectral_mlflow.monitoring import Progress
from spectral_mlflow.monitoring.remaining_time import Pause

AFTER = ("checkpoint", "plots")  # What the loop does once it has told of the step.


class Clock:
    """Time that passes when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds so far."""
        return self.now


@dataclass(frozen=True)
class Schedule:
    """A run in simulated time.

    Attributes:
        steps: of the run.
        seconds: of a step.
        first: how many times as long the first three steps take, and the first pause of a kind that soon has others.
        drift: by how much a step is slower at the end than at the beginning.
        pauses: interval and seconds of each kind.
        worth: how many steps an evaluation is expected to take before there was one.
        guess: seconds that a set of plots is expected to take before there was one.
    """

    steps: int
    seconds: float
    first: float
    drift: float
    pauses: dict[str, tuple[int, float]]
    worth: float
    guess: float = 0.0

    def remaining(self) -> list[tuple[float, float]]:
        """At each step from a tenth of the run on: the remaining time as it is told, and as it turns out to be."""
        clock = Clock()
        known = {
            kind: Pause(
                interval,
                steps_worth=self.worth if kind == "evaluation" else 0.0,
                seconds=self.guess if kind == "plots" else 0.0,
                after=kind in AFTER,
            )
            for kind, (interval, _) in self.pauses.items()
        }
        progress = Progress(self.steps, stream=io.StringIO(), clock=clock, pauses=known)
        told: list[tuple[float, float]] = []
        done: set[str] = set()

        def pause(step: int, kind: str) -> None:
            interval, seconds = self.pauses[kind]
            if step % interval == 0 or step == self.steps:
                with progress.aside(kind):
                    slow = kind not in done and interval <= self.steps // 20
                    clock.now += seconds * (self.first if slow else 1)
                done.add(kind)

        for step in range(1, self.steps + 1):
            clock.now += self.seconds * (self.first if step <= 3 else 1) * (1 + self.drift * step / self.steps)
            for kind in sorted(self.pauses.keys() - AFTER):
                pause(step, kind)
            progress.update(step)
            eta = progress.eta_seconds()
            assert eta is not None
            told.append((eta, clock.now))
            for kind in sorted(self.pauses.keys() & AFTER):
                pause(step, kind)
        return [(eta, clock.now - now) for eta, now in told[self.steps // 10 :]]


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Runs whose first pauses come within a tenth, or take as long as expected."""
    steps, seconds = draw(st.integers(200, 1000)), draw(st.floats(0.01, 10))
    pauses = {
        "evaluation": (draw(st.integers(5, steps // 2)), seconds * draw(st.floats(0, 30))),
        "checkpoint": (draw(st.integers(5, steps // 10)), seconds * draw(st.floats(0, 3))),
        "plots": (draw(st.integers(steps // 20, steps // 4)), seconds * draw(st.floats(0, 100))),
    }
    worth, guess = pauses["evaluation"][1] / seconds, pauses["plots"][1] * draw(st.floats(0.9, 1.1))
    return Schedule(steps, seconds, draw(st.floats(1, 3)), draw(st.floats(-0.1, 0.1)), pauses, worth, guess)


@given(schedule=schedules())
@settings(max_examples=40, deadline=None)
def test_remaining_time_is_right_from_a_tenth_of_the_run_on(schedule: Schedule) -> None:
    """Whatever the pauses and their intervals, slow first steps and speeds that drift: within 15 %."""
    whole = schedule.remaining()[0][1]
    for told, true in schedule.remaining():
        assert abs(told - true) <= 0.15 * true + 0.02 * whole  # Near the end a single pause is more than 15 %.


def test_pauses_are_no_part_of_the_step_rate() -> None:
    """A run with an evaluation of 50 steps' length every 100 steps is right just before and just after it."""
    schedule = Schedule(1000, 1.0, 1.0, 0.0, {"evaluation": (100, 50.0)}, 50.0)
    assert all(told == pytest.approx(true) for told, true in schedule.remaining())


@given(interval=st.integers(2, 100), phase=st.integers(0, 99), seconds=st.floats(0, 100))
@settings(max_examples=40, deadline=None)
def test_pauses_of_which_nobody_knows_when_are_known_by_their_intervals(
    interval: int, phase: int, seconds: float
) -> None:
    """Whatever a loop does at a steady interval is right to the second once there were two, near it and in between."""
    clock = Clock()
    progress = Progress(400, stream=io.StringIO(), clock=clock)
    told: list[tuple[float | None, float]] = []
    for step in range(1, 401):
        clock.now += 1
        if step % interval == phase % interval:
            with progress.aside("evaluation"):
                clock.now += seconds
        progress.update(step)
        told.append((progress.eta_seconds(), clock.now))
    for eta, now in told[2 * interval :]:
        assert eta == pytest.approx(clock.now - now)


def test_pauses_that_stop_are_expected_less_and_less() -> None:
    """What a loop has not done for long is not expected as often as before."""
    clock = Clock()
    progress = Progress(400, stream=io.StringIO(), clock=clock)
    etas = []
    for step in range(1, 301):
        clock.now += 1
        if step % 10 == 0 and step <= 100:
            with progress.aside("evaluation"):
                clock.now += 5
        progress.update(step)
        etas.append(progress.eta_seconds())
    assert (etas[99], etas[299]) == (300 + 30 * 5, 100 + 1 * 5)


def test_pauses_of_which_nobody_knows_when_go_on_as_they_were() -> None:
    """What a loop does now and then, without having said how often, is expected to go on as it was."""
    clock = Clock()
    progress = Progress(400, stream=io.StringIO(), clock=clock)
    for step in range(1, 201):
        clock.now += 1
        if step % 10 == 0:
            with progress.aside("evaluation"):
                clock.now += 5
        progress.update(step)
    assert progress.eta_seconds() == pytest.approx(200 * 1.5)
