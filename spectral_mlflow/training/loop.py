"""The training loop."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.models.generation import generate
from spectral_mlflow.monitoring.progress import Progress
from spectral_mlflow.monitoring.structured_log import training_fields
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.training.evaluation import EVALUATION_BATCHES, perplexity, validation_loss
from spectral_mlflow.training.learner import Learner, Metrics
from spectral_mlflow.training.signals import StopSignals
from spectral_mlflow.training.step import StepResult

LOSSES = ("loss", "objective", "coherence_loss", "val_loss", "best_val_loss")
LOG_ENTRIES = 20  # Entries of training.log in a run, besides evaluations.


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    status: str  # completed, failed or killed
    reason: str | None
    exit_code: int


class Trainer:
    """Takes a `TrainState` from its step to the last one, telling the tracker and the progress line."""

    def __init__(
        self, config: ExperimentConfig, learner: Learner, tracker: ExperimentTracker, progress: Progress
    ) -> None:
        self.config = config
        self.learner = learner
        self.dataset = learner.dataset
        self.state = learner.state
        self.tracker = tracker
        self.progress = progress
        self.tokens_per_step = learner.tokens_per_step
        self.compile_seconds: float | None = None
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
            self.show()  # The process that took the last step may have died before it could.
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
            self.record(metrics)
            reason = self.stop_reason(evaluated="val_loss" in metrics)
            if reason:
                return self.stopped(reason, signals)
        self.tracker.checkpoints.wait()
        return Outcome("completed", None, 0)

    def compile(self) -> None:
        """Compile the model, or go on without and say why."""
        self.progress.note("compiling the model, which may take some minutes")
        done = self.learner.compile()
        self.compile_seconds = done.seconds
        message = f"compiled in {done.seconds:.0f} s, which do not count as training"
        if done.failure:
            message = f"training goes on uncompiled: {done.failure}"
            self.tracker.alert(self.state.step, "warning", "compile", message,
                               "install a C++ compiler such as g++, or set runtime.compile=false")  # fmt: skip
        else:
            self.tracker.log.entry("INFO", "compile", message)
        self.progress.note(message)

    def count(self, result: StepResult) -> None:
        """Keep the loss of a step; tell of one that left the weights as they were."""
        state = self.state
        state.loss_history.append(result.loss)
        if result.updated:
            state.skipped_in_a_row = 0
            return
        state.skipped += 1
        state.skipped_in_a_row += 1
        if state.scaler.is_enabled() and math.isfinite(result.objective):
            return  # So the scale of float16 finds its size; only many in a row mean something.
        message = f"step {state.step} skipped: objective {result.objective}, gradient norm {result.norm}"
        self.progress.note(message)
        self.tracker.alert(state.step, "critical", "non-finite", message,
                           "lower training.lr or training.grad_clip, or lengthen training.warmup_steps")  # fmt: skip

    def evaluate(self) -> Metrics:
        """Loss over the whole validation split; a new best one is checkpointed by `record`."""
        state, training = self.state, self.config.training
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

    def record(self, metrics: Metrics) -> None:
        """Tell tracker and progress line of this step; save, draw and sample where it is time to."""
        state, monitoring = self.state, self.config.monitoring
        is_best = "val_loss" in metrics and state.best_step == state.step
        if "val_loss" in metrics or self.due(monitoring.log_interval):
            self.tracker.log_metrics(metrics, state.step)
        self.progress.update(state.step, loss=metrics["loss"], tokens_per_sec=metrics["tokens_per_sec"])
        if "val_loss" in metrics:
            mark = "  (best so far)" if is_best else ""
            self.progress.note(f"step {state.step}  validation loss {metrics['val_loss']:.4f}{mark}")
        if "val_loss" in metrics or self.due(max(1, self.config.training.steps // LOG_ENTRIES)):
            self.write_log(metrics)
        if is_best or self.due(monitoring.checkpoint_interval):
            self.save(metrics, best=is_best)
        if self.due(monitoring.viz_interval):
            self.show()

    def show(self) -> None:
        """Draw the plots of this step and write a sample."""
        state, tokenizer = self.state, self.dataset.tokenizer
        self.tracker.save_plots(
            state.step, state.model, state.loss_history, token_text=lambda token: tokenizer.decode([token])
        )
        self.sample()

    def write_log(self, metrics: Metrics) -> None:
        """An entry of training.log, for people."""
        steps_per_epoch = max(1, len(self.dataset.train) // self.tokens_per_step)
        epoch, position = divmod(self.state.step - 1, steps_per_epoch)
        fields = training_fields(
            epoch=(epoch + 1, math.ceil(self.config.training.steps / steps_per_epoch)),
            batch=(position + 1, steps_per_epoch),
            files=(self.dataset.corpus.files, 0),
            losses={name: metrics[name] for name in LOSSES if name in metrics},
            ram_gb=metrics["system/rss_mb"] / 1024,
            eta_seconds=self.progress.eta_seconds(),
        )
        title = "Evaluation" if "val_loss" in metrics else "Training progress"
        self.tracker.log.entry("INFO", "training", f"{title} at step {self.state.step}", fields)

    def due(self, interval: int) -> bool:
        """Whether something of this interval is to be done at this step: at the last one everything is, but of none."""
        return interval > 0 and (self.state.step % interval == 0 or self.state.step == self.config.training.steps)

    def save(self, metrics: Metrics, *, best: bool = False) -> None:
        """Copy the state and have it written while training goes on."""
        state = self.state
        self.tracker.save_checkpoint(
            state.model, state.optimizer, state.scheduler, state.step, metrics,
            loss_history=state.loss_history, state=state.extra(), best=best, wait=False,
        )  # fmt: skip

    def sample(self) -> None:
        """Generate a text and keep it. The generator is its own, so that training draws the same numbers without."""
        length = self.config.monitoring.sample_tokens
        if not length:
            return
        generator = torch.Generator().manual_seed(self.config.training.seed)
        prompt = self.dataset.train[:1]
        tokens = generate(self.state.model, prompt, length, temperature=0.8, generator=generator)
        self.tracker.log_sample(self.state.step, self.dataset.tokenizer.decode(tokens.tolist()))

    def stop_reason(self, *, evaluated: bool) -> str | None:
        """Why to stop before the last step, if there is a reason."""
        training, state = self.config.training, self.state
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
        if self.state.skipped_in_a_row >= self.config.training.max_skipped:
            return Outcome("failed", reason, 1)
        if signals.received and not reason:
            return Outcome("killed", signals.received.name, signals.exit_code)
        return Outcome("completed", reason, 0)

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
