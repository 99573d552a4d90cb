"""Stores with whole studies, for the tests of the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mlflow.entities import Metric, RunTag
from tracking_store import STARTED, TrackingStore, falling

COMPONENTS = {
    "embedding": {"model.embedding": "wave"},
    "attention": {"model.attention": "wave"},
    "feedforward": {"model.feedforward": "wave"},
    "rgd": {"training.optimizer": "RGD"},
    "qfe": {"training.loss": "QFE"},
}
# Small, so that models can be built of these settings in no time.
SIZES = {
    "model.d_model": "32",
    "model.num_layers": "2",
    "model.num_heads": "2",
    "model.block_size": "16",
    "steps": "300",
}
WAVE, STANDARD = [2.4051, 2.4082, 2.4025], [2.3921, 2.3934, 2.3911]


def add(
    store: TrackingStore,
    model: str,
    seed: int,
    loss: float,
    *,
    study: str | None = None,
    cell: str | None = None,
    settings: Mapping[str, str] | None = None,
    status: str = "FINISHED",
) -> str:
    """One run of a study, with the metrics that a companion sends; gives its id."""
    given = {**SIZES, **(settings or {})}
    facts = {"hardware.cpu_model": "AMD EPYC", "hardware.device": "cpu", "hardware.precision": "float32"}
    run_id = store.train(model, seed, falling(loss), settings=given, facts=facts, status="RUNNING")
    start = STARTED + 60_000 * (store.runs - 1)
    tags = {"spectral.study": study, "spectral.cell": cell or model, "spectral.seed": str(seed)} if study else {}
    store.client.log_batch(
        run_id, metrics=list(_metrics(model, seed, start)), tags=[RunTag(*tag) for tag in tags.items()]
    )
    if status != "RUNNING":
        store.client.set_terminated(run_id, status, start + 50_000 + 100 * seed)
    return run_id


def _metrics(model: str, seed: int, start: int) -> list[Metric]:
    found = [Metric("flops_per_token", 1_000_000.0, start + 300, 300)]
    for step in range(50, 301, 50):
        values = {
            "grad/norm": 1 + 1 / step,
            "system/rss_mb": 500.0 + step / 100 + seed,
            "attention/entropy": 2.0 - step / 1000,
        }
        if model == "wave":
            ratio = 0.5 - step / 2000 + seed / 1000
            values |= {"wave_ratio": ratio, "wave/temperature": 4 + math.log(step), "wave/temperature_min": 4.0,
                       "wave/temperature_max": 9.0, "attention/coherence": 0.28}  # fmt: skip
        found += [Metric(key, value, start + 30 * step, step) for key, value in values.items()]
    return found


def add_main(store: TrackingStore, wave: Sequence[float] = WAVE, standard: Sequence[float] = STANDARD) -> list[str]:
    """The study of wave against standard; gives the ids of the wave runs, then of the standard ones."""
    made = [add(store, "wave", seed, loss, study="seeds") for seed, loss in enumerate(wave)]
    return made + [add(store, "standard", seed, loss, study="seeds") for seed, loss in enumerate(standard)]


def add_ablation(store: TrackingStore, seeds: int = 2) -> None:
    """The ablation with all of its twelve cells."""
    cells = {"none": set(), **{name: {name} for name in COMPONENTS}}
    cells |= {f"without_{name}": set(COMPONENTS) - {name} for name in COMPONENTS} | {"all": set(COMPONENTS)}
    for seed in range(seeds):
        for place, (cell, on) in enumerate(cells.items()):
            settings = {name: value for part in sorted(on) for name, value in COMPONENTS[part].items()}
            model = "wave" if {"embedding", "attention", "feedforward"} <= on else "standard"
            loss = 2.6 + 0.01 * place + 0.001 * seed * (place % 3 + 1)
            add(store, model, seed, loss, study="components", cell=cell, settings=settings)
