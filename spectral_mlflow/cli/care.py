"""``spectral delete``, ``gc``, ``export`` and ``import``: whole runs."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from spectral_mlflow.cli.parser import RUN_HELP, Commands, add_command, base, nothing_else
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import archive, cleanup, runs
from spectral_mlflow.monitoring.archive import Told
from spectral_mlflow.stores import removal, sync
from spectral_mlflow.stores.base import RunView, StoreError
from spectral_mlflow.tracking_uri import absolute, check_tracking_uri, default_tracking_uri

FAILED = 1
STATUSES = ("FINISHED", "FAILED", "KILLED")


def add(commands: Commands) -> None:
    """Declare the commands."""
    _add_delete(commands)
    _add_gc(commands)
    _add_export(commands)
    _add_import(commands)


def _add_delete(commands: Commands) -> None:
    delete = add_command(
        commands, "delete", _delete, "delete runs: the run directory, and the run in MLflow",
        epilog="MLflow keeps a deleted run in its trash until `mlflow gc`; the run directory is gone at once.\n"
        "example:\n  spectral delete wave_20260131_120000_1a2b3c4d",
    )  # fmt: skip
    delete.add_argument("runs", nargs="+", metavar="RUN", help=RUN_HELP)
    _add_removal_options(delete, "do not ask")


def _add_gc(commands: Commands) -> None:
    gc = add_command(
        commands, "gc", _gc, "delete the runs that some rules let go; shows them first",
        epilog="A run goes when every rule that is given lets it go. One that is running or being sent stays, and so\n"
        "does one of which a registered model was made, unless --keep-mlflow leaves MLflow alone.\n"
        "examples:\n  spectral gc --status FAILED,KILLED --older-than 7\n  spectral gc --keep-best 3 --keep-newest 5",
    )  # fmt: skip
    gc.add_argument("--older-than", type=_days, metavar="DAYS", help="runs that nobody has written for so long")
    gc.add_argument("--status", type=_statuses, metavar="STATUS,...", help="runs that ended so: " + ", ".join(STATUSES))
    gc.add_argument("--keep-newest", type=_count, metavar="N", help="all but the N that were written last")
    gc.add_argument("--keep-best", type=_count, metavar="N", help="all but the N best of each model")
    _add_removal_options(gc, "delete them; without, they are only shown")


def _add_removal_options(command: argparse.ArgumentParser, yes: str) -> None:
    command.add_argument("--keep-mlflow", action="store_true", help="leave the run in MLflow as it is")
    command.add_argument("--yes", action="store_true", help=yes)


def _add_export(commands: Commands) -> None:
    export = add_command(
        commands, "export", _export, "write a run into one file: journal, checkpoints and everything else",
        epilog="The archive is a tar, with a digest of each file in it.\n"
        "example:\n  spectral export latest /mnt/usb/  &&  SPECTRAL_HOME=elsewhere spectral import /mnt/usb/wave_*.tar",
    )  # fmt: skip
    export.add_argument("run", metavar="RUN", help=RUN_HELP)
    export.add_argument("--compress", action="store_true", help="make checkpoints smaller (shuffled bytes, zstd)")
    export.add_argument("file", nargs="?", default=".", metavar="FILE", help="archive, or a folder for it [.]")


def _add_import(commands: Commands) -> None:
    command = add_command(
        commands, "import", _import, "make the run directory of an archive again, and send it to the store here",
    )  # fmt: skip
    command.add_argument("file", metavar="FILE", help="what spectral export has written")
    command.add_argument("--tracking-uri", metavar="URI", help="store to send to [MLFLOW_TRACKING_URI, else mlflow.db]")


# Deleting


def _delete(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    found = [
        cleanup.candidate(run_dir) for run_dir in dict.fromkeys(runs.find_run(name, base()) for name in known.runs)
    ]
    cleanup.finish_removals(base())
    for run in found:
        _check_idle(run.run_dir)
    _show(found)
    if not known.yes and not _agreed(_number(found)):
        print("nothing was deleted")
        return FAILED
    return _remove(found, keep_mlflow=known.keep_mlflow)


def _gc(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    rules = list(_rules(known))
    if not rules:
        raise UserError("gc: given no rule; allowed: --older-than, --status, --keep-newest, --keep-best (any of them)")
    cleanup.finish_removals(base())
    idle = [path for path in runs.run_directories(base()) if not RunView(path).is_alive()]
    going = cleanup.expendable([cleanup.candidate(path) for path in idle], rules)
    if not going:
        print("no run to delete by these rules")
        return 0
    _show(going)
    if not known.yes:
        print("nothing was deleted; add --yes to delete these")
        return 0
    return _remove(going, keep_mlflow=known.keep_mlflow)


def _rules(known: argparse.Namespace) -> Iterator[cleanup.Rule]:
    if known.older_than is not None:
        yield cleanup.older_than(known.older_than, datetime.now(UTC))
    if known.status is not None:
        yield cleanup.with_status(*known.status)
    if known.keep_newest is not None:
        yield cleanup.all_but_newest(known.keep_newest)
    if known.keep_best is not None:
        yield cleanup.all_but_best(known.keep_best)


def _check_idle(run_dir: Path) -> None:
    if RunView(run_dir).is_alive():
        raise UserError(f"run {run_dir.name} is being written; wait until it ends, or stop it")


def _show(found: Sequence[cleanup.Candidate]) -> None:
    table = Table("run", "model", "status", "last written", "best val loss", "size", box=None, header_style="bold")
    for run in found:
        best = "" if run.best_val_loss is None else f"{run.best_val_loss:.4f}"
        table.add_row(
            run.run_dir.name, run.model, run.status, f"{run.last_written:%Y-%m-%d %H:%M}", best, decimal(run.bytes)
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    print(f"{_number(found)}, {decimal(sum(run.bytes for run in found))}")


def _number(found: Sequence[cleanup.Candidate]) -> str:
    return "1 run" if len(found) == 1 else f"{len(found)} runs"


def _agreed(what: str) -> bool:
    if not sys.stdin.isatty():
        raise UserError("delete: nobody to ask here; add --yes to delete without a question")
    try:
        return input(f"delete {what}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _remove(found: Sequence[cleanup.Candidate], *, keep_mlflow: bool) -> int:
    """Delete in the store first: a run that is left there without its directory could not be deleted by name."""
    failed = 0
    for run in found:
        try:
            cleanup.check_removable(run.run_dir)
            if keep_mlflow and _mlflow_lacks(RunView(run.run_dir)):
                raise UserError(f"MLflow does not have all of it; spectral sync {run.run_dir.name}")
            with removal.undisturbed(run.run_dir):
                run_id = None if keep_mlflow else removal.delete(run.run_dir)
                cleanup.remove(run.run_dir)
        except (UserError, StoreError, OSError) as failure:
            print(f"spectral: {run.run_dir.name} is not deleted: {failure}", file=sys.stderr)
            failed += 1
            continue
        print(f"deleted {run.run_dir.name}" + (f" (MLflow run {run_id} is in the trash)" if run_id else ""))
    return FAILED if failed else 0


def _mlflow_lacks(run: RunView) -> bool:
    return run.start() is not None and sync.MLFLOW in run.stores() and sync.lacks(run, sync.MLFLOW)


# Archives


def _export(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    run_dir = runs.find_run(known.run, base())
    _check_idle(run_dir)
    target = Path(known.file)
    if target.is_dir():
        target /= run_dir.name + archive.SUFFIX
    try:
        with _progress(f"exporting {run_dir.name}", archive.size(run_dir)) as told:
            archive.export(run_dir, target, compress=known.compress, told=told)
    except OSError as failure:
        print(f"spectral: {run_dir.name} is not exported: {failure}", file=sys.stderr)
        return FAILED
    print(f"exported {run_dir.name} to {target} ({decimal(target.stat().st_size)})")
    return 0


def _import(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    uri = known.tracking_uri or default_tracking_uri()
    check_tracking_uri(uri)
    source = Path(known.file)
    try:
        with _progress(f"importing {source.name}", source.stat().st_size if source.is_file() else 0) as told:
            run_dir = archive.unpack(source, base(), tracking_uri=absolute(uri), told=told)
    except OSError as failure:
        print(f"spectral: {source} is not imported: {failure}", file=sys.stderr)
        return FAILED
    print(f"imported {run_dir}")
    (result,) = sync.sync([run_dir], uri)
    print(result)
    return 0 if result.complete else FAILED


@contextmanager
def _progress(text: str, total: int) -> Iterator[Told]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done: progress.advance(task, done)


# Values


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not 0 <= days < math.inf:
        raise argparse.ArgumentTypeError(f"given {text!r}; allowed: a number of days, 0 or more")
    return days


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"given {text!r}; allowed: a whole number, 0 or more")
    return int(text)


def _statuses(text: str) -> list[str]:
    given = [status.strip().upper() for status in text.split(",")]
    if wrong := [status for status in given if status not in STATUSES]:
        raise argparse.ArgumentTypeError(f"given {wrong[0]!r}; allowed: {', '.join(STATUSES)}, with commas between")
    return given
