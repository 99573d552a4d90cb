"""``spectral sync``, ``spectral rebuild`` and ``spectral doctor``: what the stores have, and what was lost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from spectral_mlflow.cli.parser import RUN_HELP, Commands, add_command, base, nothing_else
from spectral_mlflow.cli.progress import shown
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import runs
from spectral_mlflow.stores import doctor, rebuild, sync
from spectral_mlflow.stores.base import StoreError
from spectral_mlflow.stores.sync import Watch
from spectral_mlflow.tracking_uri import check_tracking_uri, resolve

FAILED = 1


def add(commands: Commands) -> None:
    """Declare the commands."""
    _add_sync(commands)
    _add_rebuild(commands)
    _add_doctor(commands)


def _add_sync(commands: Commands) -> None:
    command = add_command(commands, "sync", _sync, "send to the stores what they do not have yet")
    command.add_argument("runs", nargs="*", metavar="RUN", help=RUN_HELP + " [all that are behind]")
    command.add_argument("--tracking-uri", metavar="URI", help="MLflow store to send to [where the run was going]")


def _sync(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    if known.tracking_uri:
        check_tracking_uri(known.tracking_uri)
    chosen = [runs.find_run(name, base()) for name in known.runs] or [
        path for path in runs.run_directories(base()) if sync.is_behind(path, known.tracking_uri)
    ]
    if not chosen:
        print("every run is in the store already")
        return 0
    complete = True
    with _watch() as watch:
        for result in sync.syncing(chosen, known.tracking_uri, watch=watch):
            print(result, flush=True)
            complete &= result.complete
    return 0 if complete else FAILED


@contextmanager
def _watch() -> Iterator[Watch]:
    with shown("the metrics") as show:
        yield lambda run_dir, sent, size: show(run_dir.name, sent, size)


def _add_rebuild(commands: Commands) -> None:
    command = add_command(
        commands, "rebuild", _rebuild, "make again what was lost of a run: its directory, or its run in MLflow",
        epilog="With a run directory, all of it is sent again, and nothing is stored twice. Without one, it is made\n"
        "from what MLflow has: files, metrics and, where one was sent, a checkpoint to continue from.\n"
        "examples:\n  spectral rebuild latest\n  spectral rebuild 0123456789abcdef0123456789abcdef",
    )  # fmt: skip
    command.add_argument("run", metavar="RUN", help=RUN_HELP + "; or the name of a run in MLflow")
    command.add_argument("--tracking-uri", metavar="URI", help="store [where the run was going; else the default one]")


def _rebuild(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    if known.tracking_uri:
        check_tracking_uri(known.tracking_uri)
    try:
        run_dir = runs.find_run(known.run, base())
    except UserError as unknown:
        if known.run in ("", "latest"):
            raise
        return _from_store(known.run, known.tracking_uri, unknown)
    with _watch() as watch:
        result = rebuild.to_store(run_dir, known.tracking_uri, watch=watch)
    print(result)
    return 0 if result.complete else FAILED


def _from_store(name: str, tracking_uri: str | None, unknown: UserError) -> int:
    try:
        run_dir, notes = rebuild.from_store(name, base(), tracking_uri)
    except UserError as mistake:
        raise UserError(f"{mistake}; nor is it here: {unknown}") from None
    except (StoreError, OSError) as failure:
        print(f"spectral: run {name!r} is not rebuilt: {failure}", file=sys.stderr)
        return FAILED
    print(f"run directory  {run_dir}")
    for note in notes:
        print(f"note           {note}")
    print(f"continue with  spectral resume {run_dir.name}")
    return 0


def _add_doctor(commands: Commands) -> None:
    command = add_command(commands, "doctor", _doctor, "look for what is wrong with runs and store, and how to mend it")
    command.add_argument("--experiments-dir", metavar="FOLDER", help="folder of run directories [experiments]")
    command.add_argument("--tracking-uri", metavar="URI", help="store [MLFLOW_TRACKING_URI, else mlflow.db]")


def _doctor(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    wrong = 0
    for finding in doctor.examine(base(known.experiments_dir), resolve(None, known.tracking_uri)):
        wrong += finding.fix is not None
        mend = "" if finding.fix is None else f"; mend it with: {finding.fix}"
        print(f"{'ok   ' if finding.fix is None else 'WRONG'} {finding.subject}: {finding.text}{mend}", flush=True)
    print("nothing is wrong" if not wrong else f"{wrong} to mend")
    return FAILED if wrong else 0
