"""MetricColumns: the metrics of a journal by name, read on as it grows."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np

from spectral_mlflow import journal
from spectral_mlflow.monitoring.model_arrays import Array


class MetricColumns:
    """What metrics.jsonl holds, as a column for each metric; a line is read once."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet.

        Args:
            path: the journal, which may not be there yet.
        """
        self._path = path
        self._offset = 0
        self._columns: dict[str, tuple[array[float], array[float]]] = {}

    def read(self) -> None:
        """Take in what has been written since the last time."""
        for record, behind in journal.read(self._path, self._offset):
            self._offset, step = behind, record.get("step")
            for name, value in record.items():
                if name != "step" and isinstance(step, int) and isinstance(value, int | float):
                    steps, values = self._columns.setdefault(name, (array("d"), array("d")))
                    steps.append(step)
                    values.append(value)

    def until(self, step: int) -> dict[str, tuple[Array, Array]]:
        """Steps (n,) and values (n,) of each metric up to and with a step; metrics without any are left out."""
        known = {}
        for name, column in self._columns.items():
            steps, values = (np.array(part) for part in column)
            if (here := steps <= step).any():
                known[name] = steps[here], values[here]
        return known
