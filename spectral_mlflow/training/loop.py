"""The training loop."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.data.batches import window_starts
from spectral_mlflow.monitoring.anomalies import Anomalies
from spectral_mlflow.monitoring.monitor import Alert
from spectral_mlflow.monitoring.structured_log import duration
from spectral_mlflow.monitoring.watch import Watch
from spectral_mlflow.training.evaluation import EVALUATION_BATCHES, perplexity, validation_loss
from spectral_mlflow.training.gallery import Gallery
from spectral_mlflow.training.learner import Learner, Metrics
from spectral_mlflow.training.reactions import MONITOR, Reaction, Reactions
from spectral_mlflow.training.signals import StopSignals
from spectral_mlflow.training.step import StepResult


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    status: str  # completed, failed or killed
    reason: str | None
    exit_code: int


class Trainer:
    """Takes a `TrainState` from its step to the last one, telling whoever watches it."""

    def __init__(self, config: ExperimentConfig, learner: Learner, watch: Watch, gallery: Gallery) -> None:
        self.config = config
        self.learner = learner
        self.dataset = learner.dataset
        self.state = learner.state
        self.watch = watch
        self.tracker = watch.tracker
        self.gallery = gallery
        self.reactions = Reactions(config.training, learner.state, watch.tracker.checkpoints)
        self.tokens_per_step = learner.tokens_per_step
        self.compile_seconds: float | None = None
        self._halt: str | None = None  # Why an anomaly ends the run.
        self._begun_at = self.state.step or -1  # Nothing is saved of a run that has not begun.

    def run(self, signals: StopSignals, *, ended_before: bool = True) -> Outcome:
        """Train until the last step, early stopping, a signal, or too many steps without a finite gradient.

        Args:
            signals: what may stop it.
            ended_before: False for a continued run that was stopped: perhaps when it had all but said that it ends.
        """
        state, training = self.state, self.config.training
        if self.config.runtime.compile:
            self.compile()
        self.tracker.checkpoints.prepare(state.model, state.optimizer)
        if state.step == training.steps and self.due(self.config.monitoring.viz_interval):
            self.show_again()  # The process that took the last step may have died before it could.
        if state.step == 0 and self.config.monitoring.viz_interval:
            self.gallery.look()
            self.gallery.draw()  # What the training begins with.
        if state.skipped_in_a_row >= training.max_skipped:
            state.skipped_in_a_row = 0  # That ended it; whoever continues it wants to see whether it still is so.
        if not ended_before and (reason := self.stop_reason(evaluated=True)):
            return self.stopped(reason, signals)
        while state.step < training.steps:
            if signals.received:
                return self.stopped(None, signals)
            started = time.perf_counter()
            result, metrics = self.learner.step()
            self.count(result)
            if self.due(self.config.monitoring.eval_interval):
                metrics |= self.evaluate()
            state.seconds += time.perf_counter() - started
            self.record(result, metrics)
            reason = self.stop_reason(evaluated="val_loss" in metrics)
            if reason:
                return self.stopped(reason, signals)
        self.tracker.checkpoints.wait()
        return Outcome("completed", None, 0)

    def compile(self) -> None:
        """Compile the model, or go on without and say why."""
        self.watch.progress.note("compiling the model, which may take some minutes")
        done = self.learner.compile()
        self.compile_seconds = done.seconds
        message = f"compiled in {done.seconds:.0f} s, which do not count as training"
        if done.failure:
            message = f"training goes on uncompiled: {done.failure}"
            self.tracker.alert(self.state.step, "warning", "compile", message,
                               "install a C++ compiler such as g++, or set runtime.compile=false")  # fmt: skip
        else:
            self.watch.entry("compile", message)
        self.watch.progress.note(message)

    def count(self, result: StepResult) -> None:
        """Keep the loss of a step; tell of one that left the weights as they were."""
        state = self.state
        state.loss_history.append(result.loss)
        if result.updated:
            state.skipped_in_a_row = 0
            return
        state.skipped += 1
        state.skipped_in_a_row += 1
        if isinstance(anomalies := state.monitors.get(MONITOR), Anomalies) and anomalies.works:
            return  # It tells of it, with the cause.
        if state.scaler.is_enabled() and math.isfinite(result.objective):
            return  # So the scale of float16 finds its size; only many in a row mean something.
        message = f"step {state.step} skipped: objective {result.objective}, gradient norm {result.norm}"
        advice = "lower training.lr or training.grad_clip, or lengthen training.warmup_steps"
        self.watch.alert(state.step, Alert("non-finite", "critical", message, advice=advice))

    def evaluate(self) -> Metrics:
        """Loss over the whole validation split; a new best one is checkpointed by `record`."""
        state, training = self.state, self.config.training
        with self.watch.section("evaluation"):
            loss = validation_loss(
                state.model, self.dataset.val, machine=self.learner.machine,
                batch_size=EVALUATION_BATCHES * training.batch_size // training.gradient_accumulation,
            )  # fmt: skip
        if loss < state.best_val_loss:
            state.best_val_loss, state.best_step, state.evaluations_without_best = loss, state.step, 0
        else:
            state.evaluations_without_best += 1
        metrics = {"val_loss": loss, "val_perplexity": perplexity(loss), "best_val_loss": state.best_val_loss}
        metrics |= self.learner.speed.summary()
        if self.dataset.tokenizer.kind == "char":
            metrics["val_bits_per_char"] = loss / math.log(2)
        return metrics

    def record(self, result: StepResult, metrics: Metrics) -> None:
        """Tell of this step; react to anomalies; sample, save and draw where it is time to."""
        state, monitoring = self.state, self.config.monitoring
        shown = self.due(monitoring.viz_interval)
        # Before the line of the step, so that what they measure is on it.
        quality = self.gallery.sample() | self.gallery.look() if shown else {}
        self.count_data()
        findings = self.watch.step(
            state.step, metrics | quality, seconds=self.learner.seconds, scheduled_lr=self.learner.scheduled_lr,
            updated=result.updated, write=bool(quality),
        )  # fmt: skip
        is_best = "val_loss" in metrics and state.best_step == state.step
        if reaction := self.reactions.react(findings.alerts):
            self.follow(reaction)
        if reaction and reaction.restored is not None:
            self.save({})  # Of other weights than were measured; who resumes goes on from after the rollback.
        elif is_best or self.due(monitoring.checkpoint_interval):
            self.save(metrics, best=is_best)
        if shown:
            self.gallery.draw()

    def count_data(self) -> None:
        """Which part of the corpus this step has seen."""
        training, block_size = self.config.training, self.config.model.block_size
        with self.watch.section("usage"):
            starts = window_starts(
                len(self.dataset.train), seed=training.seed, step=self.state.step, batch_size=training.batch_size,
                block_size=block_size,
            )  # fmt: skip
            self.watch.usage.windows(starts, block_size)

    def follow(self, reaction: Reaction) -> None:
        """Tell what was done about an anomaly, and remember to stop where that is it."""
        self.watch.alert(self.state.step, Alert("reaction", "warning", reaction.message,
                                                advice="training.on_anomaly=none only tells of anomalies"))  # fmt: skip
        if reaction.stop:
            self._halt = reaction.message

    def show_again(self) -> None:
        """Sample and draw the step that a continued run begins with; its line gets what it lacks."""
        if quality := self.gallery.sample() | self.gallery.look():
            self.tracker.log_metrics(quality, self.state.step)
        self.gallery.draw()

    def due(self, interval: int) -> bool:
        """Whether something of this interval is to be done at this step."""
        return self.watch.due(self.state.step, interval)

    def save(self, metrics: Metrics, *, best: bool = False) -> None:
        """Copy the state and have it written while training goes on."""
        state = self.state
        with self.watch.section("checkpoint"):
            self.tracker.save_checkpoint(
                state.model, state.optimizer, state.scheduler, state.step, metrics,
                loss_history=state.loss_history, state=state.extra(), best=best, wait=False,
            )  # fmt: skip
        for alert in state.take_complaints():
            self.watch.alert(state.step, alert)

    def stop_reason(self, *, evaluated: bool) -> str | None:
        """Why to stop before the last step, if there is a reason."""
        training, state = self.config.training, self.state
        if self._halt:
            return self._halt
        if state.skipped_in_a_row >= training.max_skipped:
            return f"{state.skipped_in_a_row} steps in a row without a finite loss and gradient"
        if evaluated and training.early_stopping and state.evaluations_without_best >= training.early_stopping:
            return f"early stopping: no better validation loss than {state.best_val_loss:.4f} of step {state.best_step}"
        return None

    def stopped(self, reason: str | None, signals: StopSignals) -> Outcome:
        """Save what the last checkpoint does not have, and name how the run ended."""
        if max(self._begun_at, self.tracker.saved_step()) < self.state.step:
            self.save({})
            self.tracker.checkpoints.wait()
        if self.config.monitoring.viz_interval and not self.due(self.config.monitoring.viz_interval):
            self.gallery.look()
            self.gallery.draw()  # How far it has come.
        if self._halt or self.state.skipped_in_a_row >= self.config.training.max_skipped:
            return Outcome("failed", reason, 1)
        if signals.received and not reason:
            return Outcome("killed", signals.received.name, signals.exit_code)
        return Outcome("completed", reason, 0)

    def summary(self) -> dict[str, str]:
        """What the log says at the end."""
        state = self.state
        best = {"Best": f"val_loss {state.best_val_loss:.4f} at step {state.best_step}"} if state.best_step else {}
        return {"Training": duration(state.seconds), **best, "Skipped steps": str(state.skipped)}

    def results(self) -> dict[str, Any]:
        """The final metrics of results.json."""
        state = self.state
        evaluated = [line for line in self.tracker.metrics.load_metrics() if "val_loss" in line]
        val_loss = evaluated[-1]["val_loss"] if evaluated else math.nan
        return {
            "val_loss": val_loss,
            "perplexity": perplexity(val_loss),
            "best_val_loss": state.best_val_loss,
            "best_step": state.best_step,
            "final_step": state.step,
            "skipped_steps": state.skipped,
            "total_time_seconds": state.seconds,
            "tokens_per_second": state.step * self.tokens_per_step / max(state.seconds, 1e-9),
            **self.learner.speed.summary(),
            **({} if self.compile_seconds is None else {"compile_seconds": self.compile_seconds}),
        }
