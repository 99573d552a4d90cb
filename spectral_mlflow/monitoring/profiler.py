"""CodeProfiler: where the time of a run goes, and its memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

MOST_SECTIONS = 200  # Of more names than this, the others share one row.
OTHERS = "(others)"
MEASURED_CALLS, MEASURED_EVERY = 16, 256  # Asking for the memory takes longer than all the rest.
TRACKING = ("logging", "monitors", "usage", "system")  # What watching a run costs it.

# Section, share of the whole from which there is something to say, and what.
ADVICE: tuple[tuple[str, float, str], ...] = (
    ("data", 0.20, "making batches holds up training: tokenise the corpus into the cache, or put it on a faster disk"),
    ("evaluation", 0.25, "a longer monitoring.eval_interval, or a smaller dataset.val_windows"),
    ("checkpoint", 0.05, "a longer monitoring.checkpoint_interval, or a faster disk"),
    ("plots", 0.10, "a longer monitoring.viz_interval"),
    ("sample", 0.10, "a longer monitoring.viz_interval, or a smaller monitoring.sample_tokens"),
    ("optimizer", 0.30, "the update is large for so small a batch: a larger training.batch_size"),
    ("logging", 0.01, "a longer monitoring.log_interval, or a faster disk for the run directory"),
    ("monitors", 0.01, "monitoring.anomalies=false, where nobody looks at the alerts"),
)


@dataclass(frozen=True)
class Row:
    """What is known of a section.

    Attributes:
        name: of the section.
        calls: how often it was entered.
        total: seconds in it, those of the sections inside it included.
        own: seconds in it and in no section inside it.
        growth: most bytes by which one call left more memory in use; of a sample of the calls.
    """

    name: str
    calls: int
    total: float
    own: float
    growth: int


class CodeProfiler:
    """Adds up the time of named sections of a program, which may lie in each other.

    It belongs to one thread: sections that others enter would mix with its own; they use `add`. Its memory is bounded
    by `MOST_SECTIONS`, however long it runs, and entering and leaving a section costs about a microsecond. A GPU works
    on while its sections are left, so their times are those of the CPU, unless `synchronise` waits for it.
    """

    def __init__(
        self,
        *,
        synchronise: Callable[[], object] | None = None,
        memory: Callable[[], int] | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """Measure nothing yet.

        Args:
            synchronise: waits until the device is idle, before each look at the clock; None: does not wait.
            memory: bytes in use; default: the resident memory of this process.
            clock: nanoseconds that never go back.
        """
        self._synchronise = synchronise
        self._sections: dict[str, _Section] = {}
        self._course = _Course(clock, synchronise, memory or _resident_memory)

    def section(self, name: str) -> _Section:
        """A context whose time counts as that of this name."""
        return self._sections.get(name) or self._new(name)

    def add(self, name: str, seconds: float, calls: int = 1) -> None:
        """Count time that something else has measured, such as another thread."""
        found = self.section(name)
        found.calls += calls
        found.total += round(1e9 * seconds)
        found.own += round(1e9 * seconds)

    def rows(self) -> list[Row]:
        """All sections so far, the longest first."""
        found = [
            Row(name, at.calls, at.total / 1e9, at.own / 1e9, at.growth)
            for name, at in self._sections.items()
            if at.calls
        ]
        return sorted(found, key=lambda row: -row.own)

    def seconds(self, *names: str) -> float:
        """Seconds in these sections alone, without those inside them."""
        return sum(row.own for row in self.rows() if row.name in names)

    def advice(self) -> list[str]:
        """What to do about the sections that take more of the whole than they should."""
        rows = {row.name: row for row in self.rows()}
        whole = sum(row.own for row in rows.values())
        found = [
            f"{name} takes {rows[name].own / whole:.0%} of the time: {what}"
            for name, share, what in ADVICE
            if name in rows and rows[name].own > share * whole
        ]
        failure = self._course.failure
        return [*found, f"growth of memory is not known: {failure}"] if failure else found

    def report(self) -> dict[str, Any]:
        """Everything, as profile.json has it."""
        rows = self.rows()
        return {
            "seconds": sum(row.own for row in rows),
            "synchronised": self._synchronise is not None,
            "sections": [
                {"name": row.name, "calls": row.calls, "total_seconds": row.total, "self_seconds": row.own,
                 "mean_ms": 1e3 * row.total / row.calls, "largest_growth_bytes": row.growth}
                for row in rows
            ],
            "advice": self.advice(),
        }  # fmt: skip

    def markdown(self) -> str:
        """A table with the advice below it."""
        rows = self.rows()
        whole = sum(row.own for row in rows) or 1.0
        lines = [
            "| section | calls | self s | share | total s | mean ms | memory growth MB |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for row in rows:
            name = row.name.replace("|", "\\|").replace("\n", " ")
            lines.append(
                f"| {name} | {row.calls} | {row.own:.3f} | {row.own / whole:.1%} | {row.total:.3f} "
                f"| {1e3 * row.total / row.calls:.3f} | {row.growth / 2**20:.1f} |"
            )
        tracking = self.seconds(*TRACKING)
        total = f"tracking ({' + '.join(TRACKING)}): {tracking:.3f} s, {tracking / whole:.1%}"
        advice = [f"- {text}" for text in self.advice()] or ["Nothing takes more of the time than it should."]
        return "\n".join([*lines, "", total, "", *advice, ""])

    def fields(self) -> Mapping[str, str]:
        """The largest sections as fields of an entry of the log."""
        rows = self.rows()
        whole = sum(row.own for row in rows) or 1.0
        fields = {row.name: f"{row.own:.2f}s ({row.own / whole:.1%}), {row.calls} calls" for row in rows[:8]}
        advice = self.advice()
        return {**fields, "Advice": "; ".join(advice)} if advice else fields

    def _new(self, name: str) -> _Section:
        if len(self._sections) >= MOST_SECTIONS:
            name = OTHERS
        return self._sections.setdefault(name, _Section(self._course))


class _Course:
    """What the sections of a profiler share: how to measure, and where the program is."""

    __slots__ = ("_memory", "clock", "failure", "inside", "since", "synchronise")

    def __init__(
        self, clock: Callable[[], int], synchronise: Callable[[], object] | None, memory: Callable[[], int]
    ) -> None:
        self.clock, self.synchronise, self._memory = clock, synchronise, memory
        self.failure = ""  # Why the memory is asked for no more.
        self.inside: list[_Section] = []  # Those that are entered and not yet left.
        self.since = 0  # When the last one was entered or left.

    def memory(self) -> int:
        """Bytes in use; 0 once that could not be told, which stops no program."""
        if self.failure:
            return 0
        try:
            return self._memory()
        except Exception as failure:
            self.failure = f"{type(failure).__name__}: {failure}"
            return 0


class _Section:
    """The sums of one name, and the context that adds to them."""

    __slots__ = ("_before", "_began", "_course", "_nested", "calls", "growth", "own", "total")

    def __init__(self, course: _Course) -> None:
        self._course = course
        self.calls = self.total = self.own = self.growth = 0
        self._nested = 0  # How often it is entered and not yet left.
        self._began = self._before = 0

    def __enter__(self) -> None:
        course = self._course
        if not self._nested and self._measured():
            self._before = course.memory()
        if course.synchronise:
            course.synchronise()
        now = course.clock()
        if course.inside:
            course.inside[-1].own += now - course.since
        course.inside.append(self)
        course.since = now
        if not self._nested:
            self._began = now
        self._nested += 1

    def __exit__(self, *_: object) -> None:
        course = self._course
        if course.synchronise:
            course.synchronise()
        now = course.clock()
        course.inside.pop()
        self.own += now - course.since
        course.since = now
        self._nested -= 1
        if self._nested:  # Inside itself: the outer one counts the whole.
            return
        self.total += now - self._began
        if self._measured():
            self.growth = max(self.growth, course.memory() - self._before)
        self.calls += 1

    def _measured(self) -> bool:
        return self.calls < MEASURED_CALLS or not self.calls % MEASURED_EVERY


def _resident_memory() -> int:
    return int(psutil.Process().memory_info().rss)
