"""The learner: one step after the other, each on the batch of its number, and what is measured of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.data.batches import batch
from spectral_mlflow.data.dataset import Dataset
from spectral_mlflow.monitoring.profiler import CodeProfiler
from spectral_mlflow.optim import learning_rate
from spectral_mlflow.training.compilation import Compiled, compiled
from spectral_mlflow.training.curriculum import block_size_at, block_sizes, cut
from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.evaluation import perplexity
from spectral_mlflow.training.speed import Speed
from spectral_mlflow.training.state import TrainState
from spectral_mlflow.training.step import UPDATE_INTERVAL, Forward, StepResult, optimizer_step

Metrics = dict[str, float]


class Learner:
    """Takes a `TrainState` from one step to the next.

    Attributes:
        tokens_per_step: the same at every step.
        speed: floating point operations of the steps so far.
        seconds: of the last step.
        scheduled_lr: what the learning rate of the last step should have been.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        dataset: Dataset,
        state: TrainState,
        machine: Machine,
        speed: Speed,
        *,
        profiler: CodeProfiler | None = None,
        would_skip: Callable[[float, float], bool] | None = None,
    ) -> None:
        """Take no step yet.

        Args:
            config: of the run.
            dataset: what it is trained on.
            state: what its steps change.
            machine: where it is.
            speed: as the attribute.
            profiler: times the parts of a step.
            would_skip: asked with loss and norm of the gradient whether to leave the weights as they are.
        """
        self.config = config
        self.dataset = dataset
        self.state = state
        self.machine = machine
        self.speed = speed
        self.tokens_per_step = config.training.batch_size * config.model.block_size
        self._forward: Forward = state.model
        self._section = (profiler or CodeProfiler()).section
        self._would_skip = would_skip
        self.seconds = 0.0
        self.scheduled_lr = 0.0

    def step(self) -> tuple[StepResult, Metrics]:
        """One optimizer step on the batch of this step; skipped when loss or gradient is not finite."""
        started = time.perf_counter()
        state, training = self.state, self.config.training
        state.step += 1
        with self._section("data"):
            inputs, targets = self.batch(state.step, self.block_size())
        self.scheduled_lr = learning_rate(state.step, training) * state.lr_scale
        for group in state.optimizer.param_groups:
            group["lr"] = self.scheduled_lr
        result = optimizer_step(
            state, self.machine, self._forward, inputs, targets,
            parts=training.gradient_accumulation, grad_clip=training.grad_clip, would_skip=self._would_skip,
            measure_update=state.step % UPDATE_INTERVAL == 0, section=self._section,
        )  # fmt: skip
        self.seconds = time.perf_counter() - started
        lr = float(state.optimizer.param_groups[0]["lr"])  # As it was in the step, whoever may have changed it.
        metrics = {"learning_rate": lr, "grad/norm": result.norm} | self.losses(result)
        return result, metrics | self.measure(self.seconds)

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
        if result.update_ratio is not None:
            metrics["update/ratio"] = result.update_ratio
        return metrics | self.waves()

    def waves(self) -> Metrics:
        """How much of the embedding is wave, and how sharply the heads of interference attention look."""
        model, metrics = self.state.model, {}
        if (ratio := model.wave_ratio()) is not None:
            metrics["wave_ratio"] = ratio
        if (tau := model.temperatures()) is not None:
            mean, least, most = torch.stack([tau.mean(), *tau.aminmax()]).tolist()
            metrics |= {"wave/temperature": mean, "wave/temperature_min": least, "wave/temperature_max": most}
        return metrics

    def measure(self, seconds: float) -> Metrics:
        """Speed and position of this step, and memory of its GPU."""
        metrics = {
            "tokens_per_sec": self.tokens_per_step / seconds,
            "epoch": self.state.step * self.tokens_per_step / len(self.dataset.train),
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
