"""What the benchmark programs have in common: options, the machine, output."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import torch

from benchmarks.tables import Table, save, show
from spectral_mlflow.errors import UserError
from spectral_mlflow.provenance import hardware
from spectral_mlflow.training.allocator import keep_freed_memory

PACKAGES = ("torch", "transformers", "x-transformers")


class Parser(argparse.ArgumentParser):
    """The options of both programs; complaints are one line."""

    def __init__(self, program: str, description: str, examples: str, *, rounds: int) -> None:
        super().__init__(
            prog=f"python -m benchmarks.{program}", description=description, epilog=examples, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        self.add_argument(
            "--rounds",
            type=positive,
            default=rounds,
            metavar="N",
            help="turns of each candidate (default: %(default)s)",
        )
        self.add_argument(
            "--threads", type=positive, default=2, metavar="N", help="CPU threads of torch (default: %(default)s)"
        )
        self.add_argument("--markdown", action="store_true", help="print tables of Markdown")
        self.add_argument("--json", type=writable, metavar="FILE", help="also write all numbers, unrounded, to FILE")
        self.add_argument(
            "--toy", action="store_true", help="toy sizes: shows in seconds that all works; its numbers mean nothing"
        )

    def error(self, message: str) -> NoReturn:
        """Raise what `run` prints."""
        raise UserError(f"{message} (see {self.prog} --help)")


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"given {text!r}; allowed: a whole number, 1 or more")
    return int(text)


def writable(text: str) -> Path:
    """A file in a folder that is there, found out before hours of work."""
    path = Path(text)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"given {text!r}; allowed: a file in a folder that exists and can be written")
    return path


def run(parser: Parser, measure: Callable[[argparse.Namespace], list[Table]], arguments: Sequence[str] | None) -> int:
    """Measure, print, save; returns the exit code, 2 for a mistake in the options."""
    try:
        options = parser.parse_args(arguments)
        torch.set_num_threads(options.threads)
        keep_freed_memory()  # As training does; in one process it serves every candidate.
        load = os.getloadavg()[0]
        tables = measure(options)
        facts = Facts(load_at_start=load, load_at_end=os.getloadavg()[0], toy=options.toy)
        if options.json:
            save(options.json, asdict(facts), tables)
        show(str(facts), tables, markdown=options.markdown)
    except UserError as mistake:
        print(f"{parser.prog}: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def say(message: str) -> None:
    """Tell people what is going on, apart from the tables."""
    print(message, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Facts:
    """What the numbers depend on."""

    load_at_start: float
    load_at_end: float
    toy: bool
    hardware: dict[str, Any] = field(default_factory=hardware)
    threads: int = field(default_factory=torch.get_num_threads)
    packages: dict[str, str] = field(default_factory=lambda: {name: version(name) for name in PACKAGES})

    def __str__(self) -> str:
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return (
            f"{self.hardware['cpu_model']}, {self.hardware['cpu_count']} cores, threads used: {self.threads}; "
            f"{self.hardware['platform']}, Python {self.hardware['python_version']}, {packages}; "
            f"load average {self.load_at_start:.2f} at the start, {self.load_at_end:.2f} at the end."
            + (" TOY SIZES: these numbers mean nothing." if self.toy else "")
        )


def version(package: str) -> str:
    """Of an installed package, or that it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
