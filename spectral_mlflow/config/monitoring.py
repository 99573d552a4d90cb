"""Settings of what is written, and where."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spectral_mlflow.config.kinds import STRICT, Count, Positive, Rate


@dataclass(frozen=True, config=STRICT)
class MonitoringConfig:
    """What is written and where. Intervals are in steps. Not part of the configuration hash."""

    experiments_dir: Annotated[
        str, Field(min_length=1, description="folder of run directories, relative to SPECTRAL_HOME")
    ] = "experiments"
    log_interval: Annotated[Positive, Field(description="between lines of metrics")] = 1
    eval_interval: Annotated[Positive, Field(description="between evaluations on the validation split")] = 200
    checkpoint_interval: Annotated[Positive, Field(description="between checkpoints")] = 200
    keep_last_n: Annotated[Positive, Field(description="newest checkpoints to keep, besides those below")] = 3
    keep_best: Annotated[Positive, Field(description="checkpoints of the lowest validation loss to keep")] = 1
    keep_every: Annotated[Count, Field(description="keep checkpoints of every multiple of so many steps; 0: none")] = 0
    keep_hours: Annotated[Rate, Field(description="keep one checkpoint for every so many hours; 0: none")] = 0.0
    log_checkpoints: Annotated[
        Literal["best", "last", "best,last", "all", "none"],
        Field(description="checkpoints that are sent to the stores; the others are only named there"),
    ] = "best,last"
    viz_interval: Annotated[Count, Field(description="between sets of plots, and samples; 0: none")] = 250
    sample_tokens: Annotated[Count, Field(description="length of a generated sample; 0: none")] = 300
    code_snapshot: Annotated[bool, Field(description="keep the code and its uncommitted changes beside the run")] = True
    anomalies: Annotated[bool, Field(description="watch for anomalies and tell of them, with advice")] = True
    system_interval: Annotated[Rate, Field(description="seconds between samples of memory, CPU and GPU; 0: none")] = 5.0
    profile: Annotated[
        bool, Field(description="keep a trace of some steps by torch.profiler, and wait for the GPU in each section")
    ] = False
    stores: Annotated[
        tuple[Literal["mlflow", "tensorboard", "wandb"], ...],
        Field(description="where the companion mirrors the run; empty: nowhere"),
    ] = ("mlflow",)
    histograms: Annotated[
        bool, Field(description="histograms of the weights with each set of plots, for TensorBoard")
    ] = False
    model_graph: Annotated[bool, Field(description="the graph of the model, for TensorBoard")] = False
    tracking_uri: Annotated[
        str | None,
        Field(min_length=1, description="store; default: MLFLOW_TRACKING_URI, else mlflow.db in SPECTRAL_HOME"),
    ] = None
    mlflow_experiment: Annotated[str, Field(min_length=1, description="MLflow experiment to file the run under")] = (
        "spectral"
    )
