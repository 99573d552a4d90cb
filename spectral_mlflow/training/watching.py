"""What watches a run beside its loop, as its settings ask for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from spectral_mlflow.config import ExperimentConfig, TrainingConfig
from spectral_mlflow.data.dataset import Dataset
from spectral_mlflow.models.generation import generate_several
from spectral_mlflow.models.gpt import GPT
from spectral_mlflow.monitoring import sample_quality
from spectral_mlflow.monitoring.anomalies import Anomalies
from spectral_mlflow.monitoring.data_usage import DataUsage
from spectral_mlflow.monitoring.epoch_means import EpochMeans
from spectral_mlflow.monitoring.monitor import Monitor
from spectral_mlflow.monitoring.music import files as music_files
from spectral_mlflow.monitoring.profiler import CodeProfiler
from spectral_mlflow.monitoring.progress import Progress
from spectral_mlflow.monitoring.quality_trend import QualityTrend
from spectral_mlflow.monitoring.remaining_time import Pause
from spectral_mlflow.monitoring.sample_quality import SampleQuality
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.monitoring.watch import Watch
from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.reactions import MONITOR
from spectral_mlflow.training.state import TrainState

FORWARD_SHARE = 1 / 3  # Of a training step's work, which an evaluation does for as many tokens.
TIMED_TOKENS = 16


@dataclass(frozen=True)
class Watching:
    """The watchers of a run; what they remember is in its state.

    Attributes:
        monitors: shown each step, by name.
        anomalies: the one of them that a step may be skipped for; None where nobody watches for anomalies.
        usage: counts the data.
        epochs: mean losses of the epochs.
        quality: measures samples; None where there are none.
        profiler: times the parts of the run.
        pauses: what is done between steps, for the remaining time.
    """

    monitors: dict[str, Monitor]
    anomalies: Anomalies | None
    usage: DataUsage
    epochs: EpochMeans
    quality: SampleQuality | None
    profiler: CodeProfiler
    pauses: dict[str, Pause]

    def watch(self, tracker: ExperimentTracker, progress: Progress) -> Watch:
        """All of them for one process of a run."""
        return Watch(
            tracker, progress,
            monitors=self.monitors, usage=self.usage, profiler=self.profiler, epochs=self.epochs,
        )  # fmt: skip

    def would_skip(self, training: TrainingConfig) -> Callable[[float, float], bool] | None:
        """What is asked between gradient and update, where batches may be skipped."""
        return self.anomalies.would_skip if self.anomalies and training.on_anomaly == "skip" else None


def attach(config: ExperimentConfig, dataset: Dataset, state: TrainState, machine: Machine) -> Watching:
    """The watchers of a run, before its state is restored; what they remember becomes a part of that.

    Raises:
        UserError: a package for it is not installed.
    """
    training, monitoring = config.training, config.monitoring
    documents = dataset.train_documents
    tokens_per_step = training.batch_size * config.model.block_size
    usage = DataUsage(
        *((documents.starts, documents.files, documents.augmented) if documents else ()),
        num_tokens=len(dataset.train), cache_hits=dataset.cache_hits,
    )  # fmt: skip
    epochs = EpochMeans(max(1, len(dataset.train) // tokens_per_step))
    samples = bool(monitoring.viz_interval and monitoring.sample_tokens)
    if samples and dataset.config.name == sample_quality.MUSIC:
        music_files.check_extra()
    quality = sample_quality.for_dataset(dataset, monitoring.sample_tokens) if samples else None
    anomalies = None
    monitors: dict[str, Monitor] = {}
    if monitoring.anomalies:
        anomalies = monitors[MONITOR] = Anomalies(
            training.steps, training.warmup_steps,
            reference=quality.reference if quality else None, scaled=state.scaler.is_enabled(),
        )  # fmt: skip
        if quality:
            monitors["quality_trend"] = QualityTrend()
    state.monitors |= {**monitors, "usage": usage, "epochs": epochs}
    profiler = _profiler(machine) if monitoring.profile else CodeProfiler()
    pauses = _pauses(config, dataset, state, tokens_per_step)
    return Watching(monitors, anomalies, usage, epochs, quality, profiler, pauses)


def _profiler(machine: Machine) -> CodeProfiler:
    """One that waits for the GPU in each section, where there is one."""
    device = machine.device
    if device.type != "cuda":
        return CodeProfiler()
    return CodeProfiler(
        synchronise=lambda: torch.cuda.synchronize(device), memory=lambda: torch.cuda.memory_allocated(device)
    )


def _pauses(config: ExperimentConfig, dataset: Dataset, state: TrainState, tokens_per_step: int) -> dict[str, Pause]:
    monitoring = config.monitoring
    length = sample_quality.length(config.dataset.name, monitoring.sample_tokens) if monitoring.viz_interval else 0
    sample_seconds = _sample_seconds(length, state.model, dataset)
    return {
        "evaluation": Pause(monitoring.eval_interval, FORWARD_SHARE * len(dataset.val) / tokens_per_step),
        "checkpoint": Pause(monitoring.checkpoint_interval, after=True),
        "plots": Pause(monitoring.viz_interval, after=True),
        "sample": Pause(monitoring.viz_interval if length else 0, seconds=sample_seconds),
    }


def _sample_seconds(length: int, model: GPT, dataset: Dataset) -> float:
    """What a sample of so many tokens takes, by some of them after the first ones, which are slow."""
    if not length:
        return 0.0
    count = sample_quality.TUNES if dataset.config.name == sample_quality.MUSIC else 1
    generator = torch.Generator().manual_seed(0)
    began = 0.0
    for _ in range(2):
        began = time.perf_counter()
        generate_several(model, dataset.train[:1], count, TIMED_TOKENS, temperature=1.0, generator=generator)
    return length * (time.perf_counter() - began) / TIMED_TOKENS
