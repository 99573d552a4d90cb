"""RunPlots: the plots of a run, drawn beside its training, and told to the stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_mlflow.monitoring import model_arrays
from spectral_mlflow.monitoring.model_arrays import ModelArrays
from spectral_mlflow.monitoring.plot_process import PlotProcess
from spectral_mlflow.monitoring.run_events import RunEvents

if TYPE_CHECKING:
    from torch import nn

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
        self._arrays = ModelArrays("")
        self._failing: set[str] = set()

    @property
    def paths(self) -> list[str]:
        """Those that are drawn, from the run directory."""
        return list(self._paths)

    def look(self, step: int, model: nn.Module, **shown: Any) -> dict[str, float]:
        """Take from a model what plots show of it; one that cannot be looked at has those of its training.

        Args:
            step: optimizer steps done.
            model: is only read.
            shown: what of it, as for `spectral_mlflow.monitoring.observation.observe`.

        Returns:
            What can be said of it in numbers, by the names of the journal.
        """
        from spectral_mlflow.monitoring.observation import observe

        self._arrays = ModelArrays(type(model).__name__)
        with self._told(step, "look"):
            self._arrays = observe(model, **shown)
            return self._arrays.metrics()
        return {}

    def draw(self, step: int) -> None:
        """Keep what was seen of the model at a step, and have its plots drawn."""
        path = model_arrays.path_of(self._folder, step)
        with self._told(step, "draw"):
            self._arrays.save(path)
            self._events.artifact(path, "plot_data", step)
            self._process.ask(step)

    def catch_up(self, step: int) -> None:
        """Have those drawn that an interrupted run has left.

        Args:
            step: the one that it goes on from: later ones come again.
        """
        for earlier in model_arrays.steps_in(self._folder):
            if earlier <= step and earlier not in self._drawn:
                with self._told(earlier, "draw"):
                    self._process.ask(earlier)

    @contextmanager
    def _told(self, step: int, act: str) -> Iterator[None]:
        """Tell of what fails, once until it has worked again: nothing of a plot is a reason to stop."""
        try:
            yield
        except Exception as failure:
            if act not in self._failing:
                reason = str(failure) if isinstance(failure, OSError) else repr(failure)
                advice = "training goes on; the next plots are tried again"
                self._events.alert(step, "warning", "plot", f"plots of step {step} are left out: {reason}", advice)
            self._failing.add(act)
        else:
            self._failing.discard(act)

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
            self._events.alert(None, "warning", "plot", message["message"], "nothing else is touched by it")
        else:
            self._events.entry(message["level"], "plots", message["message"])
