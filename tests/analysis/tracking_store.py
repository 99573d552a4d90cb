"""Real MLflow stores with runs as the companion writes them, for the tests of analysis and paper."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from spectral_mlflow import config
from spectral_mlflow.settings import build
from spectral_mlflow.stores.facts import params

STARTED = 1_760_000_000_000  # Milliseconds since the epoch; a run starts a minute after the one before.
TEXT_HASH = "3f1c" * 16
PARAMETERS = {"wave": 826_609, "standard": 810_880}

Curve = Mapping[int, float]  # step -> validation loss


class TrackingStore:
    """One sqlite store; `train` adds a run."""

    def __init__(self, folder: Path, empty: Path | None = None) -> None:
        """Make a store in a folder, as a copy of an empty one (quick) or anew (three seconds)."""
        self.file = folder / "mlflow.db"
        if empty is not None:
            shutil.copyfile(empty, self.file)
        self.uri = f"sqlite:///{self.file}"
        self.client = MlflowClient(tracking_uri=self.uri)
        found = self.client.get_experiment_by_name("spectral")
        self.experiment = (
            found.experiment_id if found else self.client.create_experiment("spectral", str(folder / "artifacts"))
        )
        self.runs = 0

    def train(
        self,
        model: str = "wave",
        seed: int = 0,
        curve: Curve | None = None,
        *,
        name: str | None = None,
        status: str = "FINISHED",
        kind: str = "train",
        settings: Mapping[str, str] | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> str:
        """One run with parameters, tags and history; returns its MLflow run id."""
        configured = build({"model": model, "seed": str(seed), "dataset": "tinyshakespeare", **(settings or {})})
        key = name or f"{model}_2025100{self.runs % 10}_120000_0123abc{seed}"
        start = STARTED + 60_000 * self.runs
        self.runs += 1
        tags = {
            "spectral.kind": kind,
            "spectral.key": key,
            "spectral.config_hash": configured.hash(),
            "mlflow.source.git.commit": "0123abcd" * 5,
        }
        run = self.client.create_run(self.experiment, start_time=start, run_name=key, tags=tags)
        self._log(run.info.run_id, start, configured, {} if curve is None else curve, facts or {})
        if status != "RUNNING":
            self.client.set_terminated(run.info.run_id, status, start + 50_000)
        return str(run.info.run_id)

    def _log(
        self, run_id: str, start: int, configured: config.ExperimentConfig, curve: Curve, facts: Mapping[str, str]
    ) -> None:
        known = {
            "dataset.sha256": TEXT_HASH,
            "dataset.num_tokens": "1115394",
            "model.vocab_size": "65",
            "model.num_parameters": str(PARAMETERS[configured.model.type]),
        }
        values = params({"config": configured.to_dict()}) | known | dict(facts)  # As the companion writes them.
        metrics = []
        best = math.inf
        for step, loss in curve.items():
            best = min(best, loss)
            point = {"loss": loss + 0.05, "val_loss": loss, "best_val_loss": best, "tokens_per_sec": 12_000.0 + step}
            metrics += [Metric(key, value, start + step, step) for key, value in point.items()]
        self.client.log_batch(run_id, params=[Param(*item) for item in values.items()])
        self.client.log_batch(run_id, metrics=metrics, tags=[RunTag("spectral.journal_offset", "0")])


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store's database, made once by each worker."""
    return TrackingStore(tmp_path_factory.mktemp("empty")).file


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> TrackingStore:
    """A store of its own for one test."""
    return TrackingStore(tmp_path, empty_store)


def falling(last: float, steps: int = 300, points: int = 6) -> dict[int, float]:
    """A validation curve that falls to its last value."""
    return {
        round(steps * part / points): last + 1.5 * math.exp(-4 * part / points) - 1.5 * math.exp(-4)
        for part in range(1, points + 1)
    }
