"""What only an NVIDIA GPU can show."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig, RuntimeConfig
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.training import batch_size, devices, runner
from spectral_mlflow.training.speed import matmul_rate

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU on this machine")


def on_gpu(config: ExperimentConfig, precision: str) -> ExperimentConfig:
    """The same configuration on the GPU."""
    return replace(config, runtime=replace(config.runtime, device="cuda", precision=precision))


def losses(run: runner.Finished) -> list[float]:
    """Of all steps."""
    return [line["loss"] for line in journal.records(run.run_dir / "logs" / "metrics.jsonl")]


@pytest.mark.parametrize("optimizer", ["AdamW", "RGD"])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.05), ("float16", 0.05)])
def test_a_gpu_trains_as_a_cpu_does(tiny: ExperimentConfig, precision: str, tolerance: float, optimizer: str) -> None:
    """In every precision the losses are those of the CPU within what the precision allows."""
    config = replace(tiny, training=replace(tiny.training, optimizer=optimizer, loss="QFE"))
    there = runner.start(on_gpu(config, precision))
    assert losses(there) == pytest.approx(losses(runner.start(config)), abs=tolerance)
    hardware = json.loads((there.run_dir / "config.json").read_text())["hardware"]
    assert (hardware["device"], hardware["precision"]) == ("cuda", precision)


def test_float16_continues_with_its_scale(tiny: ExperimentConfig) -> None:
    """The scale of the gradients is in the checkpoint, and a continued run takes it up."""
    run = runner.start(on_gpu(tiny, "float16")).run_dir
    checkpoint = CheckpointManager(str(run)).load_latest_checkpoint()
    assert checkpoint is not None
    assert checkpoint["state"]["scaler"]["scale"] > 0
    assert runner.resume(run, {"steps": "10"}).outcome.status == "completed"


def test_a_run_moves_between_devices(tiny: ExperimentConfig) -> None:
    """A run of the GPU goes on on the CPU, and back, each with the optimizer's kernels of its own."""
    run = runner.start(on_gpu(tiny, "auto")).run_dir
    assert runner.resume(run, {"steps": "10", "device": "cpu"}).outcome.status == "completed"
    assert runner.resume(run, {"steps": "12", "device": "cuda"}).outcome.status == "completed"


def test_auto_takes_bfloat16_where_the_gpu_has_it() -> None:
    """Precision auto follows the hardware."""
    machine = devices.choose(RuntimeConfig(device="auto"))
    assert machine.device.type == "cuda"
    assert (machine.precision == torch.bfloat16) == devices.has_bfloat16(machine.device)


def test_a_batch_that_does_not_fit_is_noticed() -> None:
    """A trial that takes more than there is fails, one that takes little succeeds."""
    device = torch.device("cuda")
    total = torch.cuda.get_device_properties(device).total_memory

    def allocate(share: int) -> None:
        torch.empty(total * share // 8, dtype=torch.uint8, device=device)

    assert not batch_size._fits(allocate, 16, device)
    assert batch_size._fits(allocate, 1, device)


def test_the_largest_batch_of_a_small_corpus_is_all_of_it(tiny: ExperimentConfig) -> None:
    """The search on the GPU ends at what the corpus has."""
    config = on_gpu(replace(tiny, training=replace(tiny.training, auto_batch_size=True, steps=2)), "auto")
    run = runner.start(config).run_dir
    assert json.loads((run / "config.json").read_text())["config"]["training"]["batch_size"] == 128


def test_the_rate_of_a_gpu_is_measured() -> None:
    """A GPU multiplies at more than 100 GFLOP/s."""
    assert matmul_rate(torch.device("cuda")) > 1e11
