"""One optimizer step: the gradients of a batch, in one part or several, and the update."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.state import TrainState

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StepResult:
    """What a step measured; means over the whole batch.

    Attributes:
        loss: cross-entropy in nats per token.
        objective: what was minimised.
        coherence: the spectral part of QFE; None without one.
        norm: of the gradient before clipping.
        updated: whether the weights have changed; False where objective or gradient was not finite.
    """

    loss: float
    objective: float
    coherence: float | None
    norm: float
    updated: bool


def optimizer_step(
    state: TrainState,
    machine: Machine,
    forward: Forward,
    inputs: Tensor,
    targets: Tensor,
    *,
    parts: int = 1,
    grad_clip: float = 0.0,
) -> StepResult:
    """Update the weights by one batch, unless its objective or gradient is not finite.

    Args:
        state: model, optimizer, loss and gradient scaler; the learning rate is that of the optimizer.
        machine: where, and in which precision.
        forward: the model, or what was compiled of it.
        inputs: ids (B, T) int64 on the device.
        targets: ids (B, T) int64 on the device.
        parts: pieces of the batch that are computed one after the other; must divide B.
        grad_clip: largest norm of the gradient; 0: any.
    """
    means = gradients(state, machine, forward, inputs, targets, parts)
    state.scaler.unscale_(state.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), grad_clip or math.inf)
    # One transfer from the device: each makes the CPU wait for it.
    *values, norm_value = torch.stack([*means.values(), norm]).tolist()
    found = dict(zip(means, values, strict=True))
    finite = math.isfinite(found["objective"] + norm_value)
    if finite:
        state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    return StepResult(found["loss"], found["objective"], found.get("coherence"), norm_value, finite)


def gradients(
    state: TrainState, machine: Machine, forward: Forward, inputs: Tensor, targets: Tensor, parts: int = 1
) -> dict[str, Tensor]:
    """Add the gradients of the mean objective of a batch to the parameters.

    All parts have equally many windows, so the mean over the batch is the mean of their means.

    Returns:
        Means of the parts of the loss over the batch, scalars on the device.
    """
    means: dict[str, Tensor] = {}
    for some_inputs, some_targets in zip(inputs.chunk(parts), targets.chunk(parts), strict=True):
        with machine.autocast():
            logits = forward(some_inputs)
        losses = state.loss(logits.float(), some_targets)  # Transforms and logarithms want float32.
        state.scaler.scale(losses.objective / parts).backward()
        for name, value in losses._asdict().items():
            if value is not None:
                means[name] = means.get(name, 0.0) + value.detach() / parts
    return means
