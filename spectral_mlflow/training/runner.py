"""From settings to a finished run: prepare, train, and end it truthfully."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from spectral_mlflow.config import ExperimentConfig, home
from spectral_mlflow.data import dataset as datasets
from spectral_mlflow.data.dataset import Dataset
from spectral_mlflow.losses import build_loss
from spectral_mlflow.models import gpt
from spectral_mlflow.monitoring.configs import ConfigTracker
from spectral_mlflow.monitoring.directories import check_writable
from spectral_mlflow.monitoring.monitor import Alert
from spectral_mlflow.monitoring.progress import Progress
from spectral_mlflow.monitoring.run_lock import cannot_write
from spectral_mlflow.monitoring.runs import is_finished
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.monitoring.watch import Watch
from spectral_mlflow.optim import build_optimizer
from spectral_mlflow.training import batch_size, devices
from spectral_mlflow.training.continuation import (
    MAY_CHANGE,
    TOKENIZER,
    check_corpus,
    check_tokenizer,
    newest_checkpoint,
    settings,
    warn_of_another_machine,
)
from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.ending import drain, draw
from spectral_mlflow.training.fit import check_settings
from spectral_mlflow.training.gallery import Gallery
from spectral_mlflow.training.learner import Learner
from spectral_mlflow.training.loop import Outcome, Trainer
from spectral_mlflow.training.sampling import export_at_end
from spectral_mlflow.training.signals import StopSignals
from spectral_mlflow.training.speed import Speed, matmul_rate
from spectral_mlflow.training.state import TrainState
from spectral_mlflow.training.watching import Watching, attach


@dataclass(frozen=True)
class Finished:
    """What is known of a run at its end."""

    run_dir: Path
    outcome: Outcome
    results: dict[str, Any]
    sample: str
    store: dict[str, Any]
    store_complete: bool
    alerts: list[str] = field(default_factory=list)


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
    state = new_state(config, dataset, machine)
    watching = attach(config, dataset, state, machine)
    with StopSignals() as signals:
        tracker = ExperimentTracker(config, tracking_uri=tracking_uri, tags=tags)
        return _train(config, dataset, state, tracker, machine, watching, signals)


def resume(run_dir: Path, overrides: Mapping[str, str], *, tracking_uri: str | None = None) -> Finished:
    """Continue a run from its newest whole checkpoint.

    Args:
        run_dir: its directory.
        overrides: settings that differ from those of the run, by any of their names.
        tracking_uri: where its store is now, if not where it was.

    Raises:
        NoCheckpointError: there is no whole one.
        UserError: settings that may not change, another corpus or tokenizer, a checkpoint of another model or
            configuration, nothing left to do, or a directory that cannot be written.
    """
    config, written = settings(run_dir, overrides), ConfigTracker(str(run_dir)).load_config()
    machine = devices.choose(config.runtime)
    dataset = datasets.prepare(config.dataset, config.model.block_size)
    check_corpus(written["dataset"], dataset)
    check_tokenizer(run_dir, dataset)
    state = new_state(config, dataset, machine)
    watching = attach(config, dataset, state, machine)
    with StopSignals() as signals:
        tracker = ExperimentTracker(config, run_dir=run_dir, tracking_uri=tracking_uri)
        try:
            checkpoint = newest_checkpoint(tracker, config.training.steps)
            check_settings(checkpoint, config, MAY_CHANGE)
            anew = state.restore(checkpoint)
        except BaseException:
            tracker.close()
            raise
        warn_of_another_machine(tracker, checkpoint, written["hardware"], machine)
        for name in anew:
            tracker.alert(state.step, "warning", "resume", f"monitor {name} begins anew",
                          "the run went without it when its checkpoint was written")  # fmt: skip
        for alert in state.take_complaints():
            tracker.alert(state.step, alert.severity, alert.kind, alert.message, alert.advice)
        return _train(config, dataset, state, tracker, machine, watching, signals)


def _with_largest_batch(config: ExperimentConfig, dataset: Dataset, machine: Machine) -> ExperimentConfig:
    with Progress(config.training.steps) as progress:
        progress.note("looking for the largest batch that fits")
        found = batch_size.largest(config, dataset, new_state(config, dataset, machine), machine)
        progress.note(f"training.batch_size={found} is the largest that fits")
    return replace(config, training=replace(config.training, batch_size=found))


def new_state(config: ExperimentConfig, dataset: Dataset, machine: Machine) -> TrainState:
    """The state of a run before its first step."""
    vocab_size = dataset.tokenizer.vocab_size
    torch.manual_seed(config.training.seed)  # Dropout draws from the global generator.
    model = gpt.build(config.model, vocab_size, config.training.seed).to(machine.device)
    model.activation_checkpointing = config.runtime.activation_checkpointing
    loss = build_loss(config.training, vocab_size).to(machine.device)
    optimizer = build_optimizer(model, config.training)
    return TrainState(model, optimizer, loss, machine.scaler(), seed=config.training.seed)


def _train(
    config: ExperimentConfig,
    dataset: Dataset,
    state: TrainState,
    tracker: ExperimentTracker,
    machine: Machine,
    watching: Watching,
    signals: StopSignals,
) -> Finished:
    ended_before = is_finished(tracker.run_dir)
    try:
        speed = Speed(state.model.flops_per_token(), matmul_rate(machine.device, machine.precision))
        _begin(tracker, state, dataset, machine)
        progress = Progress(config.training.steps, start_step=state.step, pauses=watching.pauses)
        with progress, watching.watch(tracker, progress) as watch:
            _tell(config, machine, state, watch)
            learner = Learner(
                config, dataset, state, machine, speed,
                profiler=watching.profiler, would_skip=watching.would_skip(config.training),
            )  # fmt: skip
            gallery = Gallery(config, dataset, state, watch, watching.quality)
            if config.monitoring.model_graph:
                gallery.draw_graph()
            trainer = Trainer(config, learner, watch, gallery)
            outcome = trainer.run(signals, ended_before=ended_before)
            results = trainer.results() | watch.finish(state.step, trainer.summary())
        draw(tracker, signals)
        tracker.save_results(results, status=outcome.status, error=outcome.reason)
        export_at_end(tracker, state.step)
    except BaseException as failure:
        _end_early(tracker, state.step, failure, signals)
        raise
    signals.patient = True
    tracker.end_experiment(outcome.status, outcome.reason, step=state.step)
    complete = drain(tracker, signals)
    tracker.close()
    sample, store = (tracker.samples.texts() or [""])[-1], tracker.store_state()
    return Finished(tracker.run_dir, outcome, results, sample, store, complete, tracker.alerts)


def _begin(tracker: ExperimentTracker, state: TrainState, dataset: Dataset, machine: Machine) -> None:
    """Write what the run is.

    Raises:
        UserError: the run directory cannot be written.
    """
    try:
        if not tracker.resumed:
            dataset.tokenizer.save(tracker.run_dir / TOKENIZER)
        tracker.start_experiment(state.model, dataset.info(), machine.facts(), step=state.step)
    except OSError as failure:
        raise cannot_write(tracker.run_dir, failure) from None
    tracker.add_artifact(tracker.run_dir / TOKENIZER, "tokenizer")


def _end_early(tracker: ExperimentTracker, step: int, failure: BaseException, signals: StopSignals) -> None:
    """End a run that was stopped at once, or that failed."""
    signals.patient = True  # What follows takes milliseconds, and makes the difference between KILLED and unknown.
    if not isinstance(failure, KeyboardInterrupt):
        tracker.end_experiment("failed", failure, step=step)
    else:
        tracker.end_experiment("killed", "SIGINT, at once", step=step)
        with Progress(step) as progress:
            progress.note(f"stopped at once; continue with: spectral resume {tracker.experiment_id}")
    tracker.close()


def _tell(config: ExperimentConfig, machine: Machine, state: TrainState, watch: Watch) -> None:
    """What a person should know before the first step."""
    watch.entry("machine", "Machine", {name: str(value) for name, value in machine.facts().items()})
    watch.describe(state.model)
    if config.training.auto_batch_size:
        watch.entry("machine", f"batch size {config.training.batch_size}, the largest that fits")
    if machine.warning:
        advice = "runtime.precision=auto takes what is fast here"
        watch.alert(state.step, Alert("precision", "warning", machine.warning, advice=advice))
