"""The plots of a run: what its training and its waves look like, every so many steps.

Drawing is never a reason to stop: a plot that fails is logged once with its name, left out, and tried again at the next
interval. matplotlib is imported when the first plot is drawn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectral_mlflow.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

    Plots = dict[str, Callable[[], Figure]]

Array = np.ndarray[Any, Any]
Points = tuple[Array, Array]

WAVE_ATTRIBUTES = ("frequencies", "phases", "amplitudes")
WAVE_PLOTS = {"frequencies": "frequencies", "phases": "phases", "harmonics": "amplitudes"}
PACKETS = 5  # Tokens whose wave packets are shown.
COMPARED = {"val_loss": "validation loss (nats per token)", "loss": "training loss (nats per token)"}
SMOOTHED = {"val_loss": 0.0, "loss": 0.02}  # Share of a curve to average over: a validation loss is an average already.

_log = logging.getLogger(__name__)


class VisualizationManager:
    """Draws a run's plots into its folder as ``{plot}_step_{step}.png``, in the dark house style."""

    def __init__(self, viz_dir: str, viz_interval: int = 1000) -> None:
        """Set up; nothing is written yet.

        Args:
            viz_dir: folder of the plots; made when the first one is drawn.
            viz_interval: steps between plots; 0: none.

        Raises:
            UserError: the interval is below 1.
        """
        if viz_interval < 0:
            raise UserError(f"viz_interval: given {viz_interval}; allowed: 1 or more steps between plots, 0 for none")
        self.viz_dir = Path(viz_dir)
        self.viz_interval = viz_interval
        self._reported: set[str] = set()

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
        steps = metrics.get("step", range(1, len(loss_history) + 1))
        logged = metrics.get("loss", [])
        losses = logged if _are_pairs(logged) else loss_history  # Pairs know their steps for sure.

        def loss_curve() -> Figure:
            from spectral_mlflow.plots import training

            return training.loss_curve(*points(losses, steps))

        def training_dynamics() -> Figure:
            from spectral_mlflow.plots import training

            known = {"loss": losses} | {
                name: values for name, values in metrics.items() if name not in ("step", "loss")
            }
            return training.training_dynamics({name: points(values, steps) for name, values in known.items()})

        return self._draw(step, {"loss_curve": loss_curve, "training_dynamics": training_dynamics})

    def generate_model_plots(
        self,
        step: int,
        model: nn.Module,
        *,
        tokens: Sequence[int] | None = None,
        token_text: Callable[[int], str] | None = None,
    ) -> list[str]:
        """Draw frequencies, phases, harmonics and wave packets of every part of a model that has waves.

        A part has waves if it has the parameters ``frequencies`` (V, W), ``phases`` (V, W) and ``amplitudes``
        (V, W, H); ``phase_speeds`` (W,) are 0 where there are none. The files of a second part
        and further ones carry its name.

        Args:
            step: names the files.
            model: is only read.
            tokens: whose packets to draw; default: a few, evenly over the vocabulary.
            token_text: what to call a token; default: its number.

        Returns:
            The paths written; none for a model without waves.
        """
        plots: Plots = {}
        for name, part in wave_parts(model):
            suffix = f"_{name.replace('.', '_')}" if plots else ""
            plots |= {f"{plot}{suffix}": draw for plot, draw in _wave_plots(part, tokens, token_text).items()}
        if not plots:
            missing = ", ".join(WAVE_ATTRIBUTES)
            note = "model plots left out: no part of %s has %s"
            self._report("model", note, type(model).__name__, missing, level=logging.INFO)
        return self._draw(step, plots)

    def generate_comparison_plots(self, experiments: list[dict[str, Any]]) -> list[str]:
        """Draw the learning curves of several experiments; those with one name are seeds of it.

        Args:
            experiments: each with ``name`` (or ``experiment_id``), ``loss_history`` and/or ``metrics`` as for the
                training plots. The files are named by the last step of all.

        Returns:
            The paths written, ``comparison_{metric}_step_{step}.png``.
        """
        curves = {metric: known for metric in COMPARED if (known := _curves(experiments, metric))}
        ends = [steps.max() for known in curves.values() for seeds in known.values() for steps, _ in seeds]
        plots = {f"comparison_{metric}": _comparison(metric, known) for metric, known in curves.items()}
        return self._draw(int(max(ends, default=0)), plots)

    def _draw(self, step: int, plots: Mapping[str, Callable[[], Figure]]) -> list[str]:
        written = []
        for name, plot in plots.items():
            try:
                written.append(self._save(f"{name}_step_{step}.png", plot))
            except OSError as failure:
                self._report("folder", "plots left out, %s cannot be written: %s", self.viz_dir, failure)
                break  # The next one would fail alike, after the work of drawing it.
            except Exception as failure:  # Whatever is wrong with a plot, training goes on.
                self._report(name, "plot %s left out, tried again at the next interval: %r", name, failure)
            else:
                self._reported -= {name, "folder"}
        return written

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


def wave_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a model, with their names, that have waves."""
    for name, module in model.named_modules():
        if all(hasattr(getattr(module, attribute, None), "detach") for attribute in WAVE_ATTRIBUTES):
            yield name, module


def _array(tensor: Any) -> Array:
    return np.asarray(tensor.detach().float().cpu().numpy())


def _wave_plots(part: Any, tokens: Sequence[int] | None, token_text: Callable[[int], str] | None) -> Plots:
    def packets() -> Figure:
        from spectral_mlflow.plots import waves

        spread = np.linspace(0, len(part.frequencies) - 1, min(PACKETS, len(part.frequencies)))
        chosen = spread.astype(int).tolist() if tokens is None else list(tokens)
        f, phi, amplitudes = (_array(getattr(part, name)[chosen]) for name in WAVE_ATTRIBUTES)
        speeds = getattr(part, "phase_speeds", None)
        gamma = np.zeros(f.shape[1]) if speeds is None else _array(speeds)
        return waves.wave_packets(f, phi, amplitudes, gamma, [(token_text or _numbered)(token) for token in chosen])

    plots = {name: _wave_plot(name, getattr(part, attribute)) for name, attribute in WAVE_PLOTS.items()}
    return {**plots, "wave_packets": packets}


def _wave_plot(name: str, tensor: Any) -> Callable[[], Figure]:
    def draw() -> Figure:
        from spectral_mlflow.plots import waves

        plot: Callable[[Array], Figure] = getattr(waves, name)
        return plot(_array(tensor))

    return draw


def _numbered(token: int) -> str:
    return f"token {token}"


def _curves(experiments: Sequence[Mapping[str, Any]], metric: str) -> dict[str, list[Points]]:
    curves: dict[str, list[Points]] = {}
    for place, experiment in enumerate(experiments, 1):
        metrics, history = experiment.get("metrics", {}), experiment.get("loss_history", [])
        values = metrics.get(metric, history if metric == "loss" else [])
        if len(values):
            label = str(experiment.get("name", experiment.get("experiment_id", f"experiment {place}")))
            curves.setdefault(label, []).append(points(values, metrics.get("step", range(1, len(history) + 1))))
    return curves


def _comparison(metric: str, curves: Mapping[str, Sequence[Points]]) -> Callable[[], Figure]:
    def draw() -> Figure:
        from spectral_mlflow.plots import comparison

        return comparison.learning_curves(curves, metric=COMPARED[metric], smoothing=SMOOTHED[metric])

    return draw
