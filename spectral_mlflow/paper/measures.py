"""What is measured of one run, and how a value of each kind is written."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spectral_mlflow.analysis.significance import LOSS_MARGIN
from spectral_mlflow.paper.facts import History, Run

TAIL = 0.05  # Share of the steps at the end over which the noise of single batches is averaged.

# Digits behind the point of each kind; None: a whole number with groups of three.
DIGITS: dict[str, int | None] = {
    "count": None, "loss": 4, "ratio": 3, "perplexity": 2, "temperature": 2, "percent": 1, "times": 2, "seconds": 1,
    "milliseconds": 1, "megabytes": None, "effect": 2, "p": 3, "margin": 2, "setting": None, "text": None,
}  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """One number of a run.

    Attributes:
        noun: what it is called in a sentence.
        unit: behind the number, empty for none.
        kind: of `DIGITS`.
        query: where it comes from, as the ledger says.
        of: the number, None where the run lacks it.
        margin: differences below it mean nothing: absolute, or as a share of the reference.
        relative: whether the margin is a share.
    """

    noun: str
    unit: str
    kind: str
    query: str
    of: Callable[[Run], float | None]
    margin: float | None = None
    relative: bool = False


def _latest(name: str) -> Callable[[Run], float | None]:
    return lambda run: run.metrics.get(name)


def _history(name: str, reduce: Callable[[History], float]) -> Callable[[Run], float | None]:
    return lambda run: reduce(run.histories[name]) if name in run.histories else None


def _first(history: History) -> float:
    return float(history.values[0])


def _last(history: History) -> float:
    return float(history.values[-1])


def _median(history: History) -> float:
    return float(np.median(history.values))


def _highest(history: History) -> float:
    return float(np.max(history.values))


def _tail(history: History) -> float:
    since = history.steps[-1] - TAIL * (history.steps[-1] - history.steps[0])
    return float(np.mean(history.values[history.steps >= since]))


def _loss(run: Run) -> float | None:
    return run.metrics.get("best_val_loss")


def _perplexity(run: Run) -> float | None:
    loss = _loss(run)
    return None if loss is None or loss > 700 else math.exp(loss)  # No float holds more.


def _bits(run: Run) -> float | None:
    loss = _loss(run)
    return None if loss is None or run.settings.get("dataset.tokenizer") != "char" else loss / math.log(2)


def tokens_per_step(run: Run) -> float | None:
    """Tokens of one step of the optimizer, None where a setting is not recorded."""
    names = ("training.batch_size", "model.block_size")
    if any(run.settings.get(name) is None for name in names):
        return None
    return math.prod(float(run.settings[name]) for name in names) * float(
        run.settings.get("training.gradient_accumulation") or 1
    )


def _step_time(run: Run) -> float | None:
    tokens, speed = tokens_per_step(run), MEASURES["tokens_per_sec"].of(run)
    return None if tokens is None or not speed else 1000 * tokens / speed


def _seconds(run: Run) -> float | None:
    return None if run.ended is None else (run.ended - run.started).total_seconds()


def _steps(run: Run) -> float | None:
    return float(run.histories["loss"].steps[-1]) if "loss" in run.histories else None


def _parameters(run: Run) -> float | None:
    found = run.settings.get("model.num_parameters")
    return None if found is None else float(found)


COST = 0.05  # Share within which two costs count as equal.

MEASURES: dict[str, Measure] = {
    "val_loss": Measure(
        "best validation loss", "nats per token", "loss", "metrics.best_val_loss", _loss, margin=LOSS_MARGIN
    ),
    "perplexity": Measure("perplexity", "", "perplexity", "exp(metrics.best_val_loss)", _perplexity),
    "bits_per_char": Measure("bits per character", "", "loss", "metrics.best_val_loss / ln 2", _bits),
    "train_loss": Measure(
        "training loss", "nats per token", "loss", "mean of the history of loss over its last 5 % of steps",
        _history("loss", _tail),
    ),
    "parameters": Measure("parameters", "", "count", "params.model.num_parameters", _parameters),
    "flops_per_token": Measure(
        "floating point operations per token", "", "count", "metrics.flops_per_token", _latest("flops_per_token")
    ),
    "tokens_per_sec": Measure(
        "training speed", "tokens per second", "count", "median of the history of tokens_per_sec",
        _history("tokens_per_sec", _median), margin=COST, relative=True,
    ),
    "step_ms": Measure(
        "time of a step", "ms", "milliseconds", "tokens of a step / median of the history of tokens_per_sec",
        _step_time, margin=COST, relative=True,
    ),
    "seconds": Measure(
        "duration of a run", "s", "seconds", "end_time - start_time", _seconds, margin=COST, relative=True
    ),
    "peak_memory_mb": Measure(
        "peak memory", "MB", "megabytes", "maximum of the history of system/rss_mb",
        _history("system/rss_mb", _highest), margin=COST, relative=True,
    ),
    "last_step": Measure("last step", "", "count", "last step of the history of loss", _steps),
    "grad_norm": Measure(
        "norm of the gradient", "", "ratio", "median of the history of grad/norm", _history("grad/norm", _median)
    ),
    "attention_entropy": Measure(
        "entropy of attention", "nats", "ratio", "last value of attention/entropy", _history("attention/entropy", _last)
    ),
    "coherence": Measure(
        "phase coherence", "", "ratio", "last value of attention/coherence", _history("attention/coherence", _last)
    ),
    **{
        f"ratio_{name}": Measure("wave ratio", "", "ratio", f"{name} value of wave_ratio", _history("wave_ratio", pick))
        for name, pick in (("first", _first), ("last", _last))
    },
    **{
        f"temperature{place}_{name}": Measure(
            "sharpness of attention", "", "temperature", f"{name} value of wave/temperature{place}",
            _history(f"wave/temperature{place}", pick),
        )
        for place, name, pick in (
            ("", "first", _first), ("", "last", _last), ("_min", "last", _last), ("_max", "last", _last),
        )
    },
}  # fmt: skip

# First step and second at which a run reaches the loss that all runs of the comparison reach.
REACHED = {
    "steps_to_target": Measure(
        "number of steps to the common loss", "steps", "count", "first step with val_loss <= main.target",
        lambda _: None, margin=COST, relative=True,
    ),
    "seconds_to_target": Measure(
        "time to the common loss", "s", "seconds", "first second with val_loss <= main.target", lambda _: None,
        margin=COST, relative=True,
    ),
}  # fmt: skip


ALL = MEASURES | REACHED
# Say as much of the machine as of the model.
OF_MACHINE = ("tokens_per_sec", "step_ms", "seconds", "peak_memory_mb", "seconds_to_target")
MACHINE = ("device", "precision", "threads", "cpu_model", "gpu_model")
TESTED = {name: measure for name, measure in ALL.items() if measure.margin is not None}


def reached(run: Run, target: float) -> tuple[float, float] | None:
    """First step and second with a validation loss of at most the target, None where it is never reached."""
    history = run.histories.get("val_loss")
    if history is None:
        return None
    below = np.flatnonzero(history.values <= target)
    return (float(history.steps[below[0]]), float(history.seconds[below[0]])) if len(below) else None


def written(value: float | str, kind: str, digits: int | None = None, *, sign: bool = False) -> str:
    """A value as the documents write it.

    Args:
        value: what to write.
        kind: of `DIGITS`.
        digits: behind the point, None: those of the kind.
        sign: whether a positive number has its sign.
    """
    if isinstance(value, str):
        return value
    if kind == "p" and value < 10 ** -(digits or 3):
        return f"< {10 ** -(digits or 3):.{digits or 3}f}"
    if kind == "setting" and digits is None:
        return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
    places = DIGITS[kind] if digits is None else digits
    text = f"{round(value):,}" if places is None else f"{value:,.{places}f}"
    text = text.removeprefix("-") if not text.strip("-0.,") else text  # No minus zero.
    return f"+{text}" if sign and value > 0 else text
