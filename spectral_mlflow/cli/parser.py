"""What all commands share: how they are declared, and how their mistakes are told."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from spectral_mlflow import config
from spectral_mlflow.errors import UserError

RUN_HELP = "run directory, experiment id or its beginning, MLflow run id, or latest"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what `main` prints."""
        raise UserError(f"{message} (see {self.prog} --help)")


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
Run = Callable[[argparse.Namespace, list[str]], int]


def add_command(
    commands: Commands, name: str, run: Run, text: str, *, epilog: str | None = None, add_help: bool = True
) -> Parser:
    """Declare a command.

    Args:
        commands: where all are declared.
        name: its name.
        run: called with the arguments that are known and the rest; returns the exit code.
        text: what it does.
        epilog: end of its help.
        add_help: False where somebody else explains it.
    """
    command = commands.add_parser(
        name, help=text, description=text, epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, add_help=add_help,
    )  # fmt: skip
    command.set_defaults(command=run)
    return command


def nothing_else(rest: Sequence[str]) -> None:
    """Refuse arguments that a command does not take.

    Raises:
        UserError: there are some.
    """
    if rest:
        raise UserError(f"given {' '.join(rest)}, which this command does not take; see its --help")


def base(experiments_dir: str | None = None) -> Path:
    """The folder of run directories."""
    return config.home() / (experiments_dir or config.MonitoringConfig().experiments_dir)


def printable(text: str) -> str:
    """A generated text without what would make a terminal do something."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)
