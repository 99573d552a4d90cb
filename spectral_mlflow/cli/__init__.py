"""The command line: the only place that wires the rooms together.

Exit codes: 0 done, 1 the run or the store failed, 2 a mistake in what was asked for, 130 and 143 stopped by a signal.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from spectral_mlflow.cli import ablate, care, checkpoints, compare, models, paper, runs, stores, study, train
from spectral_mlflow.cli.parser import Parser
from spectral_mlflow.errors import UserError
from spectral_mlflow.stores.failures import tag_failure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        known, rest = _parser().parse_known_args(given)
        command: Callable[[argparse.Namespace, list[str]], int] = known.command
        return command(known, rest)
    except UserError as mistake:
        print(f"spectral: {' '.join(str(mistake).split())}", file=sys.stderr)
        tag_failure(str(mistake))
        return 2
    except OSError as failure:
        print(f"spectral: {' '.join(str(failure).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> Parser:
    parser = Parser(
        prog="spectral",
        description="Train wave-based and standard GPTs, keep every run safe, look at it in MLflow, write the paper.",
        epilog="Each command explains itself: spectral train --help",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for noun in (train, runs, checkpoints, stores, study, ablate, compare, care, models, paper):
        noun.add(commands)
    return parser
