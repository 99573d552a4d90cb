"""track: keep and watch any PyTorch loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import nn

from spectral_mlflow.config import home
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.runs import find_run
from spectral_mlflow.monitoring.text_quality import TextQuality
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.settings import parse
from spectral_mlflow.training.own_loop import KIND, OwnLoop
from spectral_mlflow.training.state import TrainState


def track(
    name: str,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    settings: Mapping[str, Any] | None = None,
    scheduler: Any = None,
    schedule: Callable[[int], float] | None = None,
    corpus: str | None = None,
    dataset: Mapping[str, Any] | None = None,
    seed: int = 0,
    grad_clip: float = 0.0,
    on_anomaly: str = "none",
    monitoring: Mapping[str, Any] | None = None,
    tracking_uri: str | None = None,
    resume: str | None = None,
) -> OwnLoop:
    """Keep and watch a loop: run directory, checkpoints, stores, log, progress, anomalies, profile.

    Use it as ``with track(...) as run``, with ``for step in run.steps()`` inside.

    Args:
        name: of the run.
        model: what is trained; its ``state_dict`` is checkpointed.
        optimizer: as is its.
        steps: of the whole run.
        settings: what is worth knowing of the run; they become parameters in the stores.
        scheduler: stepped after each update, or `ReduceLROnPlateau` with each ``val_loss``; checkpointed.
        schedule: the learning rate that a step, from 1, should have; default: it is not watched.
        corpus: training text that samples are compared with.
        dataset: facts about the data, such as its ``name`` and ``sha256``.
        seed: told to torch, and written down.
        grad_clip: largest norm of the gradient; 0: any.
        on_anomaly: as the setting ``training.on_anomaly``.
        monitoring: settings of that section by their names, such as ``{"checkpoint_interval": 50}``.
        tracking_uri: where MLflow is; default: as for any run.
        resume: a run to go on with: its directory, id, a unique beginning of it, or ``latest``.

    Raises:
        UserError: a setting that is not allowed, or a run that cannot be continued.
    """
    _check(name, settings or {})
    config = parse({
        "name": name,
        "training": {"steps": steps, "seed": seed, "grad_clip": grad_clip, "on_anomaly": on_anomaly},
        "monitoring": dict(monitoring or {}),
    })  # fmt: skip
    run_dir = find_run(resume, home() / config.monitoring.experiments_dir) if resume else None
    torch.manual_seed(seed)
    own = {**(settings or {}), "steps": steps, "seed": seed, "grad_clip": grad_clip, "on_anomaly": on_anomaly}
    tracker = ExperimentTracker(
        config, run_dir=run_dir, tracking_uri=tracking_uri, tags={"spectral.kind": KIND}, settings=own
    )
    quality = TextQuality.of(corpus, config.monitoring.sample_tokens) if corpus else None
    state = TrainState(cast(Any, model), optimizer, nn.Module(), seed=seed, scheduler=scheduler)
    return OwnLoop(tracker, state, schedule=schedule, quality=quality, dataset=dataset)


def _check(name: object, settings: Mapping[Any, Any]) -> None:
    if not isinstance(name, str):
        raise UserError(f"name: given {name!r}; allowed: a text")
    if odd := [key for key in settings if not isinstance(key, str)]:
        raise UserError(f"settings: given {odd[0]!r} as a name; allowed: a text")
