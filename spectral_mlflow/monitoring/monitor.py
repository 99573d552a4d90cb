"""A monitor: what it is told of a step, what it says, and that one that fails stops nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Severity = Literal["info", "warning", "critical", "fatal"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical", "fatal")

# What a monitor may ask of the training loop, which does it only where its user allows that.
Request = Literal["skip", "stop", "rollback"]


@dataclass(frozen=True)
class StepRecord:
    """What is known of a step once it is done.

    Attributes:
        step: its number, from 1.
        metrics: by the names of the journal, evaluation and sample quality included.
        seconds: of the step alone, without evaluation, checkpoint, plots and samples.
        scheduled_lr: what the learning rate should be by the declared schedule; None without one.
        updated: whether the weights have changed.
    """

    step: int
    metrics: Mapping[str, float]
    seconds: float
    scheduled_lr: float | None = None
    updated: bool = True


@dataclass(frozen=True)
class Alert:
    """Something a person should look at.

    Attributes:
        kind: such as ``loss_spike``.
        severity: info, warning, critical or fatal.
        message: what was seen, in one line with its numbers.
        cause: what is likely behind it.
        advice: what to do.
        since: the step at which it probably began.
        request: what the loop may do about it.
    """

    kind: str
    severity: Severity
    message: str
    cause: str = ""
    advice: str = ""
    since: int | None = None
    request: Request | None = None


@dataclass(frozen=True)
class Findings:
    """What a monitor says of a step: metrics for the line of the step, and alerts."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    alerts: Sequence[Alert] = ()


class Monitor(Protocol):
    """Watches a run step by step. What it remembers is part of a checkpoint."""

    def observe(self, record: StepRecord) -> Findings:
        """Take note of a step that is done."""

    def state_dict(self) -> dict[str, Any]:
        """What it needs to go on exactly: numbers, texts, lists, dicts and tensors."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Go on from there."""


class Monitors:
    """Asks each monitor in turn; one that raises is told of once and not asked again in this process."""

    def __init__(self, monitors: Mapping[str, Monitor], on_failure: Callable[[str, Exception], None]) -> None:
        """Ask nothing yet.

        Args:
            monitors: by the name that their state has in a checkpoint.
            on_failure: told the name of a monitor that raised, and what.
        """
        self._monitors = dict(monitors)
        self._on_failure = on_failure

    def observe(self, record: StepRecord) -> Findings:
        """What all of them say of a step."""
        metrics: dict[str, float] = {}
        alerts: list[Alert] = []
        for name, monitor in list(self._monitors.items()):
            try:
                found = monitor.observe(record)
            except Exception as failure:
                del self._monitors[name]
                self._on_failure(name, failure)
            else:
                metrics |= found.metrics
                alerts += found.alerts
        return Findings(metrics, alerts)
