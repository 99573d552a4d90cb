"""torch.compile with its warm-up counted apart, and training that goes on where it fails."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.state import TrainState
from spectral_mlflow.training.step import Forward, gradients


@dataclass(frozen=True)
class Compiled:
    """What came of it.

    Attributes:
        forward: the compiled model, or the model itself.
        seconds: that it took.
        failure: why the model is not compiled, one line; None where it is.
    """

    forward: Forward
    seconds: float
    failure: str | None = None


def compiled(
    state: TrainState, machine: Machine, batches: Iterable[tuple[Tensor, Tensor]], *, parts: int = 1
) -> Compiled:
    """Compile the training pass of a model by running it; state and random generators are left as they were.

    The model itself stays what it is: evaluation, generation and checkpoints use it uncompiled.

    Args:
        state: its model is compiled.
        machine: where, and in which precision.
        batches: inputs and targets (B, T) on the device, of every shape that is to come.
        parts: pieces of a batch that are computed one after the other.
    """
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[machine.device] if machine.device.type == "cuda" else []):
        try:
            forward: Forward = torch.compile(state.model)
            for inputs, targets in batches:
                torch.stack([*gradients(state, machine, forward, inputs, targets, parts).values()]).tolist()
            failure = None
        except Exception as problem:  # Whatever a compiler, its driver or its cache can raise.
            forward, failure = state.model, _one_line(problem)
        finally:
            state.optimizer.zero_grad(set_to_none=True)
    return Compiled(forward, time.perf_counter() - started, failure)


def _one_line(problem: Exception) -> str:
    """The cause that a compiler's exception wraps, without its trace."""
    cause = getattr(problem, "inner_exception", problem)
    lines = str(cause).strip().splitlines() or [""]
    return f"{type(cause).__name__}: {lines[0]}"
