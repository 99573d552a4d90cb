"""The figures of a comparison: learning curves, and how soon each variant reaches a loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from spectral_mlflow.analysis.side_by_side import Entry, Group, SideBySide
from spectral_mlflow.plots import style
from spectral_mlflow.plots.comparison import learning_curves
from spectral_mlflow.plots.convergence import Curve, convergence

CURVES = {"val_loss": "validation loss (nats per token)", "loss": "training loss (nats per token)"}
SMOOTHING = {"val_loss": 0.0, "loss": 0.02}  # The training loss is that of single batches.


def draw(folder: Path, found: SideBySide, histories: pd.DataFrame) -> list[Path]:
    """Draw the figures of each group into a folder, as SVG; returns the files.

    Args:
        folder: where to; it must exist.
        found: the comparison.
        histories: that it was made from.

    Raises:
        OSError: the disk refuses.
    """
    written = []
    with style.light():
        for number, group in enumerate(found.groups, 1):
            for name, figure in _of_group(group, histories):
                suffix = f"_{number}" if len(found.groups) > 1 else ""
                written.append(style.save(figure, folder / f"{name}{suffix}.svg", title=name.replace("_", " ")))
    return written


def _of_group(group: Group, histories: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    for key, metric in CURVES.items():
        curves = {entry.label: _curves(entry, histories, key) for entry in group.entries}
        if any(curves.values()):
            given = {label: [(curve.steps, curve.losses) for curve in seeds] for label, seeds in curves.items()}
            yield f"curves_{key}", learning_curves(given, metric=metric, smoothing=SMOOTHING[key])
        if key == "val_loss" and any(curves.values()):
            yield "convergence", convergence(curves, target=group.target)


def _curves(entry: Entry, histories: pd.DataFrame, key: str) -> list[Curve]:
    found = []
    for row in entry.rows.values():
        mine = histories[(histories["run_id"] == row["run_id"]) & (histories["key"] == key)]
        if len(mine):
            seconds = (mine["timestamp"] - row["start_time"]).dt.total_seconds()
            found.append(Curve(mine["step"].to_numpy(), seconds.to_numpy(), mine["value"].to_numpy()))
    return found
