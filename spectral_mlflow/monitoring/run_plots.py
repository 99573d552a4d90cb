"""RunPlots: the plots of a run, drawn beside its training, and told to the stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spectral_mlflow.monitoring import model_arrays
from spectral_mlflow.monitoring.model_arrays import ModelArrays
from spectral_mlflow.monitoring.plot_process import PlotProcess
from spectral_mlflow.monitoring.run_events import RunEvents

OVERVIEW = "overview"  # Kind of the event that ends a set of plots: the page with all of them.


class RunPlots:
    """Keeps what plots are drawn from, and has them drawn by a process of lowest priority.

    A plot that fails is told of once and stops nothing.
    """

    def __init__(self, run_dir: Path, events: RunEvents, told: Iterable[Mapping[str, Any]]) -> None:
        """Know the plots so far; nothing is drawn yet.

        Args:
            run_dir: the run.
            events: what it tells of itself.
            told: the events so far.
        """
        self._run_dir = run_dir
        self._folder = run_dir / "visualizations"
        self._events = events
        told = list(told)
        self._paths = dict.fromkeys(event["path"] for event in told if event.get("kind") == "plot" and "path" in event)
        self._drawn = {event.get("step") for event in told if event.get("kind") == OVERVIEW}
        self._process = PlotProcess(run_dir, self._hear)
        self._refused = False

    @property
    def paths(self) -> list[str]:
        """Those that are drawn, from the run directory."""
        return list(self._paths)

    def save(self, step: int, arrays: ModelArrays) -> None:
        """Keep what the plots of a step are drawn from, and have them drawn.

        Args:
            step: optimizer steps done.
            arrays: taken from the model.
        """
        path = model_arrays.path_of(self._folder, step)
        with self._told(step):
            arrays.save(path)
            self._events.artifact(path, "plot_data", step)
            self._process.ask(step)

    def catch_up(self, step: int) -> None:
        """Have those drawn that an interrupted run has left.

        Args:
            step: the one that it goes on from: later ones come again.
        """
        for earlier in model_arrays.steps_in(self._folder):
            if earlier <= step and earlier not in self._drawn:
                with self._told(earlier):
                    self._process.ask(earlier)

    @contextmanager
    def _told(self, step: int) -> Iterator[None]:
        """Tell of what the system refuses, once until it has worked again."""
        try:
            yield
        except OSError as failure:
            if not self._refused:
                self._events.lost(step, "plot", f"the plots of step {step} are left out: {failure}")
            self._refused = True
        else:
            self._refused = False

    def finish(self, *, stop: Callable[[], bool], tell: Callable[[float], None]) -> int:
        """Wait for those that are left (`PlotProcess.finish`).

        Returns:
            Number of steps whose plots are left all the same.
        """
        self._process.finish(stop=stop, tell=tell)
        return len(self._process.waiting)

    def close(self) -> None:
        """Draw no more."""
        self._process.close()

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "plot" in message:
            path, step = Path(message["plot"]), message["step"]
            self._paths[self._events.relative(path)] = None
            self._events.artifact(path, "plot", step, key=message["key"])
        elif "done" in message:
            self._events.artifact(self._run_dir / "overview.html", OVERVIEW, message["done"])
        elif message["level"] in ("WARNING", "ERROR"):
            advice = "training goes on; the plots are tried again at the next interval"
            self._events.alert(None, "warning", "plot", message["message"], advice)
        else:
            self._events.entry(message["level"], "plots", message["message"])
