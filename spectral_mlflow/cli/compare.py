"""``spectral compare``: runs side by side, with what the data say of their differences."""

from __future__ import annotations

import argparse
import math
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from spectral_mlflow import config
from spectral_mlflow.cli.parser import RUN_HELP, Commands, add_command, base, nothing_else
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import runs
from spectral_mlflow.stores.base import StoreError
from spectral_mlflow.tracking_uri import resolve

if TYPE_CHECKING:  # pandas takes a second to import, which a mistake or a help text need not.
    import pandas as pd

    from spectral_mlflow.analysis.importance import Importance
    from spectral_mlflow.analysis.side_by_side import SideBySide

FAILED = 1
WIDTH = 160  # Of what is piped into a file.
SHORT = {"study": "spectral.study", "cell": "spectral.cell", "seed": "spectral.seed"}


def add(commands: Commands) -> None:
    """Declare the command."""
    command = add_command(
        commands, "compare", _compare, "runs side by side: results, verdicts, cost, and which settings matter",
        epilog="Runs that differ in the seed alone are one variant. The first variant (none, the standard model, or\n"
        "else the one with the most seeds) is what the others are measured against: a t test of the best validation\n"
        "loss, paired by seed, adjusted for all of them by Holm's procedure. Runs of other data, vocabulary or\n"
        "context length are shown apart.\n"
        "examples:\n"
        "  spectral compare wave_2026 standard_2026           two runs by the beginnings of their names\n"
        "  spectral compare --study components --output out   a study, with files and plots\n"
        "  spectral compare --tag spectral.cell=none          all runs in the store that have a tag",
    )  # fmt: skip
    command.add_argument("runs", nargs="*", metavar="RUN", help=RUN_HELP)
    command.add_argument("--study", metavar="NAME", help="the runs of a study")
    command.add_argument("--tag", metavar="KEY=VALUE", action="append", default=[],
                         help="the runs in MLflow with this tag; may be given several times")  # fmt: skip
    command.add_argument("--tracking-uri", metavar="URI", help="store [MLFLOW_TRACKING_URI, else mlflow.db]")
    command.add_argument("--target", metavar="LOSS", type=float,
                         help="validation loss to be reached, for speed [the lowest that all runs reach]")  # fmt: skip
    command.add_argument("--importance", action="store_true", help="also say which settings the loss hangs on")
    command.add_argument("--output", metavar="FOLDER", help="also write Markdown, HTML, CSV and plots into it")
    command.add_argument("--mlflow", action="store_true", help="also put those files into the study in MLflow")


