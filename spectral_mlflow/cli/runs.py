"""``spectral list``: the runs on this machine."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table

from spectral_mlflow.cli.parser import Commands, add_command, base, nothing_else
from spectral_mlflow.monitoring import runs


def add(commands: Commands) -> None:
    """Declare the command."""
    add_command(commands, "list", _list, "list the runs on this machine").add_argument(
        "--experiments-dir", metavar="FOLDER", help="folder of run directories [experiments in SPECTRAL_HOME]"
    )


def _list(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    folder = base(known.experiments_dir)
    found = [runs.summary(path) for path in runs.run_directories(folder)]
    if not found:
        print(f"no runs in {folder}; make one with: spectral train")
        return 0
    table = Table("run", "model", "status", "step", "best val loss", "started", box=None, header_style="bold")
    for run in found:
        best = "" if run["best_val_loss"] is None else f"{run['best_val_loss']:.4f}"
        table.add_row(
            run["run"], str(run["model"]), run["status"], f"{run['step']}/{run['steps']}", best, str(run["started"])
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0
