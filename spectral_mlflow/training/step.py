"""One optimizer step: the gradients of a batch, in one part or several, and the update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.state import TrainState

Forward = Callable[[Tensor], Tensor]
Sections = Callable[[str], AbstractContextManager[None]]
UPDATE_INTERVAL = 25  # Steps between those whose update is measured, which needs a copy of the weights.


@dataclass(frozen=True)
class StepResult:
    """What a step measured; means over the whole batch.

    Attributes:
        loss: cross-entropy in nats per token.
        objective: what was minimised.
        coherence: the spectral part of QFE; None without one.
        norm: of the gradient before clipping.
        updated: whether the weights have changed; False where objective or gradient was not finite,
            and where the step was skipped.
        update_ratio: norm of the update over that of the parameters; None where it was not asked for.
    """

    loss: float
    objective: float
    coherence: float | None
    norm: float
    updated: bool
    update_ratio: float | None = None


def _unmeasured(_: str) -> AbstractContextManager[None]:
    return nullcontext()


def optimizer_step(
    state: TrainState,
    machine: Machine,
    forward: Forward,
    inputs: Tensor,
    targets: Tensor,
    *,
    parts: int = 1,
    grad_clip: float = 0.0,
    would_skip: Callable[[float, float], bool] | None = None,
    measure_update: bool = False,
    section: Sections = _unmeasured,
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
        would_skip: whether to leave the weights as they are at this loss and norm of the gradient.
        measure_update: whether to compare the weights before and after.
        section: times forward, backward and optimizer.
    """
    means = gradients(state, machine, forward, inputs, targets, parts, section)
    with section("optimizer"):
        return _update(state, means, grad_clip, would_skip, measure_update)


def _update(
    state: TrainState,
    means: dict[str, Tensor],
    grad_clip: float,
    would_skip: Callable[[float, float], bool] | None,
    measure: bool,
) -> StepResult:
    state.scaler.unscale_(state.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), grad_clip or math.inf)
    # One transfer from the device: each makes the CPU wait for it.
    *values, norm_value = torch.stack([*means.values(), norm]).tolist()
    found = dict(zip(means, values, strict=True))
    updated = math.isfinite(found["objective"] + norm_value)
    if updated and would_skip:
        updated = not would_skip(found["loss"], norm_value)
    before = [parameter.detach().clone() for parameter in state.model.parameters()] if measure and updated else None
    if updated:
        state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    ratio = update_ratio(before, state.model.parameters()) if before else None
    return StepResult(found["loss"], found["objective"], found.get("coherence"), norm_value, updated, ratio)


@torch.no_grad()
def update_ratio(before: list[Tensor], after: Iterable[Tensor]) -> float:
    """Norm of what was added to the parameters over the norm that they had; `before` is overwritten."""
    size = _norm(before)
    torch._foreach_sub_(before, list(after))
    return float(_norm(before) / size)


def _norm(tensors: list[Tensor]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))
    return norm


def gradients(
    state: TrainState,
    machine: Machine,
    forward: Forward,
    inputs: Tensor,
    targets: Tensor,
    parts: int = 1,
    section: Sections = _unmeasured,
) -> dict[str, Tensor]:
    """Add the gradients of the mean objective of a batch to the parameters.

    All parts have equally many windows, so the mean over the batch is the mean of their means.

    Returns:
        Means of the parts of the loss over the batch, scalars on the device.
    """
    means: dict[str, Tensor] = {}
    for some_inputs, some_targets in zip(inputs.chunk(parts), targets.chunk(parts), strict=True):
        with section("forward"):
            with machine.autocast():
                logits = forward(some_inputs)
            losses = state.loss(logits.float(), some_targets)  # Transforms and logarithms want float32.
        with section("backward"):
            state.scaler.scale(losses.objective / parts).backward()
        for name, value in losses._asdict().items():
            if value is not None:
                means[name] = means.get(name, 0.0) + value.detach() / parts
    return means
