"""RunResults: what came of a run, how it ended and where its time went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spectral_mlflow import journal
from spectral_mlflow.files import replace_file
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.monitoring.configs import ConfigTracker
from spectral_mlflow.monitoring.profiler import CodeProfiler
from spectral_mlflow.monitoring.run_events import RunEvents


class RunResults:
    """Writes results.json and the profile; a disk that refuses them is in the log, and the run ends as it would have.

    Attributes:
        is_saved: whether results.json was written, or tried.
        is_profiled: whether the profile was.
    """

    def __init__(
        self, run_dir: Path, events: RunEvents, configs: ConfigTracker, checkpoints: CheckpointManager
    ) -> None:
        """Write nothing yet.

        Args:
            run_dir: the run.
            events: what it tells of itself.
            configs: its config.json.
            checkpoints: its checkpoints.
        """
        self.is_saved = self.is_profiled = False
        self._run_dir = run_dir
        self._events = events
        self._configs = configs
        self._checkpoints = checkpoints

    def save(
        self,
        step: int,
        final_metrics: Mapping[str, float],
        samples: Sequence[str],
        plots: Sequence[str],
        **further: Any,
    ) -> None:
        """Write results.json.

        Args:
            step: the last one.
            final_metrics: as `ConfigTracker.save_results` has them.
            samples: texts that the model has written.
            plots: paths.
            further: more top-level entries.
        """
        self.is_saved = True
        try:
            best = self._checkpoints.best_path()
            self._configs.save_results(
                dict(final_metrics),
                best_checkpoint=best,
                generation_samples=samples,
                plots=plots,
                checkpoints={"best": best, "final": self._checkpoints.latest_path()},
                **self._times(),
                **further,
            )
        except OSError as failure:
            self._events.lost(step, "results", f"results.json is not written: {failure}")
        else:
            self._events.artifact(self._run_dir / "results.json", "results")

    def keep_profile(self, step: int, profiler: CodeProfiler, **further: Any) -> None:
        """Write ``artifacts/profile.json`` and ``profile.md``.

        Args:
            step: the last one.
            profiler: of this process.
            further: more top-level entries.
        """
        self.is_profiled = True
        report = json.dumps({**further, **profiler.report()}, indent=1)
        folder = self._run_dir / "artifacts"
        try:
            folder.mkdir(exist_ok=True)
            for name, text in (("profile.json", report), ("profile.md", profiler.markdown())):
                replace_file(folder / name, text.encode())
                self._events.artifact(folder / name, "profile", step)
        except OSError as failure:
            self._events.lost(step, "profiler", f"the profile is not kept: {failure}")

    def _times(self) -> dict[str, Any]:
        """When the run began, when it ended, and the seconds between, in which it may have stood still."""
        events, ended = self._run_dir / "logs" / "events.jsonl", journal.now()
        started = next((event["timestamp"] for event, _ in journal.read(events)), ended)
        seconds = (journal.milliseconds(ended) - journal.milliseconds(started)) / 1000
        return {"started": started, "ended": ended, "duration_seconds": seconds}
