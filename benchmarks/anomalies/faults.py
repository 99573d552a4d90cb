"""The faults: each kind of anomaly, made to happen in a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.anomalies.training import Batch, Fault
from spectral_mlflow.monitoring.monitor import StepRecord

Random = np.random.Generator


@dataclass(frozen=True)
class Injection:
    """A fault that begins in the middle of a run.

    Attributes:
        make: the fault, from random numbers, the step at which it begins, and the number of different tokens.
        steps: how long the run goes on from there.
        neutral: kinds that are true consequences, neither right nor wrong.
    """

    make: Callable[[Random, int, int], Fault]
    steps: int
    neutral: tuple[str, ...] = ()


def explosion(random: Random, start: int, _: int) -> Fault:
    """Gradients are 20 to 1000 times too large, for one to three steps."""
    factor, steps = _log_uniform(random, 20, 1000), int(random.integers(1, 4))
    return Fault(gradients=lambda step: factor if start <= step < start + steps else 1.0)


def vanishing(random: Random, start: int, _: int) -> Fault:
    """Gradients are 1e3 to 1e6 times too small from then on."""
    factor = _log_uniform(random, 1e-6, 1e-3)
    return Fault(gradients=lambda step: factor if step >= start else 1.0)


def spike(random: Random, start: int, vocab_size: int) -> Fault:
    """One batch is garbage, or has targets that do not belong to it."""
    if random.random() < 0.5:
        return Fault(batch=lambda step, given: _garbage(step, given, vocab_size) if step == start else given)
    return Fault(batch=lambda step, given: _shuffled(step, given, 1.0) if step == start else given)


def divergence(random: Random, start: int, _: int) -> Fault:
    """The declared learning rate is 100 to 1000 times as large, or no target belongs to its input any more."""
    factor = _log_uniform(random, 100, 1000)
    if random.random() < 0.5:
        return Fault(declared_lr=lambda step, lr: factor * lr if step >= start else lr)
    return Fault(batch=lambda step, given: _shuffled(step, given, 1.0) if step >= start else given)


def plateau(random: Random, start: int, _: int) -> Fault:
    """The weights are frozen, or move by a hundredth of what they should."""
    part = float(random.choice([0.0, 0.01]))
    return Fault(update=lambda step: part if step >= start else 1.0)


def oscillation(random: Random, start: int, _: int) -> Fault:
    """The difficulty of the batches goes up and down: up to 70 % of the targets are shuffled."""
    period, most = random.uniform(5, 24), random.uniform(0.4, 0.7)
    return Fault(batch=lambda step, given: given if step < start else _shuffled(
        step, given, most * (1 + math.sin(2 * math.pi * step / period)) / 2))  # fmt: skip


def memory(random: Random, start: int, records: list[StepRecord]) -> list[StepRecord]:
    """The measured memory grows by 0.5 to 4 MB a step."""
    growth = random.uniform(0.5, 4)
    return [_with(record, "system/rss_mb", lambda value, past: value + growth * past, start) for record in records]


def throughput(random: Random, start: int, records: list[StepRecord]) -> list[StepRecord]:
    """The measured speed is 3 to 6 times lower from then on."""
    factor = random.uniform(3, 6)
    slow = [_with(record, "tokens_per_sec", lambda value, _: value / factor, start) for record in records]
    return [replace(record, seconds=factor * record.seconds) if record.step >= start else record for record in slow]


def wrong_lr(random: Random, start: int, _: int) -> Fault:
    """The optimizer has another learning rate than the schedule."""
    factor = float(random.choice([0.0, 0.1, 0.5, 2.0, 10.0, 100.0]))
    return Fault(lr=lambda step, lr: factor * lr if step >= start else lr)


def non_finite(random: Random, start: int, _: int) -> Fault:
    """Activations are NaN for one step, or from then on."""
    steps = int(random.choice([1, 1_000_000]))
    return Fault(broken=lambda step: start <= step < start + steps)


def collapse(random: Random, start: int, _: int) -> Fault:
    """More and more windows, after 40 steps all, are the same few characters again and again."""
    length = int(random.integers(2, 9))
    kept: list[torch.Tensor] = []

    def batch(step: int, given: Batch) -> Batch:
        if step < start:
            return given
        kept.append(given[0][0, :length])
        rows, columns = given[0].shape
        text = kept[0].repeat(rows, columns // length + 2)
        same = torch.arange(rows)[:, None] < rows * (step - start) / 40
        return torch.where(same, text[:, :columns], given[0]), torch.where(same, text[:, 1 : columns + 1], given[1])

    return Fault(batch=batch)


INJECTIONS: dict[str, Injection] = {
    "gradient_explosion": Injection(explosion, 30, ("divergence",)),
    "gradient_vanishing": Injection(vanishing, 30),
    "loss_spike": Injection(spike, 30),
    "divergence": Injection(divergence, 60),
    "plateau": Injection(plateau, 90),
    "oscillation": Injection(oscillation, 160),
    "learning_rate": Injection(wrong_lr, 30, ("divergence", "plateau")),
    "non_finite": Injection(non_finite, 30),
    "mode_collapse": Injection(collapse, 260, ("overfitting", "plateau")),
}

# Faults of what was measured, in the records of the healthy run.
MEASURED: dict[str, Callable[[Random, int, list[StepRecord]], list[StepRecord]]] = {
    "memory_growth": memory,
    "throughput_drop": throughput,
}

# Faults of whole runs of so many steps, by their settings.
WHOLE_STEPS = 300
WHOLE: dict[str, dict[str, object]] = {
    "overfitting": {"train_tokens": 1500, "lr": 8e-3, "batch_size": 16, "model.d_model": 32, "model.dropout": 0.0},
    "underfitting": {"lr": 1e-5},
}  # fmt: skip


def _log_uniform(random: Random, low: float, high: float) -> float:
    return math.exp(random.uniform(math.log(low), math.log(high)))


def _garbage(step: int, given: Batch, vocab_size: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    return given[0], torch.randint(vocab_size, given[1].shape, generator=generator)


def _shuffled(step: int, given: Batch, part: float) -> Batch:
    """Some of the targets change places, all over the batch."""
    generator = torch.Generator().manual_seed(step)
    inputs, targets = given
    flat = targets.flatten().clone()
    chosen = torch.nonzero(torch.rand(len(flat), generator=generator) < part).flatten()
    flat[chosen] = flat[chosen[torch.randperm(len(chosen), generator=generator)]]
    return inputs, flat.view_as(targets)


def _with(record: StepRecord, name: str, change: Callable[[float, int], float], start: int) -> StepRecord:
    """The record with another value, from a step on; the change is told how many steps ago that was."""
    past = record.step - start
    if past < 0 or name not in record.metrics:
        return record
    return replace(record, metrics={**record.metrics, name: change(record.metrics[name], past)})
