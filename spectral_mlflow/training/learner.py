"""The learner: one step after the other, each on the batch of its number, and what is measured of them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import torch
from torch import Tensor

from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.data.batches import batch
from spectral_mlflow.data.dataset import Dataset
from spectral_mlflow.optim import learning_rate
from spectral_mlflow.training.compilation import Compiled, compiled
from spectral_mlflow.training.curriculum import block_size_at, block_sizes, cut
from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.evaluation import perplexity
from spectral_mlflow.training.speed import Speed
from spectral_mlflow.training.state import TrainState
from spectral_mlflow.training.step import Forward, StepResult, optimizer_step

Metrics = dict[str, float]


class Learner:
    """Takes a `TrainState` from one step to the next.

    Attributes:
        tokens_per_step: the same at every step.
        speed: floating point operations of the steps so far.
    """

    def __init__(
        self, config: ExperimentConfig, dataset: Dataset, state: TrainState, machine: Machine, speed: Speed
    ) -> None:
        self.config = config
        self.dataset = dataset
        self.state = state
        self.machine = machine
        self.speed = speed
        self.tokens_per_step = config.training.batch_size * config.model.block_size
        self._forward: Forward = state.model
        self._process = psutil.Process()

    def step(self) -> tuple[StepResult, Metrics]:
        """One optimizer step on the batch of this step; skipped when loss or gradient is not finite."""
        started = time.perf_counter()
        state, training = self.state, self.config.training
        state.step += 1
        inputs, targets = self.batch(state.step, self.block_size())
        lr = learning_rate(state.step, training)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        result = optimizer_step(
            state, self.machine, self._forward, inputs, targets,
            parts=training.gradient_accumulation, grad_clip=training.grad_clip,
        )  # fmt: skip
        metrics = {"learning_rate": lr, "grad/norm": result.norm} | self.losses(result)
        return result, metrics | self.measure(time.perf_counter() - started)

    def batch(self, step: int, block_size: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step in windows of this length, on the device."""
        training = self.config.training
        inputs, targets = batch(
            self.dataset.train, seed=training.seed, step=step,
            batch_size=training.batch_size, block_size=self.config.model.block_size,
        )  # fmt: skip
        return self.machine.send(cut(inputs, block_size)), self.machine.send(cut(targets, block_size))

    def block_size(self) -> int:
        """Window length of this step."""
        return block_size_at(self.state.step, self.config.training, self.config.model.block_size)

    def losses(self, result: StepResult) -> Metrics:
        """What was minimised, and its parts, by the names of the journal."""
        metrics = {"loss": result.loss, "objective": result.objective, "perplexity": perplexity(result.loss)}
        if result.coherence is not None:
            metrics["coherence_loss"] = result.coherence
        ratio = self.state.model.wave_ratio()
        return metrics if ratio is None else metrics | {"wave_ratio": ratio}

    def measure(self, seconds: float) -> Metrics:
        """Speed, position and memory of this step."""
        metrics = {
            "tokens_per_sec": self.tokens_per_step / seconds,
            "epoch": self.state.step * self.tokens_per_step / len(self.dataset.train),
            "system/rss_mb": self._process.memory_info().rss / 2**20,
        }
        block_size = self.block_size()
        if self.config.training.block_warmup_steps:
            metrics["block_size"] = block_size
        if block_size == self.config.model.block_size:  # Shorter windows are less work than is counted for a token.
            metrics["system/flops_utilisation"] = self.speed.add(self.tokens_per_step, seconds)
        if self.machine.device.type == "cuda":
            metrics["gpu_memory_mb"] = torch.cuda.max_memory_allocated(self.machine.device) / 2**20
        return metrics

    def compile(self) -> Compiled:
        """Have the steps run a compiled model, where it can be compiled."""
        parts = self.config.training.gradient_accumulation
        done = compiled(self.state, self.machine, self._batches_to_come(), parts=parts)
        self._forward = done.forward
        return done

    def _batches_to_come(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Three batches of every window length to come: what differs between batches is then known to differ."""
        training, whole = self.config.training, self.config.model.block_size
        following = self.state.step + 1
        for size in block_sizes(training, whole):
            if size >= block_size_at(following, training, whole):
                yield from (self.batch(following + ahead, size) for ahead in range(3))
