"""From settings to a finished run: prepare, train, and end it truthfully."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig, home
from spectral_mlflow.data import dataset as datasets
from spectral_mlflow.data.dataset import Dataset
from spectral_mlflow.errors import UserError
from spectral_mlflow.losses import build_loss
from spectral_mlflow.models import gpt
from spectral_mlflow.monitoring.configs import ConfigTracker
from spectral_mlflow.monitoring.directories import check_writable
from spectral_mlflow.monitoring.progress import Progress
from spectral_mlflow.monitoring.runs import changed_settings
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.optim import build_optimizer
from spectral_mlflow.settings import build, differences, parse, put
from spectral_mlflow.training import batch_size, devices
from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.learner import Learner
from spectral_mlflow.training.loop import Outcome, Trainer
from spectral_mlflow.training.sampling import export_at_end
from spectral_mlflow.training.signals import StopSignals
from spectral_mlflow.training.speed import Speed, matmul_rate
from spectral_mlflow.training.state import TrainState

# A continued run may be longer, and may be watched differently. Anything else would be another run.
MAY_CHANGE = ("training.steps", "monitoring.", "runtime.")


@dataclass(frozen=True)
class Finished:
    """What is known of a run at its end."""

    run_dir: Path
    outcome: Outcome
    results: dict[str, Any]
    sample: str
    store: dict[str, Any]
    store_complete: bool


def dry(config: ExperimentConfig) -> ExperimentConfig:
    """Ten steps in which everything happens that happens in a long run."""
    training = config.training
    return replace(
        config,
        name=f"{str(config.name)[:76]}-dry",  # A name has at most 80 characters.
        training=replace(
            training,
            steps=10,
            warmup_steps=min(training.warmup_steps, 5),
            block_warmup_steps=min(training.block_warmup_steps, 5),
        ),
        monitoring=replace(
            config.monitoring, log_interval=1, eval_interval=5, checkpoint_interval=5, viz_interval=5, sample_tokens=50
        ),
    )


def start(
    config: ExperimentConfig, *, tracking_uri: str | None = None, tags: Mapping[str, str] | None = None
) -> Finished:
    """Train a new run.

    Everything that a user may have got wrong is checked before the run directory is made.

    Raises:
        UserError: corpus, device, sizes or directory cannot be used.
    """
    check_writable(str(home() / config.monitoring.experiments_dir))
    machine = devices.choose(config.runtime)
    if config.training.auto_batch_size:
        batch_size.check_device(machine.device)
    dataset = datasets.prepare(config.dataset, config.model.block_size)
    config = replace(config, dataset=replace(config.dataset, name=dataset.info()["name"]))
    if config.training.auto_batch_size:
        config = _with_largest_batch(config, dataset, machine)
    state = _new_state(config, dataset, machine)
    tracker = ExperimentTracker(config, tracking_uri=tracking_uri, tags=tags)
    dataset.tokenizer.save(tracker.run_dir / "tokenizer.json")
    return _train(config, dataset, state, tracker, machine)


def resume(run_dir: Path, overrides: Mapping[str, str], *, tracking_uri: str | None = None) -> Finished:
    """Continue a run from its newest whole checkpoint.

    Args:
        run_dir: its directory.
        overrides: settings that differ from those of the run, by any of their names.
        tracking_uri: where its store is now, if not where it was.

    Raises:
        UserError: settings that may not change, another corpus, no whole checkpoint, nothing left to do.
    """
    configs = ConfigTracker(str(run_dir))
    config = _changed(_as_last_continued(run_dir, configs.load_settings()), overrides)
    written = configs.load_config()
    machine = devices.choose(config.runtime)
    dataset = datasets.prepare(config.dataset, config.model.block_size)
    _same_corpus(written["dataset"], dataset)
    state = _new_state(config, dataset, machine)
    tracker = ExperimentTracker(config, run_dir=run_dir, tracking_uri=tracking_uri)
    try:
        checkpoint = _newest_checkpoint(tracker, config.training.steps)
    except UserError:
        tracker.close()
        raise
    _warn_of_another_machine(tracker, checkpoint, written["hardware"], machine)
    state.restore(checkpoint)
    return _train(config, dataset, state, tracker, machine)


def _newest_checkpoint(tracker: ExperimentTracker, steps: int) -> dict[str, Any]:
    checkpoint = tracker.checkpoints.load_latest_checkpoint()
    if checkpoint is None:
        raise UserError(
            f"{tracker.run_dir} has no whole checkpoint to continue from; "
            f"start it again: spectral train --config {tracker.run_dir / 'config.json'}"
        )
    if checkpoint["step"] >= steps:
        raise UserError(
            f"{tracker.experiment_id} has already done its {checkpoint['step']} steps; "
            f"to go on, give more: --steps {2 * checkpoint['step']}"
        )
    return checkpoint


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


def _same_corpus(written: Mapping[str, Any], dataset: Dataset) -> None:
    found = dataset.info()["sha256"]
    if written["sha256"] != found:
        raise UserError(
            f"dataset {written['name']} is not what the run was trained on "
            f"(sha256 {written['sha256'][:12]}, now {found[:12]}); "
            "restore the old files, or start a new run"
        )


def _warn_of_another_machine(
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


def _with_largest_batch(config: ExperimentConfig, dataset: Dataset, machine: Machine) -> ExperimentConfig:
    with Progress(config.training.steps) as progress:
        progress.note("looking for the largest batch that fits")
        found = batch_size.largest(config, dataset, _new_state(config, dataset, machine), machine)
        progress.note(f"training.batch_size={found} is the largest that fits")
    return replace(config, training=replace(config.training, batch_size=found))


def _new_state(config: ExperimentConfig, dataset: Dataset, machine: Machine) -> TrainState:
    vocab_size = dataset.tokenizer.vocab_size
    torch.manual_seed(config.training.seed)  # Dropout draws from the global generator.
    model = gpt.build(config.model, vocab_size, config.training.seed).to(machine.device)
    model.activation_checkpointing = config.runtime.activation_checkpointing
    loss = build_loss(config.training, vocab_size).to(machine.device)
    return TrainState(model, build_optimizer(model, config.training), loss, machine.scaler())


def _train(
    config: ExperimentConfig, dataset: Dataset, state: TrainState, tracker: ExperimentTracker, machine: Machine
) -> Finished:
    try:
        speed = Speed(state.model.flops_per_token(), matmul_rate(machine.device, machine.precision))
        tracker.start_experiment(state.model, dataset.info(), machine.facts())
        tracker.add_artifact(tracker.run_dir / "tokenizer.json", "tokenizer")
        with StopSignals() as signals, Progress(config.training.steps, start_step=state.step) as progress:
            _tell(config, machine, state.step, tracker, progress)
            trainer = Trainer(config, Learner(config, dataset, state, machine, speed), tracker, progress)
            outcome = trainer.run(signals)
    except BaseException as failure:
        stopped = isinstance(failure, KeyboardInterrupt)
        tracker.end_experiment("killed" if stopped else "failed", failure, step=state.step)
        tracker.close()
        raise
    results = trainer.results()
    tracker.save_results(
        results,
        status=outcome.status,
    )
    export_at_end(tracker, state.step)
    tracker.end_experiment(outcome.status, outcome.reason, step=state.step)
    complete = tracker.wait_for_stores(seconds=60)
    tracker.close()
    return Finished(tracker.run_dir, outcome, results, tracker.last_sample(), tracker.store_state(), complete)


def _tell(
    config: ExperimentConfig, machine: Machine, step: int, tracker: ExperimentTracker, progress: Progress
) -> None:
    """What a person should know before the first step."""
    tracker.log.entry("INFO", "machine", "Machine", {name: str(value) for name, value in machine.facts().items()})
    if config.training.auto_batch_size:
        tracker.log.entry("INFO", "machine", f"batch size {config.training.batch_size}, the largest that fits")
    if machine.warning:
        progress.note(machine.warning)
        tracker.alert(step, "warning", "precision", machine.warning, "runtime.precision=auto takes what is fast here")