def _compare(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    tags = _tags(known)
    if bool(known.runs) == bool(tags):
        raise UserError("allowed: RUN..., or --study NAME and --tag KEY=VALUE; one of the two ways")
    if known.target is not None and not math.isfinite(known.target):
        raise UserError(f"--target: given {known.target}; allowed: a validation loss in nats a token")
    uri = resolve(None, known.tracking_uri)
    folder = _folder(known.output)
    frame, histories = _named(known.runs, uri) if known.runs else _tagged(tags, uri)
    return _tell(known, uri, folder, frame, histories)


def _tell(
    known: argparse.Namespace, uri: str, folder: Path | None, frame: pd.DataFrame, histories: pd.DataFrame
) -> int:
    from spectral_mlflow.analysis.comparison import finished
    from spectral_mlflow.analysis.importance import importance
    from spectral_mlflow.analysis.side_by_side import side_by_side

    found = side_by_side(frame, histories, known.target)
    # Losses of another data set are of another question.
    used = {row["run_id"] for group in found.groups[:1] for entry in group.entries for row in entry.rows.values()}
    counted = [row for row in finished(frame) if row["run_id"] in used]
    important = importance(counted) if known.importance else None
    _print(found, important)
    if not found.groups:
        return 0
    title = f"Study {known.study}" if known.study else "Comparison of runs"
    try:
        with _place(folder, known.mlflow) as place:
            if place is not None:
                _write(place, title, found, important, histories)
            if known.mlflow and place is not None:
                _publish(uri, sorted(used), place)
    except StoreError as failure:
        print(f"spectral: the comparison is not in MLflow: {failure}; give the same command again later",
              file=sys.stderr)  # fmt: skip
        return FAILED
    return 0


def _tags(known: argparse.Namespace) -> dict[str, str]:
    tags = {} if known.study is None else {SHORT["study"]: known.study}
    for text in known.tag:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UserError(f"--tag: given {text!r}; allowed: KEY=VALUE, such as {SHORT['cell']}=none")
        tags[SHORT.get(name, name)] = value
    return tags


def _folder(given: str | None) -> Path | None:
    """The folder to write into, found out before any work."""
    if given is None:
        return None
    folder = Path(given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise UserError(f"--output: given {given!r}, which is no folder and cannot be made ({failure})") from failure
    return folder


# Runs


def _tagged(tags: dict[str, str], uri: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs of a store that have some tags, with their histories."""
    from spectral_mlflow.analysis.runs import load_runs

    frame = load_runs(uri, tags=tags)
    if frame.empty:
        wanted = ", ".join(f"{name}={value}" for name, value in tags.items())
        raise UserError(
            f"no training run in {config.without_password(uri)} has {wanted}; allowed: tags of runs that are there; "
            "a study is made by: spectral ablate --study NAME"
        )
    return frame, _histories(frame, uri)


def _named(names: Sequence[str], uri: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Some runs, from their directories where those are here, else from the store; with their histories."""
    import pandas as pd

    from spectral_mlflow.analysis.directories import load_directory_histories, load_run_directories
    from spectral_mlflow.analysis.side_by_side import HISTORIES

    folders, elsewhere = [], []
    for name in dict.fromkeys(names):
        try:
            folders.append(runs.find_run(name, base()).resolve())
        except UserError as failure:
            elsewhere.append((name, failure))
    folders = list(dict.fromkeys(folders))
    frames = [load_run_directories(folders)] if folders else []
    points = [load_directory_histories(folders, HISTORIES)] if folders else []
    for name, unknown in elsewhere:
        frames.append(_in_store(name, unknown, uri))
        points.append(_histories(frames[-1], uri))
    frame = pd.concat(frames, ignore_index=True).drop_duplicates("run_id", ignore_index=True)
    return frame, pd.concat(points, ignore_index=True).drop_duplicates(["run_id", "key", "step"], ignore_index=True)


def _in_store(name: str, unknown: UserError, uri: str) -> pd.DataFrame:
    """The run of a store with a name that no run directory has."""
    from spectral_mlflow.analysis.runs import load_runs

    if "beginning of" in str(unknown):
        raise unknown
    try:
        frame = load_runs(uri, run_ids=[name]) if re.fullmatch("[0-9a-f]{32}", name) else load_runs(
            uri, tags={"spectral.key": name})  # fmt: skip
    except UserError as failure:
        raise UserError(f"{unknown}; {failure}") from failure
    if frame.empty:
        raise UserError(f"{unknown}; nor is it the MLflow run id or name of a run in {config.without_password(uri)}")
    return frame


def _histories(frame: pd.DataFrame, uri: str) -> pd.DataFrame:
    from spectral_mlflow.analysis.directories import with_directories
    from spectral_mlflow.analysis.runs import load_histories
    from spectral_mlflow.analysis.side_by_side import HISTORIES

    return with_directories(load_histories(uri, frame["run_id"], HISTORIES), frame, HISTORIES)


# Telling


def _print(found: SideBySide, important: Importance | None) -> None:
    from spectral_mlflow.analysis import report

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, soft_wrap=True)
    for made in report.tables(found, important):
        table = Table(*map(escape, made.columns), title=Text(made.title), title_justify="left", box=None,
                      header_style="bold")  # fmt: skip
        for row in made.rows:
            table.add_row(*map(Text, row))
        console.print(table)
        for note in made.notes:
            console.print(Text(f"  {note}"))
        console.print()
    for note in report.notes(found, important):
        console.print(Text(f"note: {note}"))
    compared = sum(len(group.entries) for group in found.groups)
    if not compared:
        console.print("no finished run with a seed and a finite validation loss: nothing to compare")
    elif compared == 1:
        console.print("one variant: nothing to compare it with")


@contextmanager
def _place(folder: Path | None, needed: bool) -> Iterator[Path | None]:
    """Where files are written: a folder that was asked for, or one for as long as it takes."""
    if folder is not None or not needed:
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def _write(folder: Path, title: str, found: SideBySide, important: Importance | None, histories: pd.DataFrame) -> None:
    from spectral_mlflow.analysis import report
    from spectral_mlflow.analysis.report_figures import draw

    figures = draw(folder, found, histories)
    for path in (*report.write(folder, title, found, important, figures), *figures):
        print(f"wrote       {path}")


def _publish(uri: str, used: Sequence[str], folder: Path) -> None:
    from spectral_mlflow.stores.comparison import FOLDER, publish

    print(f"MLflow run  {publish(uri, used, folder)}, folder {FOLDER} of its artifacts")
