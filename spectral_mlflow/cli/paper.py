"""``spectral paper``."""

from __future__ import annotations

import argparse

from spectral_mlflow.cli.parser import Commands, add_command


def add(commands: Commands) -> None:
    """Declare the command."""
    add_command(commands, "paper", _paper, "write the guide and the paper from the runs in MLflow", add_help=False)


def _paper(_: argparse.Namespace, rest: list[str]) -> int:
    from spectral_mlflow.paper.__main__ import main as paper

    return paper(rest)
