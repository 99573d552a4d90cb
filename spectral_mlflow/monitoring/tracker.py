"""ExperimentTracker: the one object through which a training loop writes its run.

It makes the run directory, keeps the journals, checkpoints, plots and samples in it, and starts the
companion process that mirrors them into the stores. It never talks to a store itself, nor draws.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from spectral_mlflow import journal, provenance
from spectral_mlflow.config import FORMAT_VERSION, ExperimentConfig, home, without_password
from spectral_mlflow.monitoring import overview, retention
from spectral_mlflow.monitoring.checkpoint_events import CheckpointEvents
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.monitoring.companion_process import CompanionProcess
from spectral_mlflow.monitoring.configs import ConfigTracker
from spectral_mlflow.monitoring.directories import create_experiment_directory, generate_experiment_id
from spectral_mlflow.monitoring.metrics import MetricsLogger
from spectral_mlflow.monitoring.profiler import CodeProfiler
from spectral_mlflow.monitoring.redaction import redacted
from spectral_mlflow.monitoring.repeats import Repeats
from spectral_mlflow.monitoring.run_events import RunEvents
from spectral_mlflow.monitoring.run_lock import cannot_write, hold
from spectral_mlflow.monitoring.run_plots import RunPlots
from spectral_mlflow.monitoring.run_results import RunResults
from spectral_mlflow.monitoring.run_settings import RunSettings
from spectral_mlflow.monitoring.samples import Samples
from spectral_mlflow.monitoring.structured_log import StructuredLog

GO_BACK = retention.spread(50, 5)  # What a rollback may need: how late an anomaly is found, nobody knows.
STATUSES = {"completed": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


class ExperimentTracker:
    """Writes one run: a directory on disk first, and through the companion the stores.

    Call `start_experiment`, then `log_metrics` and its siblings from the loop, then `end_experiment`.

    Attributes:
        run_dir: the run.
        experiment_id: its name.
        event: appends a line to events.jsonl (`RunEvents.tell`).
        entry: tells of something in words (`RunEvents.entry`).
        alert: tells of something that a person should look at (`RunEvents.alert`).
        add_artifact: has a file of the run directory sent to the stores (`RunEvents.artifact`).
        samples: what the model has written.
        plots: has plots drawn (`RunPlots.save`).
    """

    def __init__(
        self,
        config: ExperimentConfig,
        profiler: CodeProfiler | None = None,
        *,
        run_dir: Path | None = None,
        tracking_uri: str | None = None,
        tags: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Make the run directory, or open an old one to continue it.

        Args:
            config: all settings; ``monitoring`` decides what is written and how often.
            profiler: of the loop, whose report is kept with the run; default: one of its own.
            run_dir: the directory of a run to continue; default: a new one.
            tracking_uri: where the companion sends the run; default: as the companion decides.
            tags: further tags of the run in the stores.
            settings: of a loop that is not this package's, in the place of those of ``config`` but its name and
                ``monitoring``.

        Raises:
            UserError: the directory cannot be written, or another process writes it.
        """
        self.config = config
        self.profiler = profiler or CodeProfiler()
        self._settings = RunSettings(config, settings)
        self.resumed = run_dir is not None
        if run_dir is None:
            base = home() / config.monitoring.experiments_dir
            run_dir = Path(create_experiment_directory(str(base), generate_experiment_id(config.name or "run"))["root"])
        self.run_dir = run_dir
        self.experiment_id = run_dir.name
        self._tracking_uri = tracking_uri
        self._tags = dict(tags or {})
        self._lock = hold(run_dir)
        monitoring = config.monitoring
        try:
            self.log = StructuredLog(run_dir / "logs" / "training.log")
            self.metrics = MetricsLogger(str(run_dir / "logs"), monitoring.log_interval, log=self.log)
            self.metrics.open()  # Now, while it can still be refused.
            self._events = RunEvents(run_dir, self.log)
        except OSError as failure:
            self._lock.release()
            raise cannot_write(run_dir, failure) from None
        self.event, self.alert = self._events.tell, self._events.alert
        self.add_artifact, self.entry = self._events.artifact, self._events.entry
        self._repeats = Repeats(self.metrics.load_metrics() if self.resumed else ())
        self._checkpoint_events = CheckpointEvents(self._events, self.log)
        self.checkpoints = CheckpointManager(
            str(run_dir),
            monitoring.checkpoint_interval,
            monitoring.keep_last_n,
            keep=retention.best(monitoring.keep_best)
            | retention.every(monitoring.keep_every)
            | retention.hourly(monitoring.keep_hours)
            | (GO_BACK if config.training.on_anomaly == "rollback" else retention.nothing),
            asynchronous=True,
            before_commit=self._sync_journals,
            on_saved=self._checkpoint_events.saved,
            on_skipped=self._checkpoint_events.skipped,
            on_wait=self._checkpoint_events.waited,
            on_damage=self._checkpoint_events.damaged,
        )
        self.configs = ConfigTracker(str(run_dir))
        self.results = RunResults(run_dir, self._events, self.configs, self.checkpoints)
        self._companion = CompanionProcess(run_dir, tracking_uri, monitoring.stores)
        told = journal.records(run_dir / "logs" / "events.jsonl")
        self.samples = Samples(run_dir, self._events, told)
        self.plots = RunPlots(run_dir, self._events, told)

    def _sync_journals(self) -> None:
        """Make the journals as durable as the checkpoint that is about to be.

        Raises:
            OSError: the disk refuses.
        """
        self.metrics.sync()
        self._events.sync()

    # What a run tells of itself

    @property
    def alerts(self) -> list[str]:
        """Messages of the alerts so far."""
        return self._events.alerts

    def start_experiment(
        self,
        model: torch.nn.Module | None = None,
        dataset_info: Mapping[str, Any] | None = None,
        machine: Mapping[str, Any] | None = None,
        *,
        step: int = 0,
    ) -> None:
        """Write who, what and where; then start the companion.

        Args:
            model: what is trained.
            dataset_info: what it is trained on.
            machine: what it is trained with.
            step: the one that a continued run goes on from.

        Raises:
            OSError: config.json cannot be written.
        """
        process = {"pid": os.getpid(), "host": socket.gethostname()}
        if self.resumed:
            told = journal.records(self.run_dir / "logs" / "events.jsonl")
            self.event("resume", step=step, settings=self._settings.changed(self.configs, told), **process)
            self._events.expect(told, step)
            self._checkpoint_events.catch_up(told, self.checkpoints.list_checkpoints())
            self.plots.catch_up(step)
        else:
            self.configs.save_config(self._settings.values, model, dict(dataset_info or {}), machine)
            self.event(
                "start",
                format_version=FORMAT_VERSION,
                experiment_id=self.experiment_id,
                name=self.config.name,
                stores=list(self.config.monitoring.stores),
                tracking_uri=without_password(self._tracking_uri or ""),
                mlflow_experiment=self.config.monitoring.mlflow_experiment,
                mlflow_run_id=os.environ.get("MLFLOW_RUN_ID"),
                tags=self._tags,
                **process,
            )
            self.add_artifact(self.run_dir / "config.json", "config")
            if self.config.monitoring.code_snapshot:
                self._snapshot_code()
        with suppress(OSError):  # A full disk says so soon enough.
            self._events.sync()  # Else a power cut could leave a run in the store of which nobody here knows.
        self.log.entry("INFO", "tracker", "Training resumed" if self.resumed else "Training started", {
            "Experiment": self.experiment_id,
            "Directory": str(self.run_dir),
        })  # fmt: skip
        self._start_companion()

    def _snapshot_code(self) -> None:
        try:
            written = provenance.snapshot(self.run_dir / "code_snapshot")
        except OSError as failure:
            self._events.lost(0, "code", f"the code is not kept: {failure}")
            return
        for path in written:
            self.add_artifact(path, "code")

    def checkpoints_step(self) -> int:
        """Step of the newest checkpoint, 0 without one."""
        return max((record.step for record in self.checkpoints.list_checkpoints()), default=0)

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: float | None = None) -> None:
        """Journal the metrics of one step, but what the journal has already when a resumed run computes it again."""
        if epoch is not None:
            metrics = {**metrics, "epoch": epoch}
        new, changed = self._repeats.sift(step, metrics)
        if new:
            self.metrics.log_metrics(step, new)
        if changed:
            self.alert(step, "warning", "resume", f"step {step} computed again differs in {', '.join(changed)}",
                       "was the number of threads, the version of torch or the machine another one?")  # fmt: skip

    def save_checkpoint(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Any = None,
        step: int = 0,
        metrics: Mapping[str, float] | None = None,
        *,
        loss_history: list[float] | None = None,
        state: Mapping[str, Any] | None = None,
        best: bool = False,
        wait: bool = True,
    ) -> str:
        """Save a checkpoint, and make the journals as durable as it is.

        Args:
            model: its ``state_dict`` is saved.
            optimizer: its ``state_dict`` is saved.
            scheduler: anything with a ``state_dict``.
            step: number of optimizer steps done.
            metrics: what the model reaches at this step.
            loss_history: losses so far.
            state: everything else that an exact resume needs.
            best: mark it as the best so far.
            wait: False returns as soon as the state is copied; the events and the log then tell of the rest.

        Returns:
            Path of the file; empty when the disk refused it, which is then in the log.
        """
        path = self.checkpoints.save_checkpoint(
            step, model, optimizer, loss_history or [], redacted(self._settings.values),
            scheduler=scheduler, state=dict(state or {}), metrics=dict(metrics or {}), best=best,
        )  # fmt: skip
        if wait:
            self.checkpoints.wait()
        return path if step not in self.checkpoints.skipped else ""

    def saved_step(self) -> int:
        """Step of the newest checkpoint that this process has saved, once none is being written; -1 without one."""
        self.checkpoints.wait()
        saved = self.checkpoints.saved
        return saved.step if saved else -1

    def _finish_checkpoints(self, step: int | None) -> None:
        try:
            self.checkpoints.close()
        except Exception as failure:  # However it failed, the run still has to end truthfully.
            message = f"the last checkpoint is not saved: {type(failure).__name__}: {failure}"
            self.alert(step, "critical", "checkpoint", message, "spectral checkpoints shows those that are")

    def log_sample(self, step: int, text: str) -> Path | None:
        """Keep a generated sample (`Samples.keep`)."""
        return self.samples.keep(step, text)

    # The end

    def save_results(self, final_metrics: Mapping[str, float], **further: Any) -> None:
        """Write results.json (`RunResults.save`)."""
        step = self.metrics.get_latest_step()
        self.results.save(step, final_metrics, self.samples.texts(), self.plots.paths, **further)

    def end_experiment(
        self, status: str = "completed", error: str | BaseException | None = None, *, step: int | None = None
    ) -> None:
        """Say how the run ended and let go of the directory; without results so far, write the newest metrics as such.

        Args:
            status: completed, failed or killed.
            error: what went wrong, a text or an exception.
            step: the last step; default: that of the newest metrics.
        """
        step = self.metrics.get_latest_step() if step is None else step
        self._finish_checkpoints(step)  # What is being written is told of before the end is.
        self.plots.close()
        error = self._told_error(status, error)
        if not self.results.is_saved:
            self.save_results(self.newest_metrics(), status=status, error=error)
        if self.profiler.rows() and not self.results.is_profiled:
            self.results.keep_profile(step, self.profiler)
        fields = {"Step": str(step), **({"Reason": error} if error else {})}
        self.log.entry("INFO" if status == "completed" else "ERROR", "tracker", f"Training {status}", fields)
        self.metrics.close()  # Before the end is told: whoever reads it finds every line, and the last page.
        self._write_overview()
        self.event("end", status=STATUSES[status], step=step, reason=error)
        with suppress(OSError):  # Written it is; a disk that refuses to say so is none that one could wait for.
            self._events.sync()
        self._events.close()
        self.log.close()

    def _write_overview(self) -> None:
        try:
            overview.write(self.run_dir)
        except Exception as failure:  # It shows files that anybody may have written.
            self.log.entry("WARNING", "tracker", f"overview.html is left as it was: {failure!r}")

    def newest_metrics(self) -> dict[str, float]:
        """The newest value of each metric in the journal."""
        lines = self.metrics.load_metrics()
        return {name: value for line in lines for name, value in line.items() if name not in ("step", "timestamp")}

    def _told_error(self, status: str, error: str | BaseException | None) -> str | None:
        if isinstance(error, BaseException):
            trace = "".join(traceback.format_exception(error))
            error = f"{type(error).__name__}: {error}"
            self.event("error", message=error, traceback=trace)
        elif error and status == "failed":
            self.event("error", message=error, traceback=None)
        return error

    def close(self) -> None:
        """Let go of the run directory; the companion then knows that nothing follows."""
        self._lock.release()

    # The companion

    def _start_companion(self) -> None:
        if not self.config.monitoring.stores:
            return
        try:
            for alert in self._companion.start():
                self.alert(None, alert.severity, alert.kind, alert.message, alert.advice)
        except OSError as failure:
            self.alert(self.checkpoints_step(), "critical", "stores", f"no companion for the stores: {failure}",
                       f"spectral sync {self.experiment_id} sends them the run later")  # fmt: skip

    def store_state(self) -> dict[str, Any]:
        """What the companion says of the run in MLflow: run_id, closed, error; empty before it said anything."""
        return self._companion.state()

    def wait_for_stores(
        self,
        seconds: float,
        *,
        stop: Callable[[], bool] = lambda: False,
        tell: Callable[[float], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> bool:
        """Wait until the companion has sent everything (`CompanionProcess.wait`), at most so long.

        Returns:
            Whether the stores are complete; if not, the companion goes on, and ``spectral sync`` helps.
        """
        stores = self.config.monitoring.stores
        return not stores or self._companion.wait(seconds, stop=stop, tell=tell, sleep=sleep)
