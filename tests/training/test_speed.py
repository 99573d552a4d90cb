"""Floating point operations a second."""

from __future__ import annotations

import json
import random
import time

import numpy as np
import pytest
import torch

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.models import gpt
from spectral_mlflow.training import runner
from spectral_mlflow.training.speed import SIZE, Speed, matmul_rate

NAMES = {"flops_per_token", "flops_per_second", "matmul_flops_per_second", "flops_utilisation"}


def test_the_rate_is_that_of_a_product() -> None:
    """The measured rate is near what one product of the same size takes, at best."""
    first = torch.ones(SIZE, SIZE)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        first @ first
        best = min(best, time.perf_counter() - started)
    assert 0.05 < matmul_rate(torch.device("cpu")) * best / (2 * SIZE**3) < 2


def test_measuring_draws_no_numbers() -> None:
    """Global random generators are where they were."""
    torch.manual_seed(0)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[2]
    matmul_rate(torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[2]) == before[1:]


def test_speed_is_all_work_over_all_time() -> None:
    """Utilisation of a step is its own; the summary is that of all steps, not the mean of rates."""
    speed = Speed(flops_per_token=10, matmul_rate=1000.0)
    assert speed.summary() == {"flops_per_token": 10, "matmul_flops_per_second": 1000}
    assert speed.add(50, 1.0) == pytest.approx(0.5)
    assert speed.add(50, 3.0) == pytest.approx(1 / 6)
    assert speed.summary()["flops_per_second"] == pytest.approx(250)
    assert speed.summary()["flops_utilisation"] == pytest.approx(0.25)


def test_a_run_reports_its_speed(tiny: ExperimentConfig) -> None:
    """Results and evaluated steps have the four numbers, each step its utilisation."""
    finished = runner.start(tiny)
    final = json.loads((finished.run_dir / "results.json").read_text())["final_metrics"]
    vocab_size = json.loads((finished.run_dir / "config.json").read_text())["model"]["vocab_size"]
    assert final["flops_per_token"] == gpt.build(tiny.model, vocab_size, 0).flops_per_token()
    assert final["flops_utilisation"] == pytest.approx(final["flops_per_second"] / final["matmul_flops_per_second"])
    lines = journal.records(finished.run_dir / "logs" / "metrics.jsonl")
    assert all(0 < line["system/flops_utilisation"] < 1 for line in lines)
    assert [line["step"] for line in lines if line.keys() >= NAMES] == [4, 8]
