"""Repeats: the steps of a resumed run that its journal has already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# Recomputed after a resume these must repeat to the last bit; a difference is worth an alert.
REPEATABLE = ("loss", "objective", "coherence_loss", "val_loss", "learning_rate", "grad/norm", "wave_ratio")
SYSTEM = "system/"


class Repeats:
    """Keeps what a step has that is journaled already from being journaled again."""

    def __init__(self, journaled: Iterable[Mapping[str, Any]] = ()) -> None:
        """Know the lines of a journal.

        Args:
            journaled: its records; none for a new run.
        """
        self._known: dict[int, dict[str, Any]] = {}
        for line in journaled:
            if isinstance(line.get("step"), int):  # Else it is damaged.
                self._known.setdefault(line["step"], {}).update(line)

    def sift(self, step: int, metrics: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
        """What is new of a step, and the names of what should have repeated and did not.

        Args:
            step: its number; asked for once.
            metrics: all that was measured of it.
        """
        known = self._known.pop(step, {})
        # Of a step that is journaled already, nobody knows any more how the machine was.
        new = {n: value for n, value in metrics.items() if n not in known and not (known and n.startswith(SYSTEM))}
        both = [name for name in REPEATABLE if name in known and name in metrics]
        return new, [name for name in both if not _same(known[name], metrics[name])]


def _same(one: Any, other: Any) -> bool:
    return bool(one == other or (one != one and other != other))
