"""Everything that an exact resume needs, in one place."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from spectral_mlflow.models.gpt import GPT

KERNELS = ("fused", "foreach")  # Of what an optimizer remembers, what the device decides.


@dataclass
class TrainState:
    """What a run is made of between two steps.

    The data order needs no entry: a batch is a function of the seed and the step alone. The learning
    rate needs none either: it is a function of the step.
    """

    model: GPT
    optimizer: torch.optim.Optimizer
    loss: torch.nn.Module
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    step: int = 0
    best_val_loss: float = float("inf")
    best_step: int = 0
    evaluations_without_best: int = 0
    skipped_in_a_row: int = 0
    skipped: int = 0
    seconds: float = 0.0
    loss_history: list[float] = field(default_factory=list)

    COUNTERS = (
        "best_val_loss", "best_step", "evaluations_without_best", "skipped_in_a_row", "skipped", "seconds",
    )  # fmt: skip

    def extra(self) -> dict[str, Any]:
        """What a checkpoint holds beside model, optimizer, step and loss history."""
        return {
            "counters": {name: getattr(self, name) for name in self.COUNTERS},
            "loss_state_dict": self.loss.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": _random_state(),
            "threads": torch.get_num_threads(),
        }

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Continue from a checkpoint; the random generators last, since nothing may draw afterwards."""
        self.model.load_state_dict(checkpoint["model_state_dict"])
        self.optimizer.load_state_dict(_as_here(checkpoint["optimizer_state_dict"], self.optimizer))
        if scaler := checkpoint["state"].get("scaler"):  # Empty but in float16, and from a time before it.
            self.scaler.load_state_dict(scaler)
        self.loss.load_state_dict(checkpoint["state"]["loss_state_dict"])
        self.step = checkpoint["step"]
        self.loss_history = list(checkpoint["loss_history"])
        for name, value in checkpoint["state"]["counters"].items():
            setattr(self, name, value)
        _restore_random_state(checkpoint["state"]["random"])


def _as_here(saved: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of an optimizer for the kernels that this device has, whichever the run used before."""
    groups = [
        {name: here[name] if name in KERNELS and name in here else value for name, value in old.items()}
        for old, here in zip(saved["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**saved, "param_groups": groups}


def _random_state() -> dict[str, Any]:
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": dict(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def _restore_random_state(state: dict[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    counter = state["numpy"]["state"]  # A checkpoint gives arrays back as tensors.
    np.random.set_state(state["numpy"] | {"state": counter | {"key": np.asarray(counter["key"], dtype=np.uint32)}})
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
