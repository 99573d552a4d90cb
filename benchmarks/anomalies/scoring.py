"""Counting what was found, missed and told wrongly."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from spectral_mlflow.monitoring.monitor import Alert

Told = list[tuple[int, Alert]]  # Step and alert.


@dataclass
class Score:
    """What the alerts of many runs come to, by kind."""

    healthy_steps: int = 0
    episodes: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)  # Alerts of the kind where another fault was, or none.
    false_alarms: Counter[str] = field(default_factory=Counter)  # In healthy runs.
    delays: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    instead: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def healthy(self, steps: int, told: Told) -> None:
        """Count a run, or a part of one, in which nothing was wrong."""
        self.healthy_steps += steps
        for _, alert in told:
            self.false_alarms[alert.kind] += 1
            self.wrong[alert.kind] += 1

    def fault(self, kind: str, start: int, told: Told, neutral: tuple[str, ...] = ()) -> None:
        """Count a run in which a fault of a kind began at a step."""
        self.episodes[kind] += 1
        right = [step for step, alert in told if alert.kind == kind and step >= start]
        if right:
            self.found[kind] += 1
            self.delays[kind].append(right[0] - start)
        for step, alert in told:
            if step < start or alert.kind not in (kind, *neutral):
                self.wrong[alert.kind] += 1
                self.instead[kind][alert.kind] += 1

    def recall(self, kind: str) -> float:
        """Part of the faults that were found by their kind."""
        return self.found[kind] / self.episodes[kind]

    def precision(self, kind: str) -> float | None:
        """Part of the kind's alerts that were right; a fault counts once. None without an alert."""
        told = self.found[kind] + self.wrong[kind]
        return self.found[kind] / told if told else None

    def delay(self, kind: str) -> float | None:
        """Median steps from the beginning of a fault to its alert."""
        return float(statistics.median(self.delays[kind])) if self.delays[kind] else None

    def false_rate(self, kind: str | None = None) -> float:
        """False alarms in 1,000 healthy steps."""
        count = self.false_alarms.total() if kind is None else self.false_alarms[kind]
        return 1000 * count / max(1, self.healthy_steps)
