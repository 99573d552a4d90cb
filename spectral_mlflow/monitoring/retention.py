"""Which checkpoints to keep: pure functions from checkpoint records, newest first, to one boolean each.

Policies combine: ``last(3) | best(1) | every(1000)`` keeps what any of them keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.checkpoint_list import Checkpoint

Records = Sequence[Checkpoint]


@dataclass(frozen=True)
class Policy:
    """Decides which records to keep."""

    decide: Callable[[Records], list[bool]]

    def __call__(self, newest_first: Records) -> list[bool]:
        """For each record whether to keep it."""
        return self.decide(newest_first)

    def __or__(self, other: Policy) -> Policy:
        """Keep what either of two policies keeps."""
        return Policy(lambda records: [any(pair) for pair in zip(self(records), other(records), strict=True)])


def last(count: int) -> Policy:
    """Keep the newest ones."""
    return Policy(lambda records: [place < count for place in range(len(records))])


def best(count: int, metric: str = "val_loss", *, maximize: bool = False) -> Policy:
    """Keep those of the lowest, or highest, finite value of a metric; of equal ones the older."""

    def decide(records: Records) -> list[bool]:
        chosen = set(map(id, ranked(records, metric, maximize=maximize)[:count]))
        return [id(record) in chosen for record in records]

    return Policy(decide)


def ranked(records: Records, metric: str, *, maximize: bool = False) -> list[Checkpoint]:
    """The records with a finite value of a metric, best first; of equal ones the older first."""
    sign = -1 if maximize else 1
    valued = [record for record in records if math.isfinite(record.metrics.get(metric, math.nan))]
    return sorted(valued, key=lambda record: (sign * record.metrics[metric], record.sequence))


def every(steps: int) -> Policy:
    """Keep those at the multiples of a number of steps; none for 0."""
    return Policy(
        lambda records: [steps > 0 and record.sequence > 0 and record.step % steps == 0 for record in records]
    )


def hourly(hours: float) -> Policy:
    """Keep the oldest, and then each that was saved at least so many hours after the one kept before; none for 0."""

    def decide(records: Records) -> list[bool]:
        kept: list[bool] = []
        before = -math.inf
        for record in reversed(records):
            seconds = record.seconds
            # A clock that was set back starts anew.
            due = hours > 0 and seconds is not None and abs(seconds - before) >= 3600 * hours
            before = seconds if due and seconds is not None else before
            kept.append(due)
        return kept[::-1]

    return Policy(decide)


def spread(steps: int, count: int) -> Policy:
    """Keep the oldest at most so many steps before the newest, at most twice as many, and so on: some at any age."""

    def decide(records: Records) -> list[bool]:
        known = [record for record in records if record.sequence > 0]
        kept = set()
        for reach in (steps << times for times in range(count if known else 0)):
            near = [record for record in known if 0 <= known[0].step - record.step <= reach]
            kept.add(id(min(near, key=lambda record: record.step)))
        return [id(record) in kept for record in records]

    return Policy(decide)


def at_most(count: int, first: Policy) -> Policy:
    """Keep what a policy keeps, and of the others the newest, as long as all together are at most so many."""

    def decide(records: Records) -> list[bool]:
        kept = first(records)
        room = count - sum(kept)
        for place, chosen in enumerate(kept):
            if not chosen and room > 0:
                kept[place] = True
                room -= 1
        return kept

    return Policy(decide)


nothing = Policy(lambda records: [False for _ in records])
everything = Policy(lambda records: [True for _ in records])


@dataclass(frozen=True)
class CheckpointStrategy:
    """When to save, and what to keep.

    Attributes:
        save_interval: steps between checkpoints.
        save_best: also save when the metric is better than ever, and keep the best.
        save_latest: keep the link ``checkpoint_latest.pt`` at the newest.
        best_metric: the metric that decides which is the best.
        max_checkpoints: files to keep, the best included; the newest and the best stay in any case.
        cleanup_old: remove the others.
        maximize: whether a higher value of the metric is better.
    """

    save_interval: int = 1000
    save_best: bool = True
    save_latest: bool = True
    best_metric: str = "val_loss"
    max_checkpoints: int = 10
    cleanup_old: bool = True
    maximize: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense.

        Raises:
            UserError: an interval or a number below 1.
        """
        positive("save_interval", self.save_interval)
        positive("max_checkpoints", self.max_checkpoints)

    @property
    def policy(self) -> Policy:
        """Which checkpoints to keep."""
        if not self.cleanup_old:
            return everything
        first = best(1, self.best_metric, maximize=self.maximize) if self.save_best else nothing
        return at_most(self.max_checkpoints, last(1) | first)

    def improves(self, value: float, records: Records) -> bool:
        """Whether a value of the metric is better than that of every record."""
        before = ranked(records, self.best_metric, maximize=self.maximize)
        if not self.save_best or not math.isfinite(value):
            return False
        sign = -1 if self.maximize else 1
        return not before or sign * value < sign * before[0].metrics[self.best_metric]


def positive(name: str, value: int) -> int:
    """The value.

    Raises:
        UserError: it is below 1.
    """
    if value >= 1:
        return value
    raise UserError(f"{name}: given {value}; allowed: 1 or more")
