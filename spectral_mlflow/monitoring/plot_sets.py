"""Which plots there are, by name: each a function of what it is drawn from. Imports matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from matplotlib.figure import Figure

from spectral_mlflow.monitoring.model_arrays import Array, AttentionArrays, WaveArrays
from spectral_mlflow.plots import attention, comparison, training, waves

Points = tuple[Array, Array]
Plots = dict[str, Callable[[], Figure]]

PACKETS = 6  # That are drawn one below the other.
POSITIONS = 48
COURSE = ("wave_ratio", "wave/temperature")
COMPARED = {"val_loss": "validation loss (nats per token)", "loss": "training loss (nats per token)"}
SMOOTHED = {"val_loss": 0.0, "loss": 0.02}  # Share of a curve to average over: a validation loss is an average already.


def of_training(metrics: Mapping[str, Points], loss: str) -> Plots:
    """How a training went, with a title for its loss; the panel of everything comes last."""
    plots: Plots = {"loss_curve": partial(training.loss_curve, *metrics.get("loss", ((), ())), loss=loss)}
    if any(name in metrics for name in COURSE):
        plots["wave_course"] = partial(training.wave_course, metrics)
    return {**plots, "training_dynamics": partial(training.training_dynamics, metrics, loss=loss)}


def of_waves(arrays: WaveArrays, steps: Sequence[int], frequencies: Array, context: int | None) -> Plots:
    """What the waves of a part look like, and how their frequencies (S, N, W) have moved over the steps (S,).

    Args:
        arrays: the waves.
        steps: of the frequencies.
        frequencies: of each step.
        context: positions that the model has.
    """
    positions = min(POSITIONS, context or POSITIONS)
    of = arrays.vocabulary
    return {
        "frequencies": partial(waves.frequencies, arrays.frequencies, of=of),
        "frequency_evolution": partial(waves.frequency_evolution, steps, frequencies, of=of),
        "phases": partial(waves.phases, arrays.phases, of=of),
        "harmonics": partial(waves.harmonics, arrays.amplitudes, of=of),
        "wave_packets": partial(_of_packets, waves.wave_packets, arrays, PACKETS, positions),
        "interference": partial(_of_packets, waves.interference, arrays, len(arrays.shown), positions),
    }


def _of_packets(draw: Callable[..., Figure], arrays: WaveArrays, most: int, positions: int) -> Figure:
    rows = list(arrays.shown)[:most]
    known = arrays.frequencies[rows], arrays.phases[rows], arrays.amplitudes[rows]
    return draw(*known, arrays.phase_speeds, arrays.labels[:most], positions=positions)


def of_attention(arrays: AttentionArrays) -> Plots:
    """What the heads attend to, and by which agreement of phases."""
    chosen = partial(partial, layers=arrays.layers, heads=arrays.heads, of=arrays.of)
    plots: Plots = {"attention_maps": chosen(attention.attention_maps, arrays.weights, arrays.labels)}
    if arrays.coherence is not None:
        plots["phase_coherence"] = chosen(attention.phase_coherence, arrays.coherence, arrays.labels)
    return plots


def of_parameters(parts: Mapping[str, int]) -> Plots:
    """Where a model has its parameters."""
    return {"parameters": partial(comparison.parameters, parts)}


def of_comparison(curves: Mapping[str, Mapping[str, Sequence[Points]]]) -> Plots:
    """Learning curves side by side: of each metric, the seeds of each label."""
    return {
        f"comparison_{metric}": partial(
            comparison.learning_curves, known, metric=COMPARED[metric], smoothing=SMOOTHED[metric]
        )
        for metric, known in curves.items()
    }
