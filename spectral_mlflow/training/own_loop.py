"""Your own loop: everything that keeps and watches a run, for any PyTorch training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from spectral_mlflow import provenance
from spectral_mlflow.config import home
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.anomalies import Anomalies
from spectral_mlflow.monitoring.data_usage import DataUsage
from spectral_mlflow.monitoring.monitor import Alert, Monitor
from spectral_mlflow.monitoring.progress import Progress
from spectral_mlflow.monitoring.quality_trend import QualityTrend
from spectral_mlflow.monitoring.runs import find_run
from spectral_mlflow.monitoring.text_quality import TextQuality
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.monitoring.watch import Watch
from spectral_mlflow.settings import parse
from spectral_mlflow.training.ending import drain
from spectral_mlflow.training.reactions import Reactions
from spectral_mlflow.training.signals import StopSignals
from spectral_mlflow.training.state import TrainState

KIND = "own-loop"  # The tag that keeps such runs out of the comparisons of this package's models.


def track(
    name: str,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    settings: Mapping[str, Any] | None = None,
    scheduler: Any = None,
    schedule: Callable[[int], float] | None = None,
    corpus: str | None = None,
    dataset: Mapping[str, Any] | None = None,
    seed: int = 0,
    grad_clip: float = 0.0,
    on_anomaly: str = "none",
    monitoring: Mapping[str, Any] | None = None,
    tracking_uri: str | None = None,
    resume: str | None = None,
) -> OwnLoop:
    """Keep and watch a loop: run directory, checkpoints, stores, log, progress, anomalies, profile.

    Use it as ``with track(...) as run``, with ``for step in run.steps()`` inside.

    Args:
        name: of the run.
        model: what is trained; its ``state_dict`` is checkpointed.
        optimizer: as is its.
        steps: of the whole run.
        settings: what is worth knowing of the run; they become parameters in the stores.
        scheduler: stepped after each update, and checkpointed.
        schedule: the learning rate that a step, from 1, should have; default: it is not watched.
        corpus: training text that samples are compared with.
        dataset: facts about the data, such as its ``name`` and ``sha256``.
        seed: told to torch, and written down.
        grad_clip: largest norm of the gradient; 0: any.
        on_anomaly: as the setting ``training.on_anomaly``.
        monitoring: settings of that section by their names, such as ``{"checkpoint_interval": 50}``.
        tracking_uri: where MLflow is; default: as for any run.
        resume: a run to go on with: its directory, id, a unique beginning of it, or ``latest``.

    Raises:
        UserError: a setting that is not allowed, or a run that cannot be continued.
    """
    config = parse({
        "name": name,
        "training": {"steps": steps, "seed": seed, "grad_clip": grad_clip, "on_anomaly": on_anomaly},
        "monitoring": dict(monitoring or {}),
    })  # fmt: skip
    run_dir = find_run(resume, home() / config.monitoring.experiments_dir) if resume else None
    torch.manual_seed(seed)
    own = {**(settings or {}), "steps": steps, "seed": seed, "grad_clip": grad_clip, "on_anomaly": on_anomaly}
    tracker = ExperimentTracker(
        config, run_dir=run_dir, tracking_uri=tracking_uri, tags={"spectral.kind": KIND}, settings=own
    )
    quality = TextQuality.of(corpus, config.monitoring.sample_tokens) if corpus else None
    state = TrainState(cast(Any, model), optimizer, nn.Module(), seed=seed, scheduler=scheduler)
    return OwnLoop(tracker, state, schedule=schedule, quality=quality, dataset=dataset)


class OwnLoop:
    """A run of a loop of your own (`track`).

    Attributes:
        tracker: writes the run; its ``run_dir`` is where.
        usage: counts the data; tell it of each batch with ``usage.add(files=..., tokens=...)``.
        state: what a checkpoint holds.
    """

    def __init__(
        self,
        tracker: ExperimentTracker,
        state: TrainState,
        *,
        schedule: Callable[[int], float] | None = None,
        quality: TextQuality | None = None,
        dataset: Mapping[str, Any] | None = None,
    ) -> None:
        self.tracker = tracker
        self.state = state
        self.usage = DataUsage()
        self._training = tracker.config.training
        self._schedule = schedule
        self._quality = quality
        self._dataset = dict(dataset or {})
        self._anomalies = Anomalies(self._training.steps) if tracker.config.monitoring.anomalies else None
        self._signals = StopSignals()
        self._metrics: dict[str, float] = {}
        self._newest: dict[str, float] = {}
        self._updated = True
        self._is_open = False  # Whether a step has begun that is not told of yet.
        self._stop: str | None = None
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._closing.close()
            self.tracker.close()
            raise
        return self

    def _begin(self) -> None:
        state, tracker = self.state, self.tracker
        monitors: dict[str, Monitor] = {"anomalies": self._anomalies} if self._anomalies else {}
        monitors |= {"quality": QualityTrend()} if self._quality else {}
        state.monitors = {**monitors, "usage": self.usage}
        if tracker.resumed:
            self._restore()
        self._closing.enter_context(self._signals)
        progress = Progress(self._training.steps, start_step=state.step)
        self._progress = self._closing.enter_context(progress)
        tracker.start_experiment(state.model, self._dataset, provenance.hardware(), step=state.step)
        self._watch = self._closing.enter_context(Watch(tracker, progress, monitors=monitors, usage=self.usage))
        self._watch.describe(state.model)
        self._reactions = Reactions(self._training, state, tracker.checkpoints)
        progress.note(f"{tracker.experiment_id}: {tracker.run_dir}")

    def _restore(self) -> None:
        checkpoint = self.tracker.checkpoints.load_latest_checkpoint()
        if checkpoint is None:
            raise UserError(f"{self.tracker.run_dir} has no whole checkpoint to go on from; begin a new run")
        self.state.restore(checkpoint)
        if self.state.step >= self._training.steps:
            raise UserError(
                f"{self.tracker.experiment_id} is at step {self.state.step} of {self._training.steps}; give more steps"
            )

    def steps(self) -> Iterator[int]:
        """The steps that are left, from 1 in a new run; ends early where a signal or an anomaly asks for it."""
        for step in range(self.state.step + 1, self._training.steps + 1):
            if self._signals.received or self._stop:
                return
            self.state.step, self._metrics, self._is_open, self._updated = step, {}, True, True
            yield step
            self._end_step()

    def section(self, name: str) -> AbstractContextManager[None]:
        """A context whose time the profile shows: data, forward, evaluation, or a name of your own."""
        return self._watch.section(name)

    def log(self, metrics: Mapping[str, float] | None = None, /, **named: float) -> None:
        """Metrics of this step, for its line; of ``val_loss`` the lowest is the best."""
        self._metrics |= {name: float(value) for name, value in {**(metrics or {}), **named}.items()}

    def update(self, loss: Tensor) -> bool:
        """Backward pass, clipping, and the step of the optimizer, unless loss or gradient is not finite.

        A loop that does these itself tells of them with `log`: ``loss``, ``learning_rate``, ``grad/norm``.

        Args:
            loss: a scalar.

        Returns:
            Whether the weights have changed.
        """
        state = self.state
        with self.section("backward"):
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            norm = nn.utils.clip_grad_norm_(state.model.parameters(), self._training.grad_clip or math.inf)
        value, norm_value = loss.item(), norm.item()
        skips = self._training.on_anomaly == "skip" and self._anomalies is not None
        outlying = skips and self._anomalies is not None and self._anomalies.would_skip(value, norm_value)
        self._updated = math.isfinite(value + norm_value) and not outlying
        lr = state.optimizer.param_groups[0]["lr"] * state.lr_scale
        with self.section("optimizer"):
            if self._updated:
                self._step_optimizer()
            state.optimizer.zero_grad(set_to_none=True)
        state.skipped += not self._updated
        self.log({"loss": value, "grad/norm": norm_value, "learning_rate": lr})
        return self._updated

    def _step_optimizer(self) -> None:
        """One step at the learning rate that rollbacks have left of the scheduled one."""
        groups = self.state.optimizer.param_groups
        scheduled = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = group["lr"] * self.state.lr_scale
        self.state.optimizer.step()
        for group, lr in zip(groups, scheduled, strict=True):
            group["lr"] = lr
        if self.state.scheduler is not None:
            cast(Any, self.state.scheduler).step()

    def sample(self, text: str) -> None:
        """Keep a text that the model has written, and compare it with the corpus."""
        with self.section("sample"):
            self.tracker.log_sample(self.state.step, text)
            if self._quality:
                self.log(self._quality.measure(text))

    def stop(self, reason: str) -> None:
        """End the run after this step."""
        self._stop = reason

    def _end_step(self) -> None:
        state, self._is_open = self.state, False
        step, metrics = state.step, self._metrics
        if "loss" in metrics:
            state.loss_history.append(metrics["loss"])
        is_best = metrics.get("val_loss", math.inf) < state.best_val_loss
        if is_best:
            state.best_val_loss, state.best_step = metrics["val_loss"], step
        if "val_loss" in metrics:
            metrics["best_val_loss"] = state.best_val_loss
        scheduled = None if self._schedule is None else self._schedule(step) * state.lr_scale
        findings = self._watch.step(step, metrics, scheduled_lr=scheduled, updated=self._updated)
        self._newest |= metrics
        if reaction := self._reactions.react(findings.alerts):
            self._watch.alert(step, Alert("reaction", "warning", reaction.message))
            self._stop = reaction.message if reaction.stop else self._stop
        rolled_back = reaction is not None and reaction.restored is not None
        if rolled_back or is_best or self._watch.due(step, self.tracker.config.monitoring.checkpoint_interval):
            self._save(best=is_best and not rolled_back)

    def _save(self, *, best: bool = False) -> None:
        state = self.state
        with self.section("checkpoint"):
            self.tracker.save_checkpoint(
                state.model, state.optimizer, state.scheduler, state.step, self._metrics,
                loss_history=state.loss_history, state=state.extra(), best=best, wait=False,
            )  # fmt: skip

    def __exit__(self, _: type[BaseException] | None, failure: BaseException | None, __: TracebackType | None) -> None:
        try:
            if failure is None:
                self._end()
            else:
                self._signals.patient = True
                status = "killed" if isinstance(failure, KeyboardInterrupt) else "failed"
                self.tracker.end_experiment(status, failure, step=self.state.step)
        finally:
            self._closing.close()
            self.tracker.close()

    def _end(self) -> None:
        if self._is_open:
            self._end_step()  # The loop has left `steps` early.
        state, tracker = self.state, self.tracker
        if tracker.saved_step() < state.step:
            self._save()
        status = "killed" if self._signals.received else "completed"
        best = f"{state.best_val_loss:.4f} at step {state.best_step}" if state.best_step else "not measured"
        shares = self._watch.finish(state.step, {"Best validation loss": best})
        reason = self._signals.received.name if self._signals.received else self._stop
        final = {**self._newest, "final_step": state.step, "skipped_steps": state.skipped, **shares}
        tracker.save_results(final, status=status, error=reason)
        self._signals.patient = True
        tracker.end_experiment(status, reason, step=state.step)
        drain(tracker, self._signals)
