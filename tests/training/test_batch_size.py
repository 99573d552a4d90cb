"""The largest batch that fits."""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.settings import build, load
from spectral_mlflow.training import batch_size, runner


def test_a_device_that_does_not_tell_its_memory_is_refused() -> None:
    """It is told before anything is read; the others are taken."""
    with pytest.raises(UserError, match="training.auto_batch_size: given true on device mps; allowed on cpu and cuda"):
        batch_size.check_device(torch.device("mps"))
    for name in ("cpu", "cuda"):
        batch_size.check_device(torch.device(name))


@given(
    constant=st.integers(0, 10**9),
    each=st.integers(1, 10**8),
    available=st.integers(1, 10**10),
    most=st.integers(1, 9999),
)
def test_what_is_found_fits(constant: int, each: int, available: int, most: int) -> None:
    """A power of two whose memory is there; nothing larger than half of what is there was tried on the way."""
    tried = []

    def need(windows: int) -> int:
        tried.append(windows)
        return constant + each * windows

    found = batch_size.by_memory(need, available, most)
    assert found <= most
    assert found.bit_count() <= 1
    assert not found or constant + each * found <= available
    assert all(constant + each * windows <= available / 2 for windows in tried[1:])
    if not constant:
        following = 2 * found or 1
        assert following > most or each * following > available


def test_nothing_fits() -> None:
    """Where one window needs more than there is, none is found."""
    assert batch_size.by_memory(lambda windows: 100 * windows, 99, 8) == 0


def test_memory_of_a_step_is_seen() -> None:
    """Growth is about what was taken while something ran, and a later trial counts from the same beginning."""
    code = (  # In a process of its own: one that has freed as much before takes nothing more from the system.
        "import torch\nfrom spectral_mlflow.training import batch_size\n"
        "def use(mebibytes):\n"
        "    for _ in range(5):\n"
        "        torch.ones(mebibytes * 2**18).mul_(2)\n"
        "memory = batch_size._Memory()\n"
        "print(*(memory.growth(lambda size=size: use(size)) for size in (64, 256)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    small, large = map(int, done.stdout.split())
    assert 0.8 * 64 * 2**20 < small < 1.5 * 64 * 2**20
    assert 0.8 * 256 * 2**20 < large < 1.5 * 256 * 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells them apart")
def test_pages_of_files_are_not_memory_of_a_step(tmp_path: Path) -> None:
    """They come and go with the memory that the machine has to spare."""
    (tmp_path / "file").write_bytes(bytes(32 * 2**20))
    memory = batch_size._Memory()
    with (tmp_path / "file").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert memory.growth(lambda: mapped.find(b"x")) < 8 * 2**20


def test_memory_is_free_on_this_machine() -> None:
    """Some memory is free, and not more than there is."""
    assert 0 < batch_size.free_memory() <= batch_size.psutil.virtual_memory().total


def test_a_run_finds_records_and_keeps_its_batch(tiny: ExperimentConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """The size found is recorded and stays when the run is continued; the corpus bounds it."""
    config = replace(tiny, training=replace(tiny.training, auto_batch_size=True, gradient_accumulation=2, steps=4))
    run = runner.start(config).run_dir
    assert "training.batch_size=128 is the largest that fits" in capsys.readouterr().err
    written = json.loads((run / "config.json").read_text())["config"]["training"]
    assert (written["batch_size"], written["auto_batch_size"]) == (128, True)
    tokens = len(journal.records(run / "logs" / "metrics.jsonl"))
    assert tokens == 4
    assert "batch size 128, the largest that fits" in (run / "logs" / "training.log").read_text()
    runner.resume(run, {"steps": "5"})
    assert "looking for" not in capsys.readouterr().err
    repeated = load(run / "config.json").training
    assert (repeated.batch_size, repeated.auto_batch_size) == (128, False)


def test_the_search_leaves_the_run_as_it_is(tiny: ExperimentConfig) -> None:
    """A run whose batch was found has the losses of a run that was given it."""
    searched = runner.start(replace(tiny, training=replace(tiny.training, auto_batch_size=True)))
    settings = json.loads((searched.run_dir / "config.json").read_text())["config"]["training"]
    fixed = runner.start(replace(tiny, training=replace(tiny.training, batch_size=settings["batch_size"])))
    losses = [
        [line["loss"] for line in journal.records(run.run_dir / "logs" / "metrics.jsonl")] for run in (searched, fixed)
    ]
    assert losses[0] == losses[1]


def test_a_hand_written_configuration_still_searches(tmp_path: pytest.TempPathFactory) -> None:
    """Only the config.json of a run holds a size that was found."""
    path = tmp_path / "mine.json"
    path.write_text('{"training": {"auto_batch_size": true}}')
    assert load(path).training.auto_batch_size


def test_parts_need_not_divide_a_size_that_is_found() -> None:
    """With auto_batch_size the batch follows the parts; without it they must divide the batch."""
    assert build({"training.gradient_accumulation": "3", "training.auto_batch_size": "true"})
    with pytest.raises(UserError, match="such as 2"):
        build({"training.gradient_accumulation": "3"})
