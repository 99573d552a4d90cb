"""Losses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.references import incoherence
from spectral_mlflow.config import TrainingConfig
from spectral_mlflow.losses import CrossEntropyLoss, QFELoss, build_loss


def example(batch: int = 2, length: int = 9, vocab_size: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random logits and targets."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, length, vocab_size, generator=generator, dtype=torch.float64, requires_grad=True)
    return logits, torch.randint(vocab_size, (batch, length), generator=generator)


@settings(max_examples=40)
@given(
    batch=st.integers(1, 3), length=st.integers(1, 12), vocab_size=st.integers(2, 9), seed=st.integers(0, 99),
    weight=st.floats(0, 3),
)  # fmt: skip
def test_qfe_equals_the_literal_formula(batch: int, length: int, vocab_size: int, seed: int, weight: float) -> None:
    """Value and gradient are those of the formula with angles."""
    logits, targets = example(batch, length, vocab_size, seed)
    parts = QFELoss(weight, vocab_size, seed=0)(logits, targets)
    entropy = -logits.log_softmax(-1).gather(-1, targets[..., None]).mean()
    expected = entropy + weight * incoherence(logits, targets)
    torch.testing.assert_close(parts.loss, entropy)
    torch.testing.assert_close(parts.coherence, incoherence(logits, targets))
    torch.testing.assert_close(parts.objective, expected)
    (one,) = torch.autograd.grad(parts.objective, logits)
    (other,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
    assert parts.coherence >= -1e-12


def test_qfe_of_a_large_vocabulary_is_projected() -> None:
    """Beyond 256 tokens it is the formula of the signals behind a random projection that keeps lengths."""
    logits, targets = example(2, 6, 300)
    loss = QFELoss(0.5, 300, seed=4).double()
    assert loss.projection.shape == (300, 256)
    assert loss.projection.square().sum(1).mean().item() == pytest.approx(1, rel=0.05)
    parts = loss(logits, targets)
    expected = incoherence(logits, targets, loss.projection)
    torch.testing.assert_close(parts.coherence, expected)
    (one,) = torch.autograd.grad(parts.coherence, logits)
    (other,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


def test_projection_follows_from_the_seed_and_is_saved(tmp_path) -> None:
    """One seed gives one projection, without touching the global generator, and the state carries it."""
    config = TrainingConfig(loss="QFE", seed=5)
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    one, same = build_loss(config, 300), build_loss(config, 300)
    other = build_loss(TrainingConfig(loss="QFE", seed=6), 300)
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(one.projection, same.projection)
    assert not torch.equal(one.projection, other.projection)
    torch.save(one.state_dict(), tmp_path / "loss.pt")
    other.load_state_dict(torch.load(tmp_path / "loss.pt", weights_only=True))
    assert torch.equal(one.projection, other.projection)
    assert build_loss(config, 256).state_dict() == {}


def test_perfect_prediction_has_no_incoherence() -> None:
    """Logits that leave no doubt about the right token cost nothing."""
    _, targets = example()
    logits = 1000.0 * torch.nn.functional.one_hot(targets, 7).float()
    parts = QFELoss(1.0, 7, seed=0)(logits, targets)
    assert parts.objective.item() == pytest.approx(0, abs=1e-6)


def test_gradient_is_finite_where_the_angle_is_not_defined() -> None:
    """Uniform predictions have no spectrum above frequency 0, and still a finite gradient."""
    logits = torch.zeros(1, 8, 4, requires_grad=True)
    parts = QFELoss(1.0, 4, seed=0)(logits, torch.tensor([[0, 1, 2, 3, 3, 2, 1, 0]]))
    parts.objective.backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().max() > 0


def test_cross_entropy_is_all_there_is_by_default() -> None:
    """The default loss minimises plain cross-entropy and has no coherence."""
    logits, targets = example()
    loss = build_loss(TrainingConfig(), 7)
    assert isinstance(loss, CrossEntropyLoss)
    parts = loss(logits, targets)
    expected = -logits.log_softmax(-1).gather(-1, targets[..., None]).mean()
    torch.testing.assert_close(parts.loss, expected)
    assert parts.objective is parts.loss
    assert parts.coherence is None
