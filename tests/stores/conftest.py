"""Run directories written by the real journal, and a real sqlite store for each test."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow import MlflowClient
from PIL import Image

from spectral_mlflow import journal
from spectral_mlflow.journal import Journal
from spectral_mlflow.stores.client import open_client
from spectral_mlflow.stores.companion import Pace

SHA = "0123456789abcdef" * 4

CONFIG = {
    "experiment_id": "wave_20260131_120000_1a2b3c4d",
    "git": {"commit": "1a2b3c4d" * 5, "branch": "main", "dirty": False},
    "config_hash": "c0ffee",
    "model": {"type": "wave", "class": "GPT", "num_parameters": 12345, "vocab_size": 65},
    "dataset": {"name": "python-docs", "sha256": SHA, "source": "https://example.org/docs.txt", "num_tokens": 1000},
    "config": {
        "name": "wave",
        "model": {"type": "wave", "d_model": 32, "pure_wave": False},
        "training": {"steps": 300, "lr": 0.001, "seed": 7, "optimizer": "AdamW", "loss": "CE"},
        "monitoring": {"stores": ["mlflow"], "tracking_uri": None},
    },
}


@dataclass
class Written:
    """A run directory in the making."""

    directory: Path
    start: dict[str, Any]

    @property
    def name(self) -> str:
        """Its experiment id."""
        return self.directory.name

    def event(self, event: str, **fields: Any) -> None:
        """Append an event, as the tracker does."""
        events = Journal(self.directory / "logs" / "events.jsonl")
        events.append({"event": event, "timestamp": journal.now(), **fields})
        events.close()

    def lines(self, *records: dict[str, Any]) -> None:
        """Append lines of metrics."""
        metrics = Journal(self.directory / "logs" / "metrics.jsonl")
        for record in records:
            metrics.append({"timestamp": journal.now(), **record})
        metrics.close()

    def steps(self, first: int, last: int) -> None:
        """Lines of a few metrics for each step, one of them only now and then."""
        self.lines(
            *(
                {"step": n, "loss": 3.0 / n, "learning_rate": 1e-3, "grad/norm": 0.5 + n}
                | ({"val_loss": 4.0 / n} if n % 10 == 0 else {})
                for n in range(first, last + 1)
            )
        )

    def file(self, path: str, content: str = "content") -> None:
        """Write a file of the run."""
        place = self.directory / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, encoding="utf-8")

    def end(self, status: str = "FINISHED", reason: str | None = None) -> None:
        """Append the end event."""
        self.event("end", status=status, step=1, reason=reason)

    def records(self) -> list[dict[str, Any]]:
        """All lines of metrics."""
        return journal.records(self.directory / "logs" / "metrics.jsonl")

    def is_exactly_in(self, uri: str) -> bool:
        """Whether a store has every point of some metrics, each once."""
        client = MlflowClient(tracking_uri=uri)
        for key in ("loss", "learning_rate", "grad/norm"):
            rows = client.get_metric_history(self.state()["run_id"], key)
            lines = [(r["step"], r[key], journal.milliseconds(r["timestamp"])) for r in self.records()]
            if sorted((row.step, row.value, row.timestamp) for row in rows) != sorted(lines):
                return False
        return True

    def state(self) -> dict[str, Any]:
        """What the companion left."""
        return json.loads((self.directory / "stores" / "mlflow.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_") and name.endswith(("URI", "ID"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SPECTRAL_HOME", str(tmp_path))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated empty database: MLflow needs seconds for one, so all workers copy the same."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "template"
    with FileLock(f"{shared}.lock"):
        if not (shared / "mlflow.db").exists():
            open_client(f"sqlite:///{shared / 'new.db'}")
            (shared / "new.db").rename(shared / "mlflow.db")
    return shared / "mlflow.db"


@pytest.fixture
def store(template: Path, tmp_path: Path) -> str:
    """URI of an empty sqlite store."""
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def new_run(tmp_path: Path, store: str) -> Callable[..., Written]:
    """Makes run directories that are going to the store."""

    def make(name: str = "wave_20260131_120000_1a2b3c4d", **start: Any) -> Written:
        directory = tmp_path / "experiments" / name
        (directory / "logs").mkdir(parents=True)
        run = Written(directory, {
            "format_version": 1, "experiment_id": name, "name": "wave", "stores": ["mlflow"], "tracking_uri": store,
            "mlflow_experiment": "spectral", "mlflow_run_id": None, "tags": {}, **start,
        })  # fmt: skip
        run.file("config.json", json.dumps(CONFIG | {"experiment_id": name}))
        run.event("start", **run.start)
        return run

    return make


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the real trainer, small and without a store."""
    from spectral_mlflow.settings import build
    from spectral_mlflow.training import runner

    folder = tmp_path_factory.mktemp("trained")
    (folder / "corpus.txt").write_text("the wave and the phase and the beat\n" * 60)
    settings = {
        "model.d_model": "16", "model.num_layers": "1", "model.num_heads": "2", "model.block_size": "16", "lr": "1e-2",
        "batch_size": "4", "steps": "20", "training.warmup_steps": "2", "dataset.path": str(folder / "corpus.txt"),
        "monitoring.experiments_dir": str(folder), "monitoring.eval_interval": "10", "monitoring.viz_interval": "0",
        "monitoring.sample_tokens": "8", "monitoring.stores": "none", "monitoring.code_snapshot": "false",
        "runtime.threads": "1",
    }  # fmt: skip
    return runner.start(build(settings)).run_dir


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of that run among the experiments of the test."""
    return Path(shutil.copytree(trained_once, tmp_path / "experiments" / trained_once.name, symlinks=True))


@pytest.fixture
def fast() -> Pace:
    """No waiting to speak of."""
    return Pace(
        poll=0.01,
        slowest_poll=0.05,
        interval=0.02,
        retry=0.01,
        longest_retry=0.05,
        patience=0.3,
        settle=0.5,
        handover=0.1,
    )


QUICK = ("--poll", "0.05", "--settle", "1", "--patience", "1", "--handover", "0.2")


@pytest.fixture
def companion() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -m spectral_mlflow.stores`; what is left of it ends with the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(directory: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "spectral_mlflow.stores", str(directory), *QUICK, *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@pytest.fixture
def full_run(new_run: Callable[..., Written]) -> Callable[..., Written]:
    """Makes runs with something of all that a store can be told; lines of steps that are not of a plain run too."""

    def make(*stores: str, **start: Any) -> Written:
        run = new_run(stores=list(stores), **start)
        run.file("samples/sample_step_10.txt")
        run.event("sample", step=10, path="samples/sample_step_10.txt", text="<b>ROMEO</b>\n\ud800 and")
        plot = run.directory / "visualizations" / "loss_step_20.png"
        plot.parent.mkdir()
        Image.new("RGB", (30, 20)).save(plot)
        run.event("artifact", path="visualizations/loss_step_20.png", kind="plot", step=20, key="training/loss")
        run.event("alert", step=5, severity="critical", kind="loss_spike", message="up", cause="lr", advice="lower it")
        histograms = {"weight": {"edges": [0.0, 1.0, 2.0], "counts": [3.0, 4.0], "invalid": 0}}
        run.file("histograms/histograms_step_5.json", json.dumps({"step": 5, "parameters": histograms}))
        run.event("histogram", step=5, path="histograms/histograms_step_5.json")
        run.file("results.json", json.dumps({"final_metrics": {"val_loss": 1.5}}))
        return run

    return make


@pytest.fixture
def odd_lines() -> list[dict[str, Any]]:
    """Lines as a run leaves them that went wrong, or was resumed and measured more at steps that are past."""
    return [
        {"step": 301, "loss": math.nan, "grad/norm": math.inf},
        {"step": 302, "loss": -math.inf},
        {"step": 7, "val_loss": 0.5},
        {"step": 7, "quality/entropy": 1e-12},
        {"step": 303, "loss": 1e300},
    ]


TRAINER = """
import sys, time
from pathlib import Path
from filelock import FileLock
from mlflow import MlflowClient
held = FileLock(Path(sys.argv[1]) / ".run.lock")
held.acquire()
print("holding", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def trainer() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts real processes that hold the lock of a run directory until they are killed or their input ends."""
    processes: list[subprocess.Popen[str]] = []

    def start(directory: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", TRAINER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()
