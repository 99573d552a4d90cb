"""What happens in the runs of one seed: a healthy one, its continuations with a fault each, and faulty ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.anomalies.faults import INJECTIONS, MEASURED, WHOLE, WHOLE_STEPS
from benchmarks.anomalies.training import new_run
from spectral_mlflow.monitoring.monitor import StepRecord

Records = list[StepRecord]


@dataclass(frozen=True)
class Episode:
    """Some steps with a fault.

    Attributes:
        kind: of the anomaly.
        start: the step at which the fault begins.
        records: of the steps; they follow on those before the middle of the healthy run, unless ``whole``.
        whole: the steps of the run, where it is one of its own; else 0.
        neutral: kinds that are true consequences.
    """

    kind: str
    start: int
    records: Records
    whole: int = 0
    neutral: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runs:
    """All records of a seed.

    Attributes:
        steps: of the healthy run.
        warmup_steps: of its learning rate.
        before: healthy steps up to the middle.
        after: healthy steps from there.
        episodes: the faults.
    """

    steps: int
    warmup_steps: int
    before: Records
    after: Records
    episodes: list[Episode]


def make(seed: int, corpus: str, steps: int, *, toy: bool = False) -> Runs:
    """Train everything of a seed."""
    random = np.random.default_rng([seed, 1])
    run = new_run(seed, corpus, steps=steps)
    middle = steps // 2 if toy else int(random.integers(120, 200))
    before = list(run.records(middle))
    state = run.state()
    after = list(run.records(steps - middle))
    continued = []
    for kind, injection in INJECTIONS.items():
        run.restore(state)
        start = middle + 1 + int(random.integers(0, 3 if toy else 20))
        fault = injection.make(random, start, run.dataset.tokenizer.vocab_size)
        records = list(run.records(start - middle - 1 + (5 if toy else injection.steps), fault))
        continued.append(Episode(kind, start, records, neutral=injection.neutral))
    for kind, change in MEASURED.items():
        start = middle + 1 + int(random.integers(0, 3 if toy else 20))
        continued.append(Episode(kind, start, change(random, start, after)))
    whole = list(_whole(seed, corpus, steps if toy else WHOLE_STEPS))
    return Runs(steps, run.config.training.warmup_steps, before, after, [*continued, *whole])


def _whole(seed: int, corpus: str, steps: int) -> Iterator[Episode]:
    for kind, changed in WHOLE.items():
        run = new_run(seed, corpus, steps=steps, **changed)
        yield Episode(kind, 1, list(run.records(steps)), whole=steps)
