"""The command line as a real process in which something happens at an exact moment."""

import os
import subprocess
import sys
from pathlib import Path

from tiny_runs import TINY, write_corpus

BEFORE = """
import signal, sys
from spectral_mlflow.cli import main

def hook(owner, name, happen, *, after=False):
    ours = getattr(owner, name)
    def hooked(self, *values, **named):
        if not after:
            happen(self)
        found = ours(self, *values, **named)
        if after:
            happen(self)
        return found
    setattr(owner, name, hooked)

"""
AFTER = "\nsys.exit(main(sys.argv[1:]))\n"


def spectral(*arguments: str, hook: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command.

    Args:
        arguments: those of the command line.
        hook: program text before it: ``hook(class, method, what happens)``.
    """
    return subprocess.run(
        [sys.executable, "-c", BEFORE + hook + AFTER, *arguments], capture_output=True, text=True, timeout=300,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


def tiny_arguments(corpus: Path, **changed: str) -> list[str]:
    """The settings of a small run, as arguments."""
    settings = {**TINY, "dataset.path": str(write_corpus(corpus)), **changed}
    return [part for name, value in settings.items() for part in (f"--{name}", value)]
