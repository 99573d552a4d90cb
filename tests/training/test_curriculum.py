"""The block-length curriculum."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig, TrainingConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.settings import build
from spectral_mlflow.training import runner
from spectral_mlflow.training.curriculum import block_size_at, block_sizes, cut


def lengths(training: TrainingConfig, block_size: int) -> list[int]:
    """Window length of each step."""
    return [block_size_at(step, training, block_size) for step in range(1, training.steps + 1)]


@given(
    exponent=st.integers(1, 10), halvings=st.integers(1, 10), odd=st.sampled_from((1, 3, 5)), warmup=st.integers(1, 60)
)
def test_windows_double_in_equal_stages(exponent: int, halvings: int, odd: int, warmup: int) -> None:
    """Lengths start at the first one, double, and are whole from the last step of the warm-up on."""
    whole = odd << exponent
    first = odd << max(0, exponent - halvings)
    found = lengths(TrainingConfig(steps=80, block_warmup_steps=warmup, first_block_size=first), whole)
    assert found == sorted(found)
    assert set(found[warmup - 1 :]) == {whole}
    stages = [found[: warmup - 1].count(size) for size in block_sizes(_with(warmup, first), whole)[:-1]]
    assert max(stages) - min(stages) <= 2
    if warmup > len(stages):
        assert found[0] == first
        assert all(later in (earlier, 2 * earlier) for earlier, later in itertools.pairwise(found))


def _with(warmup: int, first: int) -> TrainingConfig:
    return TrainingConfig(block_warmup_steps=warmup, first_block_size=first)


@pytest.mark.parametrize(("whole", "first"), [(128, 16), (8, 1), (4, 1), (2, 1), (100, 25), (6, 3)])
def test_the_first_windows_are_an_eighth(whole: int, first: int) -> None:
    """Without a first length it is an eighth of the block, or as near to one as halving gets."""
    assert block_sizes(TrainingConfig(block_warmup_steps=10), whole)[0] == first


def test_without_a_warm_up_every_window_is_whole() -> None:
    """The curriculum is off by default."""
    assert set(lengths(TrainingConfig(steps=20), 128)) == {128}


def test_short_windows_have_the_same_tokens() -> None:
    """Windows are cut into pieces, in order; none is lost."""
    windows = torch.arange(24).view(2, 12)
    assert cut(windows, 3).shape == (8, 3)
    assert torch.equal(cut(windows, 3).flatten(), windows.flatten())
    assert torch.equal(cut(windows, 12), windows)


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"training.first_block_size": "256"}, "given 256; allowed with model.block_size=128: 64, 32"),
        ({"training.first_block_size": "24"}, "training.first_block_size: given 24"),
        ({"model.block_size": "99", "training.block_warmup_steps": "5"}, "an even model.block_size"),
        ({"training.gradient_accumulation": "3"}, "accumulation: given 3, which does not divide batch_size=16"),
        (
            {"training.on_anomaly": "skip", "monitoring.anomalies": "false"},
            "training.on_anomaly: given skip with monitoring.anomalies=false",
        ),
    ],
)  # fmt: skip
def test_combinations_without_sense_are_refused(given_settings: dict[str, str], message: str) -> None:
    """A first length that is no half of the block, odd parts of a batch, a reaction to nothing: one line."""
    with pytest.raises(UserError, match=message):
        build(given_settings)


def columns(run_dir: Path) -> list[dict[str, float]]:
    """What must repeat to the last bit."""
    names = ("step", "loss", "grad/norm", "val_loss", "block_size")
    return [
        {name: line[name] for name in names if name in line}
        for line in journal.records(run_dir / "logs" / "metrics.jsonl")
    ]


def test_a_run_grows_its_windows_and_continues_exactly(tiny: ExperimentConfig) -> None:
    """Each line has the length of its windows; continuing within the curriculum repeats the run to the last bit."""
    training = replace(tiny.training, block_warmup_steps=7, gradient_accumulation=2)
    whole, cut_off = (runner.start(replace(tiny, training=training)).run_dir for _ in range(2))
    assert [line["block_size"] for line in columns(whole)] == [2, 2, 4, 4, 8, 8, 16, 16]
    (cut_off / "checkpoints" / "checkpoint_step_8.pt").unlink()
    logs = cut_off / "logs" / "metrics.jsonl"
    logs.write_bytes(b"".join(logs.read_bytes().splitlines(keepends=True)[:5]))
    runner.resume(cut_off, {})
    assert columns(cut_off) == columns(whole)


def test_tokens_of_a_step_are_constant(tiny: ExperimentConfig) -> None:
    """Positions in the epoch are those of a run without the curriculum, and no length is recorded there."""
    grown = runner.start(replace(tiny, training=replace(tiny.training, block_warmup_steps=7))).run_dir
    plain = runner.start(tiny).run_dir
    epochs = [[line["epoch"] for line in journal.records(run / "logs" / "metrics.jsonl")] for run in (grown, plain)]
    assert epochs[0] == epochs[1]
    assert all("block_size" not in line for line in columns(plain))
