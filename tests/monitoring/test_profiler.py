"""CodeProfiler: named sections in each other, their own and whole time, and what to do about them."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow.monitoring.profiler import MOST_SECTIONS, OTHERS, CodeProfiler, Row


class Clock:
    """Nanoseconds that pass when a test says so."""

    now = 0

    def __call__(self) -> int:
        """Nanoseconds so far."""
        return self.now

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += round(seconds * 1e9)


@pytest.fixture
def clock() -> Clock:
    """Time at its beginning."""
    return Clock()


def found(profiler: CodeProfiler) -> dict[str, Row]:
    """The rows by name."""
    return {row.name: row for row in profiler.rows()}


def test_time_of_an_inner_section_is_not_the_outer_ones_own(clock: Clock) -> None:
    """Own times add up to the whole; the total of a section has those inside it."""
    profiler = CodeProfiler(clock=clock)
    for _ in range(3):
        with profiler.section("step"):
            clock.wait(1)
            with profiler.section("forward"):
                clock.wait(2)
            with profiler.section("backward"):
                clock.wait(4)
    rows = found(profiler)
    assert [(rows[name].calls, rows[name].total, rows[name].own) for name in ("step", "forward", "backward")] == [
        (3, 21.0, 3.0), (3, 6.0, 6.0), (3, 12.0, 12.0),
    ]  # fmt: skip
    assert profiler.rows()[0].name == "backward"
    assert profiler.seconds("forward", "backward") == 18.0


def test_a_section_inside_itself_counts_once(clock: Clock) -> None:
    """A recursion takes as long as its outermost call, whatever is between."""
    profiler = CodeProfiler(clock=clock)
    with profiler.section("walk"):
        clock.wait(1)
        with profiler.section("other"), profiler.section("walk"):
            clock.wait(2)
    rows = found(profiler)
    assert (rows["walk"].calls, rows["walk"].total) == (1, 3.0)
    assert rows["other"].total == 2.0


def test_an_exception_leaves_the_sections(clock: Clock) -> None:
    """What raises is counted, and what follows is no part of it."""
    profiler = CodeProfiler(clock=clock)

    def fail() -> None:
        with profiler.section("outer"), profiler.section("inner"):
            clock.wait(1)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        fail()
    with profiler.section("after"):
        clock.wait(1)
    assert {name: row.own for name, row in found(profiler).items()} == {"outer": 0.0, "inner": 1.0, "after": 1.0}


Tree = list[tuple[str, "Tree"]]
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.just([]), lambda inside: st.lists(st.tuples(st.sampled_from("abcd"), inside), max_size=3), max_leaves=15
)


@given(tree=TREES)
def test_own_times_add_up_to_all_that_passed(tree: Tree) -> None:
    """However sections lie in each other, themselves too, no moment inside them is lost or counted twice."""
    clock = Clock()
    profiler = CodeProfiler(clock=clock)

    def walk(tree: Tree) -> None:
        for name, inside in tree:
            with profiler.section(name):
                clock.wait(1)
                walk(inside)

    walk(tree)
    rows = profiler.rows()
    assert sum(row.own for row in rows) == clock.now / 1e9
    assert all(0 <= row.own <= row.total for row in rows)


def test_growth_of_memory_is_the_largest_of_a_call(clock: Clock) -> None:
    """A call that leaves more memory in use is remembered, a later one that frees some is not."""
    used = iter((100, 150, 150, 400, 400, 100))
    profiler = CodeProfiler(clock=clock, memory=lambda: next(used))
    for _ in range(3):
        with profiler.section("forward"):
            pass
    assert found(profiler)["forward"].growth == 250


def test_memory_that_cannot_be_told_stops_no_program(clock: Clock) -> None:
    """It is asked for no more, the time is measured all the same, and the report says what is missing."""
    answers = iter([100])
    profiler = CodeProfiler(clock=clock, memory=lambda: next(answers))
    for _ in range(2):
        with profiler.section("forward"):
            clock.wait(1)
    assert (found(profiler)["forward"].growth, found(profiler)["forward"].total) == (0, 2.0)
    assert profiler.advice() == ["growth of memory is not known: StopIteration: "]


def test_the_cost_of_tracking_is_a_line(clock: Clock) -> None:
    """What watching costs is added up under the table."""
    profiler = CodeProfiler(clock=clock, memory=lambda: 0)
    for name, taken in (("forward", 6.0), ("logging", 1.0), ("monitors", 0.5), ("usage", 0.25), ("system", 0.25)):
        profiler.add(name, taken)
    assert "\ntracking (logging + monitors + usage + system): 2.000 s, 25.0%\n" in profiler.markdown()


def test_names_are_bounded(clock: Clock) -> None:
    """However many names a program makes up, the profile does not grow with them."""
    profiler = CodeProfiler(clock=clock, memory=lambda: 0)
    for number in range(10 * MOST_SECTIONS):
        with profiler.section(f"step {number}"):
            clock.wait(1)
    rows = found(profiler)
    assert len(rows) == MOST_SECTIONS + 1
    assert rows[OTHERS].calls == 9 * MOST_SECTIONS
    assert sum(row.own for row in rows.values()) == 10 * MOST_SECTIONS


def test_a_device_is_waited_for_only_when_asked(clock: Clock) -> None:
    """With `synchronise`, what the device still does counts for the section that started it."""

    def wait_for_device() -> None:
        clock.wait(device.pop() if device else 0)

    device: list[float] = []
    outcomes = []
    for synchronise in (None, wait_for_device):
        profiler = CodeProfiler(clock=clock, memory=lambda: 0, synchronise=synchronise)
        with profiler.section("forward"):
            device.append(5.0)
        outcomes.append((found(profiler)["forward"].total, profiler.report()["synchronised"]))
        device.clear()
    assert outcomes == [(0.0, False), (5.0, True)]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [({"data": 30, "forward": 70}, "cache"), ({"logging": 2, "forward": 98}, "monitoring.log_interval"),
     ({"evaluation": 40, "forward": 60}, "monitoring.eval_interval")],
)  # fmt: skip
def test_advice_names_what_takes_too_much(seconds: dict[str, float], words: str) -> None:
    """A section above its share is named with what to do; in a healthy profile there is nothing to say."""
    profiler = CodeProfiler()
    for name, taken in seconds.items():
        profiler.add(name, taken)
    (advice,) = profiler.advice()
    assert words in advice
    assert advice in profiler.markdown()
    profiler.add("forward", 1e6)
    assert profiler.advice() == []


def test_the_report_has_every_section(clock: Clock) -> None:
    """The table, the fields of the log and the report agree; a name cannot break the table."""
    profiler = CodeProfiler(clock=clock, memory=lambda: 0)
    with profiler.section("a|b\nc"):
        clock.wait(1.5)
    profiler.add("system", 0.5, calls=10)
    report = profiler.report()
    assert [(row["name"], row["calls"], row["self_seconds"]) for row in report["sections"]] == [
        ("a|b\nc", 1, 1.5), ("system", 10, 0.5),
    ]  # fmt: skip
    rows = profiler.markdown().split("\n\n")[0].splitlines()
    assert [row.startswith("|") for row in rows] == [True] * 4
    assert profiler.fields()["system"] == "0.50s (25.0%), 10 calls"
    assert CodeProfiler().markdown()


def test_real_time_is_measured() -> None:
    """With the clock of the machine a section that does something takes some time, and no more than there was."""
    profiler = CodeProfiler()
    busy: Callable[[], int] = lambda: sum(range(10_000))  # noqa: E731
    began = time.perf_counter()
    with profiler.section("sum"):
        busy()
    passed = time.perf_counter() - began
    assert 0 < found(profiler)["sum"].total <= passed
