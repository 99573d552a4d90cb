"""Everything that an exact resume needs, in one place."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from spectral_mlflow.errors import UserError
from spectral_mlflow.models.gpt import GPT
from spectral_mlflow.monitoring.monitor import Alert
from spectral_mlflow.training.fit import check_groups, check_tensors

KERNELS = ("fused", "foreach")  # Of what an optimizer remembers, what the device decides.

# Sections of a checkpoint's `state` whose entries are pieces of their own.
SECTIONS = ("counters", "data", "random", "generators", "monitors")
# Generators that a machine may lack, and monitors that a continued run may begin with, need no state.
OPTIONAL = ("state.random.cuda", "state.random.mps", "state.monitors.")


class Stateful(Protocol):
    """Whatever goes on from where it was: a scheduler, a monitor."""

    def state_dict(self) -> dict[str, Any]:
        """What it needs for that."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Go on from there."""


@dataclass
class TrainState:
    """What a run is made of between two steps.

    The learning rate needs no entry, as it is a function of the step, and a batch is one of the seed and the step
    alone: of the data a checkpoint keeps just these two.

    Attributes:
        seed: of the order of the data.
        lr_scale: factor of the scheduled learning rate, which each rollback lowers.
        rollbacks: how often the run has gone back to earlier weights.
        rolled_back_at: the step at which it last did.
        restored_step: that of the weights that it then had; what was saved between the two is not to be trusted.
        scheduler: of anything that the step alone does not decide.
        generators: random generators that the run owns, by name.
        monitors: what watches the run and remembers what it saw, by name.
    """

    model: GPT
    optimizer: torch.optim.Optimizer
    loss: torch.nn.Module
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    seed: int = 0
    scheduler: Stateful | None = None
    generators: dict[str, torch.Generator] = field(default_factory=dict)
    monitors: dict[str, Stateful] = field(default_factory=dict)
    step: int = 0
    best_val_loss: float = float("inf")
    best_step: int = 0
    evaluations_without_best: int = 0
    skipped_in_a_row: int = 0
    skipped: int = 0
    seconds: float = 0.0
    lr_scale: float = 1.0
    rollbacks: int = 0
    rolled_back_at: int = 0
    restored_step: int = 0
    loss_history: list[float] = field(default_factory=list)
    _complaints: list[Alert] = field(default_factory=list, init=False)
    _complained_of: set[tuple[str, str]] = field(default_factory=set, init=False)

    COUNTERS = (
        "best_val_loss", "best_step", "evaluations_without_best", "skipped_in_a_row", "skipped", "seconds",
        "lr_scale", "rollbacks", "rolled_back_at", "restored_step",
    )  # fmt: skip

    def extra(self) -> dict[str, Any]:
        """What a checkpoint holds beside model, optimizer, scheduler, step and loss history.

        A monitor that raises is left out, which `take_complaints` tells of.
        """
        return {
            "counters": {name: getattr(self, name) for name in self.COUNTERS},
            "data": {"seed": self.seed, "step": self.step},
            "loss_state_dict": self.loss.state_dict(),
            "scaler": self.scaler.state_dict(),
            "monitors": self._remembered(),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "random": _random_state(),
            "threads": torch.get_num_threads(),
        }

    def restore(self, checkpoint: Mapping[str, Any]) -> list[str]:
        """Continue from a checkpoint; the random generators last, since nothing may draw afterwards.

        Returns:
            Monitors that it knows nothing of, which begin anew.

        Raises:
            UserError: it lacks a piece, or is one of another model; nothing is changed then.
        """
        self._check(checkpoint)
        extra = checkpoint["state"]
        self.restore_weights(checkpoint)
        if self.scheduler is not None:
            self.scheduler.load_state_dict(checkpoint["scheduler_state_dict"])
        self.step = checkpoint["step"]
        self.loss_history = list(checkpoint["loss_history"])
        for name, value in extra["counters"].items():
            setattr(self, name, value)
        for name in self.monitors:
            if name in extra["monitors"]:
                self.restore_monitor(name, extra["monitors"][name])
        for name, generator in self.generators.items():
            generator.set_state(extra["generators"][name])
        _restore_random_state(extra["random"])
        return [name for name in self.monitors if name not in extra["monitors"]]

    def restore_weights(self, checkpoint: Mapping[str, Any]) -> None:
        """Take model, optimizer, loss and scaler of a checkpoint of this run; all else stays as it is."""
        extra = checkpoint["state"]
        self.model.load_state_dict(checkpoint["model_state_dict"])
        self.optimizer.load_state_dict(_as_here(checkpoint["optimizer_state_dict"], self.optimizer))
        self.loss.load_state_dict(extra["loss_state_dict"])
        if extra["scaler"]:  # Empty but in float16.
            self.scaler.load_state_dict(extra["scaler"])

    def restore_monitor(self, name: str, remembered: dict[str, Any]) -> None:
        """Have a monitor go on from there; one that raises begins anew, which `take_complaints` tells of."""
        monitor = self.monitors[name]
        as_new = self._remembered().get(name)
        try:
            monitor.load_state_dict(remembered)
        except Exception as failure:
            self._complain(name, "begins anew", failure)
            with suppress(Exception):  # It may have taken a part of it.
                monitor.load_state_dict(as_new or {})

    def take_complaints(self) -> list[Alert]:
        """What monitors could not save or go on from, each told once."""
        taken, self._complaints = self._complaints, []
        return taken

    def _remembered(self) -> dict[str, Any]:
        remembered = {}
        for name, monitor in self.monitors.items():
            try:
                remembered[name] = monitor.state_dict()
            except Exception as failure:
                self._complain(name, "is left out of checkpoints", failure)
        return remembered

    def _complain(self, name: str, outcome: str, failure: Exception) -> None:
        if (name, outcome) not in self._complained_of:
            self._complained_of.add((name, outcome))
            message = f"monitor {name} {outcome}: {type(failure).__name__}: {failure}"
            self._complaints.append(Alert("monitor", "warning", message, advice="training itself is as it would be"))

    def _check(self, checkpoint: Mapping[str, Any]) -> None:
        step, found = checkpoint.get("step"), pieces(checkpoint)
        lacking = [name for name in self._pieces() if name not in found and not name.startswith(OPTIONAL)]
        if lacking:
            raise UserError(
                f"the checkpoint of step {step} lacks {', '.join(lacking)}, without which the run would be another "
                "one; remove the file to continue from the one before, or start a new run"
            )
        position = {"seed": self.seed, "step": step}
        if checkpoint["state"]["data"] != position:
            raise UserError(
                f"the checkpoint of step {step} has its data at {checkpoint['state']['data']}, the run at {position}; "
                "remove the file to continue from the one before"
            )
        check_tensors("model_state_dict", checkpoint["model_state_dict"], self.model.state_dict())
        check_tensors("state.loss_state_dict", checkpoint["state"]["loss_state_dict"], self.loss.state_dict())
        check_groups(checkpoint["optimizer_state_dict"], self.optimizer.state_dict())

    def _pieces(self) -> list[str]:
        """Those that a checkpoint of this run must have."""
        scheduler = [] if self.scheduler is None else ["scheduler_state_dict"]
        top = ["step", "model_state_dict", "optimizer_state_dict", *scheduler, "loss_history"]
        return [*top, *pieces({"state": self.extra()})]


def pieces(checkpoint: Mapping[str, Any]) -> list[str]:
    """Dotted names of what a checkpoint is made of: its entries, those of ``state``, and those of its sections."""
    names = [name for name in checkpoint if name != "state"]
    for name, value in checkpoint.get("state", {}).items():
        names.append(f"state.{name}")
        if name in SECTIONS:
            names += [f"state.{name}.{entry}" for entry in value]
    return names


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
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
