"""Continuing a run: which one, with which settings, from which checkpoint, and whether it is still the same run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig, home
from spectral_mlflow.data import tokenizers
from spectral_mlflow.data.dataset import Dataset
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.configs import ConfigTracker
from spectral_mlflow.monitoring.run_lock import is_running
from spectral_mlflow.monitoring.runs import changed_settings, is_finished, run_directories
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.provenance import sha256
from spectral_mlflow.settings import build, differences, parse, put
from spectral_mlflow.training.devices import Machine

# A continued run may be longer, and may be watched differently. Anything else would be another run.
MAY_CHANGE = ("training.steps", "monitoring.", "runtime.")
TOKENIZER = "tokenizer.json"


class NoCheckpointError(UserError):
    """A run that left no whole checkpoint cannot be continued."""


def settings(run_dir: Path, overrides: Mapping[str, str]) -> ExperimentConfig:
    """The settings with which a run goes on.

    Args:
        run_dir: its directory.
        overrides: settings that differ from those of the run, by any of their names.

    Raises:
        UserError: settings that may not change.
    """
    return _changed(_as_last_continued(run_dir, ConfigTracker(str(run_dir)).load_settings()), overrides)


def _as_last_continued(run_dir: Path, written: ExperimentConfig) -> ExperimentConfig:
    """The settings of the run, with what earlier continuations have changed."""
    values = written.to_dict()
    for name, value in changed_settings(journal.records(run_dir / "logs" / "events.jsonl")).items():
        put(values, name, value)
    return parse(values)


def _changed(config: ExperimentConfig, overrides: Mapping[str, str]) -> ExperimentConfig:
    changed = build(overrides, config)
    refused = [
        f"{name} (was {old}, given {new})"
        for name, (old, new) in differences(config, changed).items()
        if not name.startswith(MAY_CHANGE)
    ]
    if refused:
        raise UserError(
            f"a continued run may not change {', '.join(refused)}; start a new run with spectral train --config"
        )
    return changed


def check_corpus(written: Mapping[str, Any], dataset: Dataset) -> None:
    """Compare a corpus with what config.json says of it.

    Raises:
        UserError: it is another one.
    """
    found = dataset.info()["sha256"]
    if written.get("sha256") != found:
        raise UserError(
            f"dataset {written.get('name')} is not what the run was trained on "
            f"(sha256 {str(written.get('sha256'))[:12]}, now {found[:12]}); "
            "restore the old files, or start a new run"
        )


def check_tokenizer(run_dir: Path, dataset: Dataset) -> None:
    """Compare the tokenizer of a run with that of its corpus.

    Raises:
        UserError: they differ, or the run has lost its own.
    """
    with TemporaryDirectory() as folder:
        digests = []
        for number, tokenizer in enumerate((tokenizers.load(run_dir / TOKENIZER), dataset.tokenizer)):
            path = Path(folder) / f"{number}.json"
            tokenizer.save(path)
            digests.append(sha256(path.read_bytes())[:12])
    if digests[0] != digests[1]:
        raise UserError(
            f"{run_dir / TOKENIZER} is not the tokenizer that the run was trained with "
            f"(sha256 {digests[1]}, now {digests[0]}); restore the file, or start a new run"
        )


def newest_checkpoint(tracker: ExperimentTracker, steps: int) -> dict[str, Any]:
    """The newest whole checkpoint of a run that is to have so many steps.

    Raises:
        NoCheckpointError: there is none.
        UserError: it has as many steps already.
    """
    checkpoint = tracker.checkpoints.load_latest_checkpoint()
    if checkpoint is None:
        raise NoCheckpointError(
            f"{tracker.run_dir} has no whole checkpoint to continue from; "
            f"start it again: spectral train --config {tracker.run_dir / 'config.json'}"
        )
    ended = checkpoint["step"] == steps and not is_finished(tracker.run_dir)  # Only its end is still to be written.
    if checkpoint["step"] >= steps and not ended:
        raise UserError(
            f"{tracker.experiment_id} has already done its {checkpoint['step']} steps; "
            f"to go on, give more: --steps {2 * checkpoint['step']}"
        )
    return checkpoint


def warn_of_another_machine(
    tracker: ExperimentTracker, checkpoint: Mapping[str, Any], written: Mapping[str, Any], machine: Machine
) -> None:
    """Alert where device, precision or number of threads are not those that the run has had."""
    now = machine.facts()
    for name in ("device", "precision", "threads"):
        then = checkpoint["state"]["threads"] if name == "threads" else written.get(name, now[name])
        if then != now[name]:
            message = f"the run used {name}={then}, now {now[name]}"
            advice = f"sums are rounded differently then; runtime.{name}={then} repeats them to the last bit"
            tracker.alert(checkpoint["step"], "warning", "resume", message, advice)


def unfinished(config: ExperimentConfig) -> Path | None:
    """The newest run of these settings that neither is done nor goes on, if there is one.

    It may have been started with these settings, or continued with them. What a run finds out for itself, such as
    which corpus ``auto`` means, need not be known yet.

    Args:
        config: settings of the run that is wanted.
    """
    for run_dir in reversed(run_directories(home() / config.monitoring.experiments_dir)):
        if is_running(run_dir) or is_finished(run_dir):
            continue
        try:
            written = ConfigTracker(str(run_dir)).load_settings()
            known = (written, _as_last_continued(run_dir, written))
        except UserError:  # Of another version, or damaged: not a run of these settings.
            continue
        if any(_is_same(config, settings) for settings in known):
            return run_dir
    return None


def _is_same(asked: ExperimentConfig, known: ExperimentConfig) -> bool:
    dataset, training = asked.dataset, asked.training
    if dataset.name == "auto":
        dataset = replace(dataset, name=known.dataset.name)
    if training.auto_batch_size:
        training = replace(training, batch_size=known.training.batch_size)
    try:
        completed = replace(asked, dataset=dataset, training=training)
    except ValueError:  # That corpus has settings that `auto` cannot mean.
        return False
    return completed.hash() == known.hash() and completed.name == known.name
