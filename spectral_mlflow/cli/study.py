"""``spectral study``: finished runs under one parent run in MLflow, with the means over their seeds."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spectral_mlflow.cli.parser import RUN_HELP, Commands, add_command, base, nothing_else
from spectral_mlflow.cli.progress import shown
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import runs
from spectral_mlflow.monitoring.run_lock import is_running
from spectral_mlflow.stores import study, sync
from spectral_mlflow.stores.base import RunView, StoreError
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.stores.study import Published, Study, Variant
from spectral_mlflow.tracking_uri import resolve

if TYPE_CHECKING:  # pandas takes a second to import, which a mistake or a help text need not.
    from spectral_mlflow.analysis import comparison

FAILED = 1
LONGEST_LABEL = 100
# Without these two, and the data set, losses are of different questions; all else may be what the study is about.
SAME = ("model.vocab_size", "model.block_size")


def add(commands: Commands) -> None:
    """Declare the command."""
    command = add_command(
        commands, "study", _study, "put finished runs under one parent run in MLflow, with means over their seeds",
        epilog="Runs that differ in the seed alone are one variant. The parent run, called NAME, has the mean of each\n"
        "variant at every step that all its seeds have, as val_loss/wave, val_loss/standard and so on, and a table\n"
        "of the results in its description. The runs themselves stay as they are; MLflow shows them below it.\n"
        "Given again with the same runs, nothing changes; with others, the study of that name is replaced.\n"
        "All runs must be of the same data set and context length, in one store, and finished.\n"
        "example, for two models with three seeds each:\n"
        "  spectral study wave-or-standard wave_seed0 wave_seed1 wave_seed2 std_seed0 std_seed1 std_seed2",
    )  # fmt: skip
    command.add_argument("name", metavar="NAME", help="of the study: letters, digits, blanks, '_', '.' and '-'")
    command.add_argument("runs", nargs="+", metavar="RUN", help=RUN_HELP)


def _study(known: argparse.Namespace, rest: list[str]) -> int:
    nothing_else(rest)
    if not re.fullmatch(r"\w[\w .-]{0,79}", known.name):
        raise UserError(
            f"NAME: given {known.name!r}; allowed: 1 to 80 letters, digits, blanks, '_', '.' and '-', no mark first"
        )
    chosen = list(dict.fromkeys(runs.find_run(name, base()).resolve() for name in known.runs))
    for run_dir in chosen:
        _check_finished(run_dir)
        _check_store(run_dir)
    return complete(known.name, lambda: _put(known.name, chosen))


def complete(name: str, put: Callable[[], int]) -> int:
    """The exit code of putting a study together, where a store that does not answer is told in one line."""
    try:
        return put()
    except (StoreError, OSError) as failure:
        print(f"spectral: study {name!r} is not complete: {failure}; give the same command again later",
              file=sys.stderr)  # fmt: skip
        return FAILED


def is_wanted(run_dir: Path) -> bool:
    """Whether somebody has wanted a run in MLflow."""
    run = RunView(run_dir)
    return sync.MLFLOW in run.stores() or StoreState.load(run.state_path).run_id is not None


def _check_finished(run_dir: Path) -> None:
    if is_running(run_dir):
        raise UserError(f"run {run_dir.name} is running; allowed: finished runs; wait for its end")
    if not runs.is_finished(run_dir):
        raise UserError(
            f"run {run_dir.name} has not finished; allowed: finished runs; go on with: spectral resume {run_dir.name}"
        )


def _check_store(run_dir: Path) -> None:
    """Refuse a run that nobody has wanted in MLflow."""
    if not is_wanted(run_dir):
        raise UserError(f"run {run_dir.name}: {sync.NO_STORE}: spectral sync {run_dir.name} --tracking-uri URI")


def _put(name: str, chosen: Sequence[Path]) -> int:
    states = sent(chosen)
    uri = one_store(states)
    names = {str(state.run_id): run_dir.name for run_dir, state in states.items()}
    found, notes = _variants(uri, names)
    return put_together(uri, Study(name, found, tuple(notes), _command(name, found, names)), names)


def put_together(uri: str, made: Study, names: Mapping[str, str]) -> int:
    """Put a study into a store and tell of it.

    Args:
        uri: the store.
        made: the study.
        names: MLflow run to the name of its run directory.
    """
    with shown("the metrics") as show:
        published = study.publish(uri, made, lambda done, size: show(f"study {made.name}", done, size))
    _report(made, published, names, uri)
    return 0


def sent(chosen: Sequence[Path]) -> dict[Path, StoreState]:
    """Where each run is in its store, which has all of it."""
    states = {}
    with shown("the runs") as show:
        for done, run_dir in enumerate(chosen):
            show(f"sending {run_dir.name}", done, len(chosen))
            _check_there(RunView(run_dir))
            result = sync.sync_to_mlflow(run_dir)
            states[run_dir] = StoreState.load(RunView(run_dir).state_path)
            if not (result.complete and states[run_dir].closed):
                raise StoreError(str(result))
    return states


def _check_there(run: RunView) -> None:
    state = StoreState.load(run.state_path)
    if state.run_id is not None and study.is_deleted(sync.store_of(run), state.run_id):
        name = run.directory.name
        raise UserError(f"run {name} was deleted in MLflow; allowed: runs that are there; restore it with: "
                        f"spectral rebuild {name}")  # fmt: skip


def one_store(states: Mapping[Path, StoreState]) -> str:
    """The store that all runs are in; a UserError where they are in several."""
    first, *others = states
    for other in others:
        if states[other].tracking_uri != states[first].tracking_uri:
            raise UserError(
                f"runs are in different stores: {first.name} in {states[first].tracking_uri}, {other.name} in "
                f"{states[other].tracking_uri}; send one to the other's with: spectral sync RUN --tracking-uri URI"
            )
    return resolve(states[first].tracking_uri, None)


def _variants(uri: str, names: Mapping[str, str]) -> tuple[tuple[Variant, ...], list[str]]:
    """The variants of some runs and what to note of them.

    Args:
        uri: the store.
        names: MLflow run to the name of its run directory.
    """
    from spectral_mlflow.analysis import comparison, wording
    from spectral_mlflow.analysis.runs import load_runs

    rows = load_runs(uri, kind=None)
    rows = rows[rows["run_id"].isin(list(names))]
    counted = {row["run_id"] for row in comparison.finished(rows)}
    for run_id, name in names.items():
        if run_id not in counted:
            raise UserError(f"run {name} has no seed or no validation loss in MLflow; allowed: runs with both")
    found = comparison.variants(rows)
    _check_alike(found)
    labels = _labels(found)
    used = {run_id for variant in found for run_id in variant.runs.values()}
    notes = [
        f"{names[run_id]} is left out: a later run has its configuration and seed."
        for run_id in names
        if run_id in counted - used
    ]
    notes += [wording.verdict(one) for one in comparison.compare_all(found)[0]]
    notes += [f"{label}: one seed; its means are that run." for label, v in zip(labels, found, strict=True)
              if len(v.runs) == 1]  # fmt: skip
    return tuple(Variant(label, v.runs, _facts(v)) for label, v in zip(labels, found, strict=True)), notes


def _command(name: str, found: Sequence[Variant], names: Mapping[str, str]) -> str:
    """Makes the study again: a run a line, in an order that does not hang on the one that they were given in."""
    counted = [names[run_id] for variant in found for run_id in variant.runs.values()]
    others = sorted(set(names.values()) - set(counted))
    return " \\\n  ".join([shlex.join(["spectral", "study", name]), *map(shlex.quote, [*counted, *others])])


def _check_alike(found: Sequence[comparison.Variant]) -> None:
    """Refuse what analysis refuses to compare, but for the sizes of the models, which a study may be about."""
    from spectral_mlflow.analysis.comparison import MUST_MATCH

    for name in (name for name in MUST_MATCH if name.startswith("dataset.") or name in SAME):
        values = dict.fromkeys(variant.settings.get(name) for variant in found)
        if None in values:
            raise UserError(f"{name} was not recorded of a run; losses can be compared only where it is the same")
        if len(values) > 1:
            raise UserError(f"{name}: given runs with {', '.join(map(str, values))}; allowed: runs that agree in it")
    if any(variant.settings.get("training.auto_batch_size") for variant in found):
        raise UserError("training.auto_batch_size: on in one of the runs; allowed: runs with training.batch_size")


def _labels(found: Sequence[comparison.Variant]) -> list[str]:
    from spectral_mlflow.analysis import wording

    return told_apart([label_of(label) for label in wording.labels(found)])


def told_apart(labels: Sequence[str]) -> list[str]:
    """The same labels, with a number behind those that are there twice."""
    return [label if labels.count(label) == 1 else f"{label} {place}" for place, label in enumerate(labels, 1)]


def label_of(text: str) -> str:
    """A text as the second part of the names of metrics, where MLflow allows few marks."""
    return re.sub(r"[^\w .:-]+", " ", text).replace("  ", " ").strip()[:LONGEST_LABEL]


def _facts(variant: comparison.Variant) -> dict[str, str]:
    size = variant.settings.get("model.num_parameters")
    return {
        "parameters": "unknown" if size is None else f"{size:,}",
        "best validation loss": variant.loss.text(),
        "perplexity": variant.perplexity.text(2),
    }


def _report(made: Study, published: Published, names: Mapping[str, str], uri: str) -> None:
    from spectral_mlflow.analysis.wording import seeds

    print(f"study       {made.name}" + ("" if published.changed else " (is there already)"))
    print(f"MLflow run  {published.run_id}")
    for variant in made.variants:
        print(f"variant     {variant.label}, {seeds(variant.runs)}: {variant.facts['best validation loss']}")
    for note in (*made.notes, *_apart(published), *_elsewhere(published, names)):
        print(f"note        {note}")
    print(f"look at it  {f'open {uri}' if uri.startswith('http') else f'mlflow ui --backend-store-uri {uri}'}")


def _apart(published: Published) -> Iterator[str]:
    for label in published.apart:
        yield f"{label}: its seeds share no step of val_loss, so that it has no mean of it."


def _elsewhere(published: Published, names: Mapping[str, str]) -> Iterator[str]:
    for run_id in published.elsewhere:
        yield f"{names[run_id]} stays below its other parent: MLflow shows a run below one alone."
