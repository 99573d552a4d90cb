"""``spectral list`` and ``spectral sync``: the runs on this machine."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table

from spectral_mlflow.cli.parser import RUN_HELP, Commands, add_command, base, nothing_else
from spectral_mlflow.monitoring import runs
from spectral_mlflow.tracking_uri import check_tracking_uri


def add(commands: Commands) -> None:
    """Declare the commands."""
    add_command(commands, "list", _list, "list the runs on this machine").add_argument(
        "--experiments-dir", metavar="FOLDER", help="folder of run directories [experiments in SPECTRAL_HOME]"
    )
    sync = add_command(commands, "sync", _sync, "send to MLflow what it does not have yet")
    sync.add_argument("runs", nargs="*", metavar="RUN", help=RUN_HELP + " [all that are behind]")
    sync.add_argument("--tracking-uri", metavar="URI", help="store to send to [where the run was going]")


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


def _sync(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    from spectral_mlflow.stores import sync

    if known.tracking_uri:
        check_tracking_uri(known.tracking_uri)
    chosen = [runs.find_run(name, base()) for name in known.runs] or [
        path for path in runs.run_directories(base()) if sync.is_behind(path, known.tracking_uri)
    ]
    if not chosen:
        print("every run is in the store already")
        return 0
    results = sync.sync(chosen, known.tracking_uri)
    for result in results:
        print(result)
    return 0 if all(result.complete for result in results) else 1
