"""Real training runs of tiny models, in which something can be made to go wrong at any step."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.data import dataset as datasets
from spectral_mlflow.data.batches import batch
from spectral_mlflow.data.dataset import Dataset
from spectral_mlflow.losses import build_loss
from spectral_mlflow.models import gpt
from spectral_mlflow.models.generation import generate
from spectral_mlflow.monitoring.monitor import StepRecord
from spectral_mlflow.monitoring.text_quality import TextQuality
from spectral_mlflow.optim import build_optimizer, learning_rate
from spectral_mlflow.settings import build
from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.evaluation import validation_loss

CPU = Machine(torch.device("cpu"))
EVALUATE_EVERY, SAMPLE_EVERY, RATIO_EVERY = 25, 150, 25
MEMORY_EVERY = 5  # As the product has it, which samples every five seconds, in a run of one step a second.
VAL_TOKENS, SAMPLE_TOKENS = 2000, 100

Batch = tuple[Tensor, Tensor]


@dataclass
class Fault:
    """What goes wrong at a step, each by real means; the plain one is a healthy step.

    Attributes:
        batch: changes inputs and targets.
        declared_lr: changes the learning rate of the schedule, which is what a user has declared.
        lr: changes that of the optimizer behind the schedule's back.
        gradients: multiplies them after the backward pass, before their norm is measured.
        broken: activations become NaN.
        update: part of the update that reaches the weights.
    """

    batch: Callable[[int, Batch], Batch] = lambda _, given: given
    declared_lr: Callable[[int, float], float] = lambda _, lr: lr
    lr: Callable[[int, float], float] = lambda _, lr: lr
    gradients: Callable[[int], float] = lambda _: 1.0
    broken: Callable[[int], bool] = lambda _: False
    update: Callable[[int], float] = lambda _: 1.0


@cache
def corpus(name: str) -> Dataset:
    """A text, its characters as tokens."""
    return datasets.prepare(build({"dataset": name}).dataset, 64)


@dataclass
class Run:
    """A tiny GPT, its optimizer and its data, from one step to the next.

    Attributes:
        config: its settings.
        tokens: what it is trained on (N,).
        step: the last one done.
    """

    config: ExperimentConfig
    dataset: Dataset
    tokens: Tensor
    step: int = 0
    model: gpt.GPT = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.config.training.seed)
        vocab_size = self.dataset.tokenizer.vocab_size
        self.model = gpt.build(self.config.model, vocab_size, self.config.training.seed)
        self.optimizer = build_optimizer(self.model, self.config.training)
        self._loss = build_loss(self.config.training, vocab_size)
        self._val = self.dataset.val.first(VAL_TOKENS)
        self._process = psutil.Process()

    def state(self) -> dict[str, Any]:
        """All that it needs to go on from here."""
        return copy.deepcopy({"step": self.step, "model": self.model.state_dict(),
                              "optimizer": self.optimizer.state_dict(), "random": torch.get_rng_state()})  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        state = copy.deepcopy(state)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])

    def records(self, steps: int, fault: Fault | None = None) -> Iterator[StepRecord]:
        """The records of so many steps."""
        for _ in range(steps):
            yield self.record(fault or Fault())

    def record(self, fault: Fault) -> StepRecord:
        """Do a step and tell of it."""
        self.step += 1
        step, training, started = self.step, self.config.training, time.perf_counter()
        declared = fault.declared_lr(step, learning_rate(step, training))
        for group in self.optimizer.param_groups:
            group["lr"] = fault.lr(step, declared)
        metrics = {"learning_rate": self.optimizer.param_groups[0]["lr"]} | self._gradients(fault)
        updated = math.isfinite(metrics["objective"] + metrics["grad/norm"])
        if updated:
            metrics |= self._update(fault)
        self.optimizer.zero_grad()
        seconds = time.perf_counter() - started
        metrics["tokens_per_sec"] = training.batch_size * self.config.model.block_size / seconds
        if step % MEMORY_EVERY == 0:
            metrics["system/rss_mb"] = self._process.memory_info().rss / 2**20
        metrics |= self._look(step)
        return StepRecord(step, metrics, seconds, declared, updated)

    def _gradients(self, fault: Fault) -> dict[str, float]:
        training, step = self.config.training, self.step
        inputs, targets = fault.batch(step, batch(
            self.tokens, seed=training.seed, step=step,
            batch_size=training.batch_size, block_size=self.config.model.block_size,
        ))  # fmt: skip
        logits = self.model(inputs)
        losses = self._loss(logits * float("nan") if fault.broken(step) else logits, targets)
        losses.objective.backward()
        factor = fault.gradients(step)
        for parameter in self.model.parameters():
            if parameter.grad is not None and factor != 1.0:
                parameter.grad.mul_(factor)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.grad_clip or math.inf)
        found = {"loss": losses.loss, "objective": losses.objective, "grad/norm": norm}
        return {name: value.item() for name, value in found.items()}

    def _update(self, fault: Fault) -> dict[str, float]:
        part = fault.update(self.step)
        measured = self.step % RATIO_EVERY == 0
        if not measured and part == 1.0:
            self.optimizer.step()
            return {}
        before = [parameter.detach().clone() for parameter in self.model.parameters()]
        self.optimizer.step()
        moved, size = 0.0, 0.0
        with torch.no_grad():
            for old, new in zip(before, self.model.parameters(), strict=True):
                new.copy_(old + part * (new - old))
                moved += float((new - old).square().sum())
                size += float(old.square().sum())
        return {"update/ratio": math.sqrt(moved / size)} if measured else {}

    def _look(self, step: int) -> dict[str, float]:
        """Validation loss and sample, at their steps."""
        metrics = {}
        if step % EVALUATE_EVERY == 0:
            metrics["val_loss"] = validation_loss(self.model, self._val, batch_size=64, machine=CPU)
        if step % SAMPLE_EVERY == 0:
            generator = torch.Generator().manual_seed(self.config.training.seed)
            tokens = generate(self.model, self.tokens[:1], SAMPLE_TOKENS, temperature=0.8, generator=generator)
            metrics |= corpus_quality(self.config.dataset.name).measure(self.dataset.tokenizer.decode(tokens.tolist()))
        return metrics


def new_run(seed: int, name: str, **changed: object) -> Run:
    """A run whose settings are drawn: model, width, length, batch size, learning rate, dropout.

    Args:
        seed: decides all of them.
        name: of the corpus.
        changed: settings that are not drawn; ``train_tokens`` limits the text.
    """
    random = np.random.default_rng(seed)
    settings: dict[str, object] = {
        "model": random.choice(["wave", "standard"]), "model.d_model": random.choice([16, 32]),
        "model.block_size": random.choice([16, 32]), "model.num_layers": 1, "model.num_heads": 2,
        "batch_size": random.choice([4, 8, 16]), "lr": math.exp(random.uniform(math.log(5e-4), math.log(8e-3))),
        "model.dropout": random.choice([0.0, 0.1]), "training.seed": seed, "dataset": name,
    }  # fmt: skip
    train_tokens = changed.pop("train_tokens", None)
    config = build({key: str(value) for key, value in (settings | changed).items()})
    dataset = corpus(name)
    tokens = dataset.train[: train_tokens or len(dataset.train)]
    return Run(config, dataset, tokens)


@cache
def corpus_quality(name: str) -> TextQuality:
    """What samples are compared with."""
    dataset = corpus(name)
    return TextQuality.of(dataset.tokenizer.decode(dataset.train[:60_000].tolist()), SAMPLE_TOKENS)
