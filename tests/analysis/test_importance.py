"""Which settings the loss hangs on."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest

from spectral_mlflow.analysis.importance import FEWEST_RUNS, importance
from spectral_mlflow.errors import UserError


def rows(amount: int, **fixed: Any) -> list[dict[str, Any]]:
    """Runs whose loss hangs on the learning rate and on nothing else."""
    generator = random.Random(1)
    found = []
    for place in range(amount):
        lr = (1e-4, 1e-3, 1e-2)[place % 3]
        decay = generator.choice((0.0, 0.1))
        found.append({
            "params.model.embedding": "wave", "params.model.attention": "wave", "params.model.feedforward": "wave",
            "params.training.seed": place // 3, "params.training.lr": lr, "params.training.warmup_steps": lr * 1e5,
            "params.training.weight_decay": decay,
            "metrics.best_val_loss": 3 - 100 * lr + 0.01 * generator.random(),
        } | fixed)  # fmt: skip
    return found


def test_the_setting_that_matters_comes_first() -> None:
    """Settings that only change together share a row, and the seed's share tells what noise gets."""
    pytest.importorskip("optuna")
    found = importance(rows(24))
    assert found.shares[0].names == ("training.lr", "training.warmup_steps")
    assert found.shares[0].share > 0.9
    assert {name for share in found.shares for name in share.names} == {
        "training.lr", "training.warmup_steps", "training.weight_decay", "training.seed",
    }  # fmt: skip
    assert sum(share.share for share in found.shares) == pytest.approx(1)
    assert ["cannot be told apart" in found.notes[0], "the seed gets" in found.notes[1]] == [True, True]
    assert importance(rows(24)) == found


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (rows(FEWEST_RUNS - 1), "needs 12 runs; there are 11"),
        (
            [row | {"params.training.lr": 1e-3, "params.training.warmup_steps": 9, "params.training.weight_decay": 0.0}
             for row in rows(12)],
            "needs a setting that was varied",
        ),
        (rows(12, **{"metrics.best_val_loss": 2.0}), "needs losses that differ"),
        ([], "needs 12 runs; there are 0"),
    ],
    ids=["few", "same", "equal", "none"],
)  # fmt: skip
def test_where_nothing_can_be_said_nothing_is(given: list[dict[str, Any]], why: str) -> None:
    """Too few runs, nothing varied or no difference is told instead of numbers."""
    found = importance(given)
    assert found.shares == ()
    assert why in found.notes[0]


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for it without the package is told what to install."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'spectral-mlflow\[analysis\]'"):
        importance(rows(12))
