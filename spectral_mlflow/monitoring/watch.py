"""Watch: the one object that a training loop tells of each step; it tells everybody else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType, TracebackType
from typing import Self

import torch

from spectral_mlflow.monitoring.data_usage import DataUsage
from spectral_mlflow.monitoring.epoch_means import EpochMeans
from spectral_mlflow.monitoring.monitor import Alert, Findings, Monitor, Monitors, StepRecord
from spectral_mlflow.monitoring.operator_trace import LAST_STEP, OperatorTrace
from spectral_mlflow.monitoring.profiler import TRACKING, CodeProfiler
from spectral_mlflow.monitoring.progress import Progress
from spectral_mlflow.monitoring.structured_log import duration, losses_text, model_fields, training_fields
from spectral_mlflow.monitoring.system_metrics import SystemMetrics
from spectral_mlflow.monitoring.tracker import ExperimentTracker

LOSSES = ("loss", "objective", "coherence_loss", "val_loss", "best_val_loss")
LOG_ENTRIES = 20  # Entries of training.log in a run, besides evaluations.
EPOCH_ENTRIES = 100  # The most that are written of the ends of epochs.
ASIDE = ("evaluation", "checkpoint", "plots", "sample")  # Sections that are no part of a step.

_NONE: Mapping[str, str] = MappingProxyType({})


class Watch:
    """Shows each step to the monitors, journals what they and the loop measured, and tells people of it.

    Leave its ``with`` block, or call `finish`, to end the thread that samples the system.

    Attributes:
        tracker: writes the run.
        progress: what a person at the terminal sees; knows the number of steps.
        usage: counts the data.
        profiler: where the time goes.
        system: samples memory, processor, disk and GPU.
        epochs: mean losses of the epochs; None where there are none.
    """

    def __init__(
        self,
        tracker: ExperimentTracker,
        progress: Progress,
        *,
        monitors: Mapping[str, Monitor] | None = None,
        usage: DataUsage | None = None,
        profiler: CodeProfiler | None = None,
        epochs: EpochMeans | None = None,
    ) -> None:
        """Begin to sample the system.

        Args:
            tracker: of the run; its ``config.monitoring`` says how often.
            progress: of the run.
            monitors: shown each step, by the name of each.
            usage: as the attribute; default: one that counts what it is told.
            profiler: as the attribute; default: that of the tracker.
            epochs: as the attribute.
        """
        self.tracker = tracker
        self.progress = progress
        self.usage = usage or DataUsage()
        self.profiler = profiler or tracker.profiler
        self.epochs = epochs
        monitoring = tracker.config.monitoring
        self._monitors = Monitors(monitors or {}, self._monitor_failed)
        self._log_interval = monitoring.log_interval
        self._trace = OperatorTrace(tracker.run_dir / "artifacts") if monitoring.profile else None
        self._waiting: dict[str, float] = {}  # Of the system, for the next line.
        self._step = 0
        self._seconds = 0.0
        self._aside_seconds = 0.0
        self.system = SystemMetrics(tracker.run_dir, monitoring.system_interval, on_failure=self._system_failed)
        self.system.start()
        for message in tracker.alerts:  # Told before there was anybody to tell.
            progress.note(message, "warning")
        self._begun = self._left = time.perf_counter()

    def section(self, name: str) -> AbstractContextManager[None]:
        """A context whose time the profiler counts; that of `ASIDE` is kept out of the seconds of a step."""
        return self._aside(name) if name in ASIDE else self.profiler.section(name)

    def due(self, step: int, interval: int) -> bool:
        """Whether something of this interval is to be done at this step: at the last one everything is, but of none."""
        return interval > 0 and (step % interval == 0 or step == self.progress.total_steps)

    def step(
        self,
        step: int,
        metrics: Mapping[str, float | torch.Tensor],
        *,
        seconds: float | None = None,
        scheduled_lr: float | None = None,
        updated: bool = True,
        write: bool = False,
    ) -> Findings:
        """Take note of a step that is done, its evaluation and sample too.

        Args:
            step: its number, from 1.
            metrics: what was measured, by the names of the journal.
            seconds: of the step alone; default: since the last call, without the sections `ASIDE`.
            scheduled_lr: what the learning rate should be; None: not declared.
            updated: whether the weights have changed.
            write: journal it also where ``log_interval`` does not ask for it.

        Returns:
            What the monitors say; the alerts are journaled and shown already.
        """
        seconds = time.perf_counter() - self._left - self._aside_seconds if seconds is None else seconds
        self._step, self._seconds = step, self._seconds + seconds
        with self.profiler.section("monitors"):
            numbers = {name: _number(value) for name, value in metrics.items()}
            fresh = self.system.take()
            findings = self._monitors.observe(
                StepRecord(step, {**numbers, **fresh}, max(seconds, 1e-9), scheduled_lr, updated)
            )
        with self.profiler.section("logging"):
            self._waiting |= fresh
            self._write(step, {**numbers, **findings.metrics}, write)
            for alert in findings.alerts:
                self.alert(step, alert)
        self._follow_trace(step)
        self._left, self._aside_seconds = time.perf_counter(), 0.0
        return findings

    def alert(self, step: int, alert: Alert) -> None:
        """Journal an alert; show it too, unless it is for information only."""
        self.tracker.alert(
            step, alert.severity, alert.kind, alert.message, alert.advice, cause=alert.cause, since=alert.since
        )
        if alert.severity != "info":
            advice = f" ({alert.advice})" if alert.advice else ""
            self.progress.note(f"{alert.severity}: {alert.message}{advice}", alert.severity)

    def entry(self, module: str, message: str, fields: Mapping[str, str] = _NONE, *, level: str = "INFO") -> None:
        """An entry of training.log, and the same as an event."""
        self.tracker.entry(level, module, message, fields)

    def describe(self, model: torch.nn.Module) -> None:
        """An entry on the sizes of a model."""
        self.entry("model", type(model).__name__, model_fields(model))

    def finish(self, step: int, fields: Mapping[str, str] = _NONE) -> dict[str, float]:
        """Write the profile and the last entry.

        Args:
            step: the last one.
            fields: of that entry, besides the duration and the checkpoints.

        Returns:
            For results.json: ``tracking_share``, the seconds of `TRACKING` over those of the steps.
        """
        if self._trace:
            self.entry("profiler", f"no trace of operators: it takes {LAST_STEP} steps of one process")
        self.close()
        self.profiler.add("system", self.system.seconds, self.system.samples)
        share = self.profiler.seconds(*TRACKING) / self._seconds if self._seconds else 0.0  # Perhaps without a step.
        kept = len(self.tracker.checkpoints.list_checkpoints())
        self.entry("completion", f"Summary at step {step}", {
            "Duration": duration(time.perf_counter() - self._begun), **fields,
            "Checkpoints": f"{kept} kept", "Alerts": str(len(self.tracker.alerts)),
            "Tracking": f"{share:.2%} of the steps",
        })  # fmt: skip
        self.entry("profiler", "Where the time went", self.profiler.fields())
        self.tracker.results.keep_profile(step, self.profiler, tracking_share=share)
        return {"tracking_share": share}

    def close(self) -> None:
        """End the thread that samples the system, and a trace that the run was too short for."""
        self.system.stop()
        if self._trace:
            self._trace.close()

    def _write(self, step: int, metrics: dict[str, float], write: bool) -> None:
        evaluated = "val_loss" in metrics
        entry = evaluated or self.due(step, max(1, self.progress.total_steps // LOG_ENTRIES))
        if entry:
            metrics |= self.usage.metrics()
        if write or evaluated or self.due(step, self._log_interval):
            self.tracker.log_metrics(self._waiting | metrics, step)
            self._waiting = {}
        self.progress.update(step, loss=metrics.get("loss"), tokens_per_sec=metrics.get("tokens_per_sec"))
        if evaluated:
            best = "  (best so far)" if metrics.get("best_val_loss") == metrics["val_loss"] else ""
            self.progress.note(f"step {step}  validation loss {metrics['val_loss']:.4f}{best}")
        if entry:
            self._progress_entry(step, metrics)
        self._end_epoch(step, metrics)

    def _progress_entry(self, step: int, metrics: Mapping[str, float]) -> None:
        epoch = batch = None
        if epochs := self.epochs:
            number, place = epochs.place(step)
            epoch, batch = (number, epochs.count(self.progress.total_steps)), (place, epochs.steps_per_epoch)
        evaluated = "val_loss" in metrics
        rss = self.system.latest.get("system/rss_mb")
        fields = training_fields(
            epoch=epoch,
            batch=batch,
            files=(self.usage.files, self.usage.augmented_files) if self.usage.files else None,
            losses={name: metrics[name] for name in LOSSES if name in metrics},
            gpu_gb=_gpu_gb(metrics),
            ram_gb=None if rss is None else rss / 1024,
            eta_seconds=self.progress.eta_seconds(),
            samples=self.tracker.samples.path_of(step),
        )
        title = "Evaluation" if evaluated else "Training progress"
        self.entry("evaluation" if evaluated else "training", f"{title} at step {step}", fields)

    def _end_epoch(self, step: int, metrics: Mapping[str, float]) -> None:
        if not (epochs := self.epochs):
            return
        means = epochs.add(step, {name: metrics[name] for name in LOSSES[:3] if name in metrics})
        number, total = epochs.place(step)[0], epochs.count(self.progress.total_steps)
        if means and number % max(1, total // EPOCH_ENTRIES) == 0:
            fields = {"Epoch": f"{number}/{total}", "Mean losses": losses_text(means)}
            self.entry("epoch", f"Epoch {number} ended at step {step}", fields)

    @contextmanager
    def _aside(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            with self.progress.aside(name), self.profiler.section(name):
                yield
        finally:
            self._aside_seconds += time.perf_counter() - began

    def _follow_trace(self, step: int) -> None:
        if not self._trace:
            return
        try:
            with self.progress.aside("trace"):
                written = self._trace.step(step)
        except Exception as failure:
            self._trace = None
            self.alert(step, Alert("profiler", "warning", f"no trace of operators: {failure}",
                                   advice="monitoring.profile=false, or see to the space on the disk"))  # fmt: skip
            return
        for path in written:
            self._trace = None  # There is one in a run.
            self.tracker.add_artifact(path, "profile", step)

    def _monitor_failed(self, name: str, failure: Exception) -> None:
        message = f"monitor {name} failed, training goes on without it: {type(failure).__name__}: {failure}"
        self.alert(self._step, Alert("monitor", "warning", message, advice="the run is as it would have been"))

    def _system_failed(self, failure: Exception) -> None:
        """Called by another thread: no line on the terminal, which belongs to the one that trains."""
        message = f"memory, CPU and GPU are sampled no more: {type(failure).__name__}: {failure}"
        self.tracker.alert(self._step, "warning", "system", message, "monitoring.system_interval=0 asks for none")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()


def _number(value: float | torch.Tensor) -> float:
    return value.item() if isinstance(value, torch.Tensor) else value


def _gpu_gb(metrics: Mapping[str, float]) -> tuple[float, float] | None:
    """GPU memory of this process, and that there is, in GB; None where torch knows of no GPU, whatever a loop logs."""
    if "gpu_memory_mb" not in metrics or not torch.cuda.is_available():
        return None
    return metrics["gpu_memory_mb"] / 1024, torch.cuda.get_device_properties().total_memory / 2**30
