"""The plots of a run: what its training and its model look like, every so many steps.

Drawing is never a reason to stop: a plot that fails is logged once with its name, left out, and tried again at the next
interval. matplotlib is imported when the first plot is drawn.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.model_arrays import Array, ModelArrays

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from spectral_mlflow.monitoring.plot_sets import Plots

Points = tuple[Array, Array]

MOST_STEPS = 100  # Of the frequencies over the steps.

_log = logging.getLogger(__name__)


class VisualizationManager:
    """Draws a run's plots into its folder as ``{plot}_step_{step}.png``, in the dark house style."""

    def __init__(self, viz_dir: str, viz_interval: int = 1000) -> None:
        """Set up; nothing is written yet.

        Args:
            viz_dir: folder of the plots; made when the first one is drawn.
            viz_interval: steps between plots; 0: none.

        Raises:
            UserError: the interval is below 0.
        """
        if viz_interval < 0:
            raise UserError(f"viz_interval: given {viz_interval}; allowed: 1 or more steps between plots, 0 for none")
        self.viz_dir = Path(viz_dir)
        self.viz_interval = viz_interval
        self._reported: set[str] = set()
        self._first: int | None = None  # The first step that a model was seen at.
        self._frequencies: dict[str, dict[int, Array]] = {}  # Of each part with waves, by step.

    @property
    def is_refused(self) -> bool:
        """Whether the folder could not be written when it was last tried."""
        return "folder" in self._reported

    def should_visualize(self, step: int) -> bool:
        """Whether plots are due after this step."""
        return step > 0 and self.viz_interval > 0 and step % self.viz_interval == 0

    def generate_training_plots(
        self, step: int, loss_history: list[float], metrics: dict[str, list[float]]
    ) -> list[str]:
        """Draw the loss alone, and a panel of everything that was measured.

        Args:
            step: names the files.
            loss_history: the training loss of each step.
            metrics: name to values. ``step`` gives the steps, else they count from 1. A list may also hold
                ``(step, value)`` pairs; a shorter one without is taken to be measured at even intervals up to the end.

        Returns:
            The paths written; a plot that failed is missing.
        """
        return list(self.draw_training(step, self._columns(loss_history, metrics)))

    def generate_model_plots(
        self,
        step: int,
        model: nn.Module,
        *,
        tokens: Sequence[int] | None = None,
        token_text: Callable[[int], str] | None = None,
        passage: Tensor | None = None,
    ) -> list[str]:
        """Draw the waves of a model, how they have changed since the first call, its parameters and its attention.

        Args:
            step: names the files.
            model: is only read; `spectral_mlflow.monitoring.observation.observe` says what of it is drawn.
            tokens: whose packets to show, the most interesting first; default: a few, evenly over the vocabulary.
            token_text: what to call a token; default: its number.
            passage: ids (T,) of a text to attend in; default: attention is not drawn.

        Returns:
            The paths written; none for a model without waves of which no attention is drawn.
        """
        from spectral_mlflow.monitoring.observation import observe

        try:
            arrays = observe(model, tokens=tokens, token_text=token_text, passage=passage)
        except Exception as failure:  # Nobody knows what a model may do.
            self._report("model", "plots of the model left out, tried again at the next interval: %r", failure)
            return []
        return list(self.draw_model(step, arrays))

    def generate_comparison_plots(self, experiments: list[dict[str, Any]]) -> list[str]:
        """Draw the learning curves of several experiments; those with one name are seeds of it.

        Args:
            experiments: each with ``name`` (or ``experiment_id``), ``loss_history`` and/or ``metrics`` as for the
                training plots. The files are named by the last step of all.

        Returns:
            The paths written, ``comparison_{metric}_step_{step}.png``.
        """
        curves: dict[str, dict[str, list[Points]]] = {}
        for place, experiment in enumerate(experiments, 1):
            label = str(experiment.get("name", experiment.get("experiment_id", f"experiment {place}")))
            known = self._columns(experiment.get("loss_history") or [], experiment.get("metrics") or {})
            for metric in (name for name in ("val_loss", "loss") if name in known):
                curves.setdefault(metric, {}).setdefault(label, []).append(known[metric])
        ends = [float(np.nanmax(steps)) for of in curves.values() for seeds in of.values() for steps, _ in seeds]

        def plots() -> Plots:
            from spectral_mlflow.monitoring import plot_sets

            return plot_sets.of_comparison(
                {metric: curves[metric] for metric in ("val_loss", "loss") if metric in curves}
            )

        return list(self._draw(int(max(ends, default=0)), plots))

    def _columns(self, loss_history: Sequence[float], metrics: Mapping[str, Any]) -> dict[str, Points]:
        """Steps and values of the loss and of each metric that has some; what is none is logged and left out."""
        logged = metrics.get("loss", [])
        losses = logged if _are_pairs(logged) or not len(loss_history) else loss_history  # Pairs know their steps.
        steps = metrics.get("step", range(1, len(losses) + 1))
        columns = {}
        for name, values in {"loss": losses, **{n: v for n, v in metrics.items() if n not in ("step", "loss")}}.items():
            try:
                if len(values):
                    columns[name] = points(values, steps)
            except Exception as failure:
                self._report(name, "metric %s is not drawn: %r", name, failure)
        return columns

    def draw_training(self, step: int, metrics: Mapping[str, Points], *, loss: str = "Loss") -> Iterator[str]:
        """Draw how the training went.

        Args:
            step: names the files.
            metrics: name to steps (n,) and values (n,).
            loss: title of the loss, with its unit.

        Yields:
            Each path, when it is written.
        """

        def plots() -> Plots:
            from spectral_mlflow.monitoring import plot_sets

            return plot_sets.of_training(metrics, loss)

        return self._draw(step, plots)

    def draw_model(self, step: int, arrays: ModelArrays) -> Iterator[str]:
        """Draw what was taken of a model.

        The files of a second part with waves and of further ones carry its name.

        Args:
            step: names the files.
            arrays: of this step; its frequencies are remembered for later ones.

        Yields:
            Each path, when it is written.
        """
        self.remember(step, arrays)
        if not arrays.waves:
            note = "wave plots left out: no part of %s has frequencies, phases and amplitudes"
            self._report("waves", note, arrays.kind, level=logging.INFO)

        def plots() -> Plots:
            from spectral_mlflow.monitoring import plot_sets

            known: Plots = {}
            for name, waves in arrays.waves.items():
                part = f"_{re.sub(r'[^0-9A-Za-z]', '_', name)}" if known else ""
                drawn = plot_sets.of_waves(waves, *self._evolution(name, step), arrays.context)
                known |= {f"{plot}{part}": draw for plot, draw in drawn.items()}
            if arrays.attention:
                known |= plot_sets.of_attention(arrays.attention)
            if known and step == self._first:  # They stay as many as they are.
                known |= plot_sets.of_parameters(arrays.parameters)
            return known

        return self._draw(step, plots)

    def remember(self, step: int, arrays: ModelArrays) -> None:
        """Take note of the frequencies of a step without drawing it; of very many steps only some are kept."""
        self._first = step if self._first is None else min(step, self._first)
        for name, waves in arrays.waves.items():
            known = self._frequencies.setdefault(name, {})
            known[step] = waves.frequencies
            if len(known) > 2 * MOST_STEPS:
                for dropped in sorted(known)[1:-1:2]:
                    del known[dropped]

    def _evolution(self, part: str, step: int) -> tuple[list[int], Array]:
        """The frequencies of a part up to a step, at most of `MOST_STEPS` steps."""
        known = self._frequencies[part]
        steps = sorted(s for s in known if s <= step and known[s].shape == known[step].shape)
        chosen = np.linspace(0, len(steps) - 1, min(len(steps), MOST_STEPS)).astype(int)
        return [steps[place] for place in chosen], np.stack([known[steps[place]] for place in chosen])

    def _draw(self, step: int, plots: Callable[[], Plots]) -> Iterator[str]:
        try:
            named = plots()
        except Exception as failure:
            self._report("plots", "plots left out, tried again at the next interval: %r", failure)
            return
        for name, plot in named.items():
            try:
                path = self._save(f"{name}_step_{step}.png", plot)
            except OSError as failure:
                self._report("folder", "plots left out, %s cannot be written: %s", self.viz_dir, failure)
                return  # The next one would fail alike, after the work of drawing it.
            except Exception as failure:  # Whatever is wrong with a plot, training goes on.
                self._report(name, "plot %s left out, tried again at the next interval: %r", name, failure)
            else:
                self._reported -= {name, "model", "plots", "folder"}
                yield path

    def _save(self, name: str, plot: Callable[[], Figure]) -> str:
        from spectral_mlflow.plots import style

        self.viz_dir.mkdir(parents=True, exist_ok=True)
        with style.dark():
            return str(style.save(plot(), self.viz_dir / name))

    def _report(self, subject: str, message: str, *values: object, level: int = logging.WARNING) -> None:
        """Log once, until what failed has worked again."""
        if subject not in self._reported:
            self._reported.add(subject)
            _log.log(level, message, *values)


def points(values: Sequence[Any], steps: Sequence[float]) -> Points:
    """Values with the steps they belong to, (n,) and (n,).

    Args:
        values: numbers, None where there is none, or ``(step, value)`` pairs.
        steps: of each value. For fewer values than steps they are spread evenly, the last value at the last step, as
            from a measurement at a fixed interval; for more values, steps count from 1.
    """
    if _are_pairs(values):
        steps, values = zip(*values, strict=True)
    known, count = np.array(values, dtype=float), len(values)
    if count > len(steps):
        return np.arange(1.0, count + 1), known
    last = np.linspace(0, len(steps), count + 1)[1:].round().astype(int) - 1
    return np.array(steps, dtype=float)[last], known


def _are_pairs(values: Sequence[Any]) -> bool:
    return len(values) > 0 and all(isinstance(value, (tuple, list)) and len(value) == 2 for value in values)
