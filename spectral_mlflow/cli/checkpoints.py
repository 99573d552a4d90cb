"""``spectral checkpoints``: what a run can be continued from."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spectral_mlflow.cli.parser import RUN_HELP, Commands, add_command, base, nothing_else, printable
from spectral_mlflow.monitoring import runs
from spectral_mlflow.monitoring.checkpoint_list import Checkpoint, best_of, listing, verified
from spectral_mlflow.monitoring.structured_log import duration

DAMAGED = 1
METRIC = "val_loss"


def add(commands: Commands) -> None:
    """Declare the command."""
    checkpoints = add_command(
        commands, "checkpoints", _checkpoints, "list the checkpoints of a run, and verify them",
        epilog="Exit code 1 where one is damaged.\nexample:\n  spectral checkpoints latest --verify",
    )  # fmt: skip
    checkpoints.add_argument("run", metavar="RUN", help=RUN_HELP)
    checkpoints.add_argument("--verify", action="store_true", help="read every byte, and check it against the digest")


def _checkpoints(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    folder = runs.find_run(known.run, base()) / "checkpoints"
    newest_first = listing(folder)
    if not newest_first:
        print(f"no checkpoints in {folder}")
        return 0
    states = {checkpoint.path: _state(checkpoint, verify=known.verify) for checkpoint in newest_first}
    best = best_of(newest_first, folder)
    Console(width=None if sys.stdout.isatty() else 160).print(_table(newest_first, best, states))
    damaged = [state for state in states.values() if state.startswith("damaged")]
    if damaged:
        print(f"{len(damaged)} of {len(newest_first)} damaged; spectral resume takes the newest that is whole")
    elif not known.verify:
        print("sealed: the seal is there; --verify reads every byte")
    return DAMAGED if damaged else 0


def _state(checkpoint: Checkpoint, *, verify: bool) -> str:
    if not verify and checkpoint.sequence:
        return "sealed"
    damage = verified(checkpoint).damage
    return f"damaged: {damage}" if damage else "whole"


def _table(newest_first: list[Checkpoint], best: Checkpoint | None, states: Mapping[Path, str]) -> Table:
    table = Table(box=None, header_style="bold")
    for heading in ("step", "sequence", "MB"):
        table.add_column(heading, justify="right")
    for heading in ("saved", "age", METRIC, "", "state"):
        table.add_column(heading)
    newest = newest_first[0] if newest_first[0].sequence else None
    for checkpoint in newest_first:
        marks = [name for name, marked in (("latest", newest), ("best", best)) if checkpoint is marked]
        value = checkpoint.metrics.get(METRIC, math.nan)
        table.add_row(
            str(checkpoint.step),
            str(checkpoint.sequence or ""),
            f"{checkpoint.size / 1e6:,.1f}",
            checkpoint.timestamp[:19].replace("T", " "),
            "" if checkpoint.seconds is None else duration(max(0.0, time.time() - checkpoint.seconds)),
            "" if math.isnan(value) else f"{value:.4f}",
            ", ".join(marks),
            Text(printable(states[checkpoint.path])),
        )
    return table
