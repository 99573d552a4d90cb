"""The process that draws the plots of a run beside its training: ``python -m ...plot_worker RUN_DIR``; no torch.

It is told on its input which steps to draw, and tells on its output what it has drawn, both as one JSON object a line.
It draws from files alone: the arrays that the training has left for a step, and the journal of metrics. The newest step
comes first; those that are late wait as numbers, not as data, and are merged into it as far as it shows what they
would: of their training nothing is drawn. When the input ends, the training is gone, or does not want to wait any
longer, and what is left stays for whoever continues the run.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spectral_mlflow.monitoring import model_arrays, overview, priority
from spectral_mlflow.monitoring.metric_columns import MetricColumns
from spectral_mlflow.monitoring.model_arrays import ModelArrays
from spectral_mlflow.monitoring.plot_keys import key_of
from spectral_mlflow.monitoring.run_facts import RunFacts
from spectral_mlflow.monitoring.visualizations import VisualizationManager

_log = logging.getLogger("spectral_mlflow.monitoring.plot_worker")  # Not of `__main__`, which it is.


class Requests:
    """The steps that wait to be drawn, as a thread reads them.

    Attributes:
        waiting: those steps.
        abandoned: whether the input has ended: nobody waits for what is left.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        """Begin to read.

        Args:
            lines: ``{"step": N}``, or ``{"finish": true}`` when no more of them will come.
        """
        self.abandoned = False
        self.waiting: set[int] = set()
        self._finishing = False
        self._changed = threading.Condition()
        threading.Thread(target=self._listen, args=(lines,), daemon=True).start()

    def __iter__(self) -> Iterator[int]:
        """The newest step that waits, again and again, until no more will come."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.waiting or self._finishing or self.abandoned)
                if self.abandoned or not self.waiting:
                    return
                self.waiting.remove(step := max(self.waiting))
            yield step

    def _listen(self, lines: Iterable[str]) -> None:
        for line in lines:
            request = json.loads(line)
            with self._changed:
                if "step" in request:
                    self.waiting.add(request["step"])
                if request.get("finish"):
                    self._finishing = True
                    priority.step_forward()
                self._changed.notify()
        with self._changed:
            self.abandoned = True
            self._changed.notify()


class PlotWorker:
    """Draws the plots of steps, and tells of each."""

    def __init__(self, run_dir: Path) -> None:
        """Read nothing yet.

        Args:
            run_dir: the run.
        """
        self._run_dir = run_dir
        self._folder = run_dir / "visualizations"
        self._manager = VisualizationManager(str(self._folder))
        self._metrics = MetricColumns(run_dir / "logs" / "metrics.jsonl")
        self._known: set[int] = set()
        self._newest = 0  # Step whose training is drawn: it shows that of those before.
        self._loss = "Loss" if RunFacts(run_dir).is_own_loop else "Cross-entropy loss (nats per token)"
        self._trainer = os.getppid()

    def draw(self, requests: Requests) -> None:
        """Draw what is asked for, until no more is."""
        for step in requests:
            for path in self._plots(step):
                tell(plot=path, step=step, key=key_of(Path(path).name.rpartition("_step_")[0]))
                if requests.abandoned or os.getppid() != self._trainer:  # A child of it may hold the input open.
                    return
            if not requests.waiting:  # Else the next set will be on it too.
                self._write_overview()
            if not self._manager.is_refused:  # Else it is left for later.
                tell(done=step)

    def _plots(self, step: int) -> Iterator[str]:
        if arrays := self._arrays(step):
            yield from self._manager.draw_model(step, arrays)
        if step > self._newest:  # Before the first step there is a model, but no training.
            self._newest = step
            self._metrics.read()
            yield from self._manager.draw_training(step, self._metrics.until(step), loss=self._loss)

    def _write_overview(self) -> None:
        try:
            overview.write(self._run_dir)
        except Exception as failure:  # It shows files that anybody may have written.
            _log.warning("overview.html is left as it was: %r", failure)

    def _arrays(self, step: int) -> ModelArrays | None:
        """Those of a step; the ones before it are remembered."""
        for earlier in model_arrays.steps_in(self._folder):
            if earlier < step and earlier not in self._known and (known := self._load(earlier)):
                self._manager.remember(earlier, known)
        return self._load(step)

    def _load(self, step: int) -> ModelArrays | None:
        path = model_arrays.path_of(self._folder, step)
        self._known.add(step)
        try:
            return ModelArrays.load(path)
        except (OSError, ValueError) as failure:
            _log.warning("plots of the model at step %d left out: %s", step, failure)
            return None


def tell(**message: Any) -> None:
    """One line for whoever has started this process."""
    print(json.dumps(message), flush=True)


class Told(logging.Handler):
    """Passes on what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of one entry."""
        tell(level=record.levelname, message=record.getMessage())


def main(run_dir: str) -> int:
    """Draw until the input says that it is enough, or ends."""
    priority.step_back()
    logging.basicConfig(level=logging.WARNING)  # What others say is in the log of this process.
    ours = logging.getLogger("spectral_mlflow")
    ours.setLevel(logging.INFO)
    ours.addHandler(Told())
    PlotWorker(Path(run_dir)).draw(Requests(sys.stdin))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
