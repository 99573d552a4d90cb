"""Your own loop: everything that keeps and watches a run, for any PyTorch training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from spectral_mlflow import provenance
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.anomalies import Anomalies
from spectral_mlflow.monitoring.data_usage import DataUsage
from spectral_mlflow.monitoring.monitor import Alert, Monitor
from spectral_mlflow.monitoring.progress import Progress
from spectral_mlflow.monitoring.quality_trend import QualityTrend
from spectral_mlflow.monitoring.remaining_time import Pause
from spectral_mlflow.monitoring.runs import is_finished
from spectral_mlflow.monitoring.text_quality import TextQuality
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.monitoring.watch import ASIDE, Watch
from spectral_mlflow.training.ending import drain, draw
from spectral_mlflow.training.reactions import Reactions
from spectral_mlflow.training.scheduled_step import scheduled_step
from spectral_mlflow.training.signals import StopSignals
from spectral_mlflow.training.state import TrainState

KIND = "own-loop"  # The tag that keeps such runs out of the comparisons of this package's models.


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
        reference = quality.reference if quality else None
        watched = tracker.config.monitoring.anomalies
        self._anomalies = Anomalies(self._training.steps, reference=reference) if watched else None
        self._signals = StopSignals()
        self._metrics: dict[str, float] = {}
        self._updated, self._by_update = True, False
        self._is_open = self._is_used = False  # Whether a step has begun that is not told of yet; and was worked on.
        self._began = self._aside = 0.0
        self._tokens = 0
        self._stop: str | None = None
        self._failure: str | None = None
        self._watch: Watch | None = None
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        if self._watch is not None:
            raise UserError("a run is entered once; begin another one with track(...), or go on with resume=")
        try:
            self._begin()
        except BaseException as failure:
            if self._watch is not None:
                self._end_early(failure)
            self._closing.close()
            self.tracker.close()
            raise
        return self

    def _begin(self) -> None:
        state, tracker = self.state, self.tracker
        monitors: dict[str, Monitor] = {"anomalies": self._anomalies} if self._anomalies else {}
        monitors |= {"quality": QualityTrend()} if self._quality else {}
        state.monitors = {**monitors, "usage": self.usage}
        anew = self._restore() if tracker.resumed else []
        self._closing.enter_context(self._signals)
        pauses = {"checkpoint": Pause(tracker.config.monitoring.checkpoint_interval, after=True)}
        progress = Progress(self._training.steps, start_step=state.step, pauses=pauses)
        self._closing.enter_context(progress)
        tracker.start_experiment(state.model, self._dataset, provenance.hardware(), step=state.step)
        self._watch = self._closing.enter_context(Watch(tracker, progress, monitors=monitors, usage=self.usage))
        self._watch.describe(state.model)
        for name in anew:
            self._watch.alert(state.step, Alert("resume", "warning", f"monitor {name} begins anew"))
        self._tell_complaints()
        self._tokens = self.usage.tokens
        self._reactions = Reactions(self._training, state, tracker.checkpoints)
        progress.note(f"{tracker.experiment_id}: {tracker.run_dir}")
        if state.step == 0 and tracker.config.monitoring.viz_interval:
            self._draw()

    def _restore(self) -> list[str]:
        """Go on from the newest checkpoint; returns the monitors that begin anew."""
        checkpoint = self.tracker.checkpoints.load_latest_checkpoint()
        if checkpoint is None:
            raise UserError(f"{self.tracker.run_dir} has no whole checkpoint to go on from; begin a new run")
        anew = self.state.restore(checkpoint)
        self.state.skipped_in_a_row = 0
        if self.state.step >= self._training.steps and is_finished(self.tracker.run_dir):
            raise UserError(
                f"{self.tracker.experiment_id} is at step {self.state.step} of {self._training.steps}; give more steps"
            )
        return anew

    @property
    def status(self) -> str:
        """How the run ends, or would end now: completed, failed or killed."""
        return "failed" if self._failure else "killed" if self._signals.received else "completed"

    def steps(self) -> Iterator[int]:
        """The steps that are left, from 1 in a new run; ends early where a signal or an anomaly asks for it.

        It may be left and asked for again, once an epoch for example.

        Raises:
            UserError: the run was not entered.
        """
        self._entered()
        self._settle()
        while self.state.step < self._training.steps and not (self._signals.received or self._stop or self._failure):
            self.state.step += 1
            self._metrics, self._updated = {}, True
            self._is_open, self._is_used = True, False
            self._began, self._aside = time.perf_counter(), 0.0
            yield self.state.step
            self._end_step()

    def _settle(self) -> None:
        """End a step that the loop has left `steps` in; one that it has not begun to work on is none."""
        if self._is_open and self._is_used:
            self._end_step()
        elif self._is_open:
            self.state.step -= 1
            self._is_open = False

    def _entered(self) -> Watch:
        if self._watch is None:
            raise UserError("the run was not entered; write: with track(...) as run")
        return self._watch

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """A context whose time the profile shows: data, forward, evaluation, or a name of your own."""
        began = time.perf_counter()
        try:
            with self._entered().section(name):
                yield
        finally:
            self._aside += (time.perf_counter() - began) * (name in ASIDE)

    def log(self, metrics: Mapping[str, float] | None = None, /, **named: float) -> None:
        """Metrics of this step, for its line; of ``val_loss`` the lowest is the best."""
        self._is_used = True
        self._metrics |= {name: float(value) for name, value in {**(metrics or {}), **named}.items()}

    def update(self, loss: Tensor) -> bool:
        """Backward pass, clipping, and the step of the optimizer, unless loss or gradient is not finite.

        A loop that does these itself tells of them with `log`: ``loss``, ``learning_rate``, ``grad/norm``.

        Args:
            loss: a scalar.

        Returns:
            Whether the weights have changed.

        Raises:
            UserError: the optimizer wants to compute the loss itself.
        """
        state, self._by_update = self.state, True
        with self.section("backward"):
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            norm = nn.utils.clip_grad_norm_(state.model.parameters(), self._training.grad_clip or math.inf)
        value, norm_value = loss.item(), norm.item()
        self._updated = math.isfinite(value + norm_value) and not self._would_skip(value, norm_value)
        measured = {"loss": value, "grad/norm": norm_value}
        measured["learning_rate"] = state.optimizer.param_groups[0]["lr"] * state.lr_scale
        with self.section("optimizer"):
            if self._updated:
                measured |= scheduled_step(state)
            state.optimizer.zero_grad(set_to_none=True)
        self._count(value, norm_value)
        self.log(measured)
        return self._updated

    def _would_skip(self, loss: float, norm: float) -> bool:
        anomalies = self._anomalies if self._training.on_anomaly == "skip" else None
        return anomalies is not None and anomalies.would_skip(loss, norm)

    def _count(self, loss: float, norm: float) -> None:
        """Count the steps that left the weights as they were; too many in a row end the run."""
        state = self.state
        if self._updated:
            state.skipped_in_a_row = 0
            return
        state.skipped += 1
        state.skipped_in_a_row += 1
        if self._anomalies is None or not self._anomalies.works:
            message = f"step {state.step} skipped: loss {loss}, gradient norm {norm}"
            advice = "lower the learning rate, or clip the gradient (grad_clip)"
            self._entered().alert(state.step, Alert("non_finite", "critical", message, advice=advice))
        if state.skipped_in_a_row >= self._training.max_skipped:
            self._failure = f"{state.skipped_in_a_row} steps in a row without a finite loss and gradient"

    def sample(self, text: str) -> None:
        """Keep a text that the model has written, and compare it with the corpus."""
        self._is_used = True
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
        if self._training.on_anomaly in ("skip", "rollback") and not self._by_update:
            raise UserError(
                f"on_anomaly: given {self._training.on_anomaly} with a loop that takes its own steps; "
                "allowed: none or stop, or any with run.update(loss)"
            )
        if "loss" in metrics:
            state.loss_history.append(metrics["loss"])
        is_best = self._evaluated(metrics)
        seconds = max(time.perf_counter() - self._began - self._aside, 1e-9)
        if (tokens := self.usage.tokens - self._tokens) > 0:
            metrics.setdefault("tokens_per_sec", tokens / seconds)
        self._tokens = self.usage.tokens
        scheduled = None if self._schedule is None else self._schedule(step) * state.lr_scale
        watch = self._entered()
        findings = watch.step(step, metrics, seconds=seconds, scheduled_lr=scheduled, updated=self._updated)
        restored = self._react(findings.alerts)
        if restored or is_best or watch.due(step, self.tracker.config.monitoring.checkpoint_interval):
            self._save(best=is_best and not restored)
        if watch.due(step, self.tracker.config.monitoring.viz_interval):
            self._draw()

    def _draw(self) -> None:
        """Have drawn how the training goes, and what is known of the model."""
        with self.section("plots"):
            self.tracker.plots.look(self.state.step, self.state.model)
            self.tracker.plots.draw(self.state.step)

    def _evaluated(self, metrics: dict[str, float]) -> bool:
        """Take note of a validation loss; returns whether it is the best so far."""
        if "val_loss" not in metrics:
            return False
        state, loss = self.state, metrics["val_loss"]
        if isinstance(state.scheduler, ReduceLROnPlateau):
            state.scheduler.step(loss)
        if is_best := loss < state.best_val_loss:
            state.best_val_loss, state.best_step = loss, state.step
        metrics["best_val_loss"] = state.best_val_loss
        return is_best

    def _react(self, alerts: Sequence[Alert]) -> bool:
        """Do about the alerts what the user allows; returns whether the weights are those of an earlier step."""
        scheduled = [group["lr"] for group in self.state.optimizer.param_groups]
        reaction = self._reactions.react(alerts)
        if reaction is None:
            return False
        self._entered().alert(self.state.step, Alert("reaction", "warning", reaction.message))
        self._failure = reaction.message if reaction.stop else self._failure
        for group, lr in zip(self.state.optimizer.param_groups, scheduled, strict=True):
            group["lr"] = lr  # Where the scheduler is, which goes on counting.
        return reaction.restored is not None

    def _save(self, *, best: bool = False) -> None:
        state = self.state
        with self.section("checkpoint"):
            self.tracker.save_checkpoint(
                state.model, state.optimizer, state.scheduler, state.step, self._metrics,
                loss_history=state.loss_history, state=state.extra(), best=best, wait=False,
            )  # fmt: skip
        self._tell_complaints()

    def _tell_complaints(self) -> None:
        for alert in self.state.take_complaints():
            self._entered().alert(self.state.step, alert)

    def __exit__(self, _: type[BaseException] | None, failure: BaseException | None, __: TracebackType | None) -> None:
        try:
            if failure is None:
                self._end()
            else:
                self._end_early(failure)
        finally:
            self._closing.close()
            self.tracker.close()

    def _end(self) -> None:
        try:
            self._settle()
            self._finish()
        except BaseException as failure:
            self._end_early(failure)
            raise
        drain(self.tracker, self._signals)

    def _finish(self) -> None:
        state, tracker = self.state, self.tracker
        if tracker.saved_step() < state.step and state.step not in tracker.checkpoints.skipped:
            self._save()
        best = f"{state.best_val_loss:.4f} at step {state.best_step}" if state.best_step else "not measured"
        shares = self._entered().finish(state.step, {"Best validation loss": best})
        status = self.status
        reason = self._failure or (self._signals.received.name if self._signals.received else self._stop)
        draw(tracker, self._signals)
        final = {**tracker.newest_metrics(), "final_step": state.step, "skipped_steps": state.skipped, **shares}
        tracker.save_results(final, status=status, error=reason)
        self._signals.patient = True
        tracker.end_experiment(status, reason, step=state.step)

    def _end_early(self, failure: BaseException) -> None:
        self._signals.patient = True
        status = "killed" if isinstance(failure, KeyboardInterrupt) else "failed"
        self.tracker.end_experiment(status, failure, step=self.state.step)
