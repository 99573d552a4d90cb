"""One optimizer step: in parts, in low precision, with activations computed again."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spectral_mlflow.losses import build_loss
from spectral_mlflow.models import gpt
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.optim import build_optimizer
from spectral_mlflow.settings import build
from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.state import TrainState
from spectral_mlflow.training.step import gradients, optimizer_step

VOCABULARY = 11
CPU = Machine(torch.device("cpu"))
BFLOAT16 = Machine(torch.device("cpu"), torch.bfloat16)
COMBINATIONS = [(model, loss) for model in ("standard", "wave") for loss in ("CE", "QFE")]


def state(
    model: str = "wave", loss: str = "CE", *, scaler: torch.amp.GradScaler | None = None, **more: str
) -> TrainState:
    """A small model with its optimizer."""
    config = build({
        "model": model, "model.d_model": "16", "model.num_layers": "2", "model.num_heads": "2",
        "model.block_size": "16", "training.loss": loss, "training.qfe_lambda": "1", "lr": "1e-2",
        **{name.replace("__", "."): value for name, value in more.items()},
    })  # fmt: skip
    torch.manual_seed(0)
    network = gpt.build(config.model, VOCABULARY, 0)
    made = TrainState(network, build_optimizer(network, config.training), build_loss(config.training, VOCABULARY))
    made.scaler = scaler or made.scaler
    return made


def windows(count: int = 12, length: int = 16) -> tuple[Tensor, Tensor]:
    """Powers of two modulo 11 from different starts: inputs and targets (B, T)."""
    rows = [[pow(2, first + position, VOCABULARY) for position in range(length + 1)] for first in range(count)]
    tokens = torch.tensor(rows)
    return tokens[:, :-1], tokens[:, 1:]


def gradient(made: TrainState, parts: int) -> tuple[Tensor, dict[str, float]]:
    """All gradients of the batch as one vector, and the means of the losses."""
    means = gradients(made, CPU, made.model, *windows(), parts)
    vector = torch.cat([p.grad.flatten() for p in made.model.parameters() if p.grad is not None])
    made.optimizer.zero_grad()
    return vector, {name: float(value) for name, value in means.items()}


@pytest.mark.parametrize(("model", "loss"), COMBINATIONS)
@given(parts=st.sampled_from((2, 3, 4, 6, 12)))
def test_parts_have_the_gradient_of_the_whole(model: str, loss: str, parts: int) -> None:
    """A batch in parts gives the gradients and losses of the whole batch, but for rounding."""
    made = state(model, loss)
    whole, losses = gradient(made, 1)
    split, split_losses = gradient(made, parts)
    assert torch.allclose(split, whole, rtol=1e-4, atol=1e-6 * float(whole.abs().max()))
    assert split_losses == pytest.approx(losses, rel=1e-5)


def test_the_whole_batch_is_plain_backpropagation() -> None:
    """With one part the gradients are to the last bit those of the loss itself."""
    made = state(loss="QFE")
    found, _ = gradient(made, 1)
    inputs, targets = windows()
    made.loss(made.model(inputs), targets).objective.backward()
    plain = torch.cat([p.grad.flatten() for p in made.model.parameters() if p.grad is not None])
    assert torch.equal(found, plain)


@pytest.mark.parametrize("optimizer", ["AdamW", "RGD"])
@pytest.mark.parametrize(("model", "loss"), COMBINATIONS)
def test_bfloat16_trains(model: str, loss: str, optimizer: str) -> None:
    """In bfloat16 the loss falls as in float32; weights, averages and losses stay float32."""
    falls = {}
    for machine in (CPU, BFLOAT16):
        made = state(model, loss, training__optimizer=optimizer)
        results = [optimizer_step(made, machine, made.model, *windows(), grad_clip=1.0) for _ in range(20)]
        falls[machine] = results[0].loss, results[-1].loss
    assert falls[BFLOAT16] == pytest.approx(falls[CPU], abs=0.05)
    assert falls[BFLOAT16] != falls[CPU]
    assert falls[BFLOAT16][1] < falls[BFLOAT16][0] - 1
    assert {parameter.dtype for parameter in made.model.parameters()} == {torch.float32}
    averages = [value for entry in made.optimizer.state.values() for value in entry.values()]
    assert {value.dtype for value in averages} == {torch.float32}


@pytest.mark.parametrize("waves", ["2", "4", "8"])
def test_bfloat16_with_any_number_of_waves(waves: str) -> None:
    """Scores may be narrower than the values, as wide, or wider."""
    made = state(model__num_waves=waves)
    assert math.isfinite(optimizer_step(made, BFLOAT16, made.model, *windows()).norm)


def test_a_gradient_that_overflows_lowers_the_scale() -> None:
    """A step whose scaled gradient is infinite changes no weight; the next scale is half as large."""
    made = state(scaler=torch.amp.GradScaler("cpu", init_scale=2.0**127))
    with torch.no_grad():
        made.model.head.weight.mul_(1000)  # Gradients of order 1 would just fit.
    before = [parameter.detach().clone() for parameter in made.model.parameters()]
    result = optimizer_step(made, CPU, made.model, *windows())
    assert not result.updated
    assert math.isfinite(result.objective)
    assert made.scaler.get_scale() == 2.0**126
    assert all(torch.equal(old, new) for old, new in zip(before, made.model.parameters(), strict=True))


def test_the_scale_changes_no_update() -> None:
    """A scale that fits leaves loss, gradient norm and weights as they are without one."""
    plain, scaled = state(), state(scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    results = [optimizer_step(made, CPU, made.model, *windows(), grad_clip=1.0) for made in (plain, scaled)]
    assert results[0] == results[1]
    pairs = zip(plain.model.parameters(), scaled.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_scaler_continues(tmp_path: Any) -> None:
    """Through a checkpoint file the scale and its age are what they were; a run without one takes none."""
    before = state(scaler=torch.amp.GradScaler("cpu", init_scale=64.0))
    optimizer_step(before, CPU, before.model, *windows())
    before.step = 1
    manager = CheckpointManager(str(tmp_path))
    path = manager.save_checkpoint(1, before.model, before.optimizer, [], {}, state=before.extra())
    saved = manager.load_checkpoint(path)
    after = state(scaler=torch.amp.GradScaler("cpu"))
    after.restore(saved)
    assert after.scaler.state_dict() == before.scaler.state_dict()
    assert after.scaler.get_scale() == 64.0
    without = state()
    without.restore(saved)
    assert without.scaler.state_dict() == {}
    path = manager.save_checkpoint(1, without.model, without.optimizer, [], {}, state=without.extra())
    fresh = state(scaler=torch.amp.GradScaler("cpu", init_scale=8.0))
    fresh.restore(manager.load_checkpoint(path))
    assert fresh.scaler.get_scale() == 8.0


@pytest.mark.parametrize("model", ["standard", "wave"])
def test_activations_computed_again_are_the_same(model: str) -> None:
    """With activation checkpointing losses and weights are the same to the last bit, with dropout too."""
    ends = []
    for again in (False, True):
        made = state(model, model__dropout="0.3")
        made.model.activation_checkpointing = again
        torch.manual_seed(1)
        losses = [optimizer_step(made, CPU, made.model, *windows()).loss for _ in range(5)]
        ends.append((losses, [parameter.detach() for parameter in made.model.parameters()]))
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(one, other) for one, other in zip(ends[0][1], ends[1][1], strict=True))


@pytest.mark.parametrize("model", ["standard", "wave"])
def test_activations_computed_again_need_less_memory(model: str) -> None:
    """Of each block only its input is kept for the backward pass."""
    made = state(model, model__num_layers="4")
    inputs, _ = windows()
    everything = kept_bytes(made, inputs)
    made.model.activation_checkpointing = True
    block_inputs = 4 * 4 * inputs.numel() * 16  # Blocks, bytes, tokens, features: these the hooks do not see.
    assert kept_bytes(made, inputs) + block_inputs < everything / 3


def kept_bytes(made: TrainState, inputs: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, weights left out."""
    weights = {parameter.data_ptr() for parameter in made.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = made.model(inputs)
    assert logits.requires_grad
    return sum(kept.values())


def test_a_step_that_is_skipped_changes_nothing() -> None:
    """Asked with loss and norm of the gradient, the answer keeps the weights and the state of the optimizer."""
    made, asked = state(), []
    before = [parameter.detach().clone() for parameter in made.model.parameters()]

    def would_skip(loss: float, norm: float) -> bool:
        asked.append((loss, norm))
        return True

    result = optimizer_step(made, CPU, made.model, *windows(), would_skip=would_skip, measure_update=True)
    assert (result.updated, result.update_ratio, asked) == (False, None, [(result.loss, result.norm)])
    assert all(map(torch.equal, before, made.model.parameters()))
    assert all(parameter.grad is None for parameter in made.model.parameters())
    assert not made.optimizer.state


def test_the_update_is_measured_against_the_parameters() -> None:
    """Its ratio is the norm of all that was added over the norm of all that was there, and changes nothing."""
    made, other = state(), state()
    before = torch.cat([parameter.detach().flatten() for parameter in made.model.parameters()])
    result = optimizer_step(made, CPU, made.model, *windows(), measure_update=True)
    after = torch.cat([parameter.detach().flatten() for parameter in made.model.parameters()])
    assert result.update_ratio == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-5)
    optimizer_step(other, CPU, other.model, *windows())
    assert all(map(torch.equal, made.model.parameters(), other.model.parameters()))
