"""Gallery: what cannot be shown is told, and training goes on."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spectral_mlflow import journal
from spectral_mlflow.config import DatasetConfig, ExperimentConfig
from spectral_mlflow.data import dataset as datasets
from spectral_mlflow.monitoring.progress import Progress
from spectral_mlflow.monitoring.sample_quality import SampleQuality
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.training import runner
from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.gallery import Gallery
from spectral_mlflow.training.watching import attach

MACHINE = Machine(torch.device("cpu"))


class Confused:
    """A measure that has not thought of this text."""

    reference: Mapping[str, tuple[float, float]] = {}

    def measure(self, _: str) -> dict[str, float]:
        """Fail."""
        raise OverflowError("too many slashes")


def sampled(config: ExperimentConfig, shown: ExperimentConfig, quality: SampleQuality | None) -> list[dict[str, Any]]:
    """The events of one sample of a new model, as another configuration wants it."""
    dataset = datasets.prepare(config.dataset, config.model.block_size)
    state = runner.new_state(config, dataset, MACHINE)
    watching, tracker = attach(config, dataset, state, MACHINE), ExperimentTracker(config)
    with Progress(1) as progress, watching.watch(tracker, progress) as watch:
        assert Gallery(shown, dataset, state, watch, quality).sample() == {}
    tracker.close()
    return journal.records(tracker.run_dir / "logs" / "events.jsonl")


def test_a_sample_that_cannot_be_measured_is_kept(tiny: ExperimentConfig) -> None:
    """A warning says why."""
    events = sampled(tiny, tiny, Confused())
    assert [event["event"] for event in events if event["event"] in ("sample", "alert")] == ["sample", "alert"]
    [alert] = [event for event in events if event["event"] == "alert"]
    assert alert["severity"] == "warning"
    assert alert["message"] == "the sample of step 0 is not measured: OverflowError: too many slashes"


def test_music_that_cannot_be_saved_ends_no_training(
    tiny: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason, here that the package is gone."""
    (tmp_path / "corpus.txt").write_text("X:1\nK:G\nGABcde|\n\n" * 50)
    monkeypatch.delitem(sys.modules, "mido", raising=False)
    monkeypatch.setitem(sys.modules, "mido", None)
    tunes = replace(tiny, dataset=DatasetConfig(name="oneills"))
    [alert] = [event for event in sampled(tiny, tunes, None) if event["event"] == "alert"]
    assert alert["message"].startswith("the music of step 0 is not kept: ")


def test_weights_that_are_not_finite_write_nothing_and_end_nothing(tiny: ExperimentConfig) -> None:
    """A ruined model cannot be sampled from; that is told, and whatever can save the run goes on."""
    dataset = datasets.prepare(tiny.dataset, tiny.model.block_size)
    state = runner.new_state(tiny, dataset, MACHINE)
    with torch.no_grad():
        next(iter(state.model.head.parameters())).fill_(float("nan"))
    watching, tracker = attach(tiny, dataset, state, MACHINE), ExperimentTracker(tiny)
    with Progress(1) as progress, watching.watch(tracker, progress) as watch:
        assert Gallery(tiny, dataset, state, watch, None).sample() == {}
    tracker.close()
    told = journal.records(tracker.run_dir / "logs" / "events.jsonl")
    assert [event["kind"] for event in told if event["event"] == "alert"] == ["sample"]
