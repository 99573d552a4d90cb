"""The home of one trial: a corpus, a store, and the command line of the product at work in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.faults.preloaded import PIDS, Preloaded, Process, wait_for
from spectral_mlflow import journal

STEPS = 40
CORPUS = "the wave and the phase and the beat\n" * 60
SMALL = {
    "model.d_model": "16", "model.num_layers": "1", "model.num_heads": "2", "model.block_size": "16",
    "training.steps": str(STEPS), "training.batch_size": "4", "training.warmup_steps": "2", "training.lr": "1e-2",
    "runtime.threads": "1", "runtime.device": "cpu", "monitoring.eval_interval": "10",
    "monitoring.checkpoint_interval": "5", "monitoring.viz_interval": "0", "monitoring.sample_tokens": "8",
    "monitoring.code_snapshot": "false",
}  # fmt: skip
VARIANTS = {
    "standard": {"model.type": "standard"},
    "wave with plots": {"model.type": "wave", "monitoring.viz_interval": "100000"},
    "standard RGD dropout": {"model.type": "standard", "training.optimizer": "RGD", "model.dropout": "0.1"},
    "wave RGD QFE dropout": {
        "model.type": "wave", "training.optimizer": "RGD", "training.loss": "QFE", "model.dropout": "0.1",
    },
}  # fmt: skip
NO_STORE = {"monitoring.stores": "none"}


@dataclass
class Home:
    """A folder in which the product runs; what it needs from outside is copied in.

    Attributes:
        folder: SPECTRAL_HOME, and the working folder of every process.
        python: what starts them.
        settings: of the runs that are trained here.
        real: whether companions are true new interpreters.
        outside: folder for what must not be on the disk of the home: output, store.
    """

    folder: Path
    python: Preloaded
    settings: Mapping[str, str] = field(default_factory=lambda: SMALL)
    real: bool = False
    outside: Path | None = None

    def __post_init__(self) -> None:
        self.outside = self.outside or self.folder
        for folder in (self.folder, self.outside, self.outside / "pids"):
            folder.mkdir(parents=True, exist_ok=True)
        self.corpus.write_text(CORPUS)

    @property
    def aside(self) -> Path:
        """Where output and store are."""
        return self.outside or self.folder

    @property
    def corpus(self) -> Path:
        """The text that is trained on."""
        return self.aside / "corpus.txt"

    @property
    def store(self) -> Path:
        """The file of the sqlite store."""
        return self.aside / "mlflow.db"

    @property
    def environment(self) -> dict[str, str]:
        """Of every process here: that of the bench, without what would lead it elsewhere."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "SPECTRAL_"))}
        return kept | {
            "SPECTRAL_HOME": str(self.folder), "XDG_CACHE_HOME": str(self.aside / "cache"), "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": f"sqlite:///{self.store}",
            PIDS: str(self.aside / "pids"),
        }  # fmt: skip

    def run(self, module: str, *arguments: str, output: str = "output.txt") -> Process:
        """Start ``python -m MODULE ARGUMENTS`` here."""
        return self.python.start(
            ["-m", module, *arguments], folder=self.aside, output=self.aside / output,
            environment=self.environment, real=self.real,
        )  # fmt: skip

    def spectral(self, *arguments: str, output: str = "output.txt") -> Process:
        """Start ``spectral ARGUMENTS`` here."""
        return self.run("spectral_mlflow", *arguments, output=output)

    def train(self, *more: str, output: str = "output.txt", module: str = "spectral_mlflow") -> Process:
        """Start a new run."""
        settings = [part for name, value in self.settings.items() for part in (f"--{name}", value)]
        return self.run(module, "train", *settings, "--dataset.path", str(self.corpus), *more, output=output)

    def copy_store(self, template: Path) -> None:
        """Begin with an empty database whose tables are made."""
        shutil.copy(template, self.store)

    def run_dirs(self) -> list[Path]:
        """Run directories that have a configuration, oldest first."""
        found = [path.parent for path in (self.folder / "experiments").glob("*/config.json")]
        return sorted(found, key=lambda path: (path / "config.json").stat().st_mtime_ns)  # Written once, at the start.

    def forks(self, module: str = "") -> list[int]:
        """Processes of a module that live, of those that were started here."""
        alive = []
        for path in (self.aside / "pids").glob("*.json"):
            with suppress(psutil.NoSuchProcess, ValueError):
                process = psutil.Process(int(path.stem))
                wanted = not module or module in json.loads(path.read_text())
                if wanted and process.ppid() == self.python.pid:
                    alive.append(process.pid)
        return alive + self._interpreters(module)

    def _interpreters(self, module: str) -> list[int]:
        """Companions that are interpreters of their own: they name a run directory of this home."""
        if not self.real:
            return []
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if str(self.folder) in " ".join(line) and (module or "spectral_mlflow.stores") in line:
                found.append(process.pid)
        return found

    def quiet(self) -> None:
        """Wait until every process of this home has ended by itself."""
        wait_for(lambda: not self.forks(), f"all processes of {self.folder} end", pause=0.05)

    def end(self) -> None:
        """End every process that is left."""
        for pid in self.forks():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.quiet()

    def sync(self) -> Process:
        """Run ``spectral sync`` to its end."""
        process = self.spectral("sync", output="sync.txt")
        process.wait()
        return process


def is_gone(pid: int) -> bool:
    """Whether a killed process has let go of its files: a zombie may have threads that still hold its locks."""
    try:
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


def lines(run_dir: Path) -> list[dict[str, Any]]:
    """The journal of metrics."""
    return journal.records(run_dir / "logs" / "metrics.jsonl")


def events(run_dir: Path, *kinds: str) -> list[dict[str, Any]]:
    """The journal of events, or those of some kinds."""
    found = journal.records(run_dir / "logs" / "events.jsonl")
    return [event for event in found if not kinds or event["event"] in kinds]


def line_count(run_dir: Path) -> int:
    """How many lines the journal of metrics has."""
    with suppress(OSError):
        return (run_dir / "logs" / "metrics.jsonl").read_bytes().count(b"\n")
    return 0


def query(database: Path, text: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of a database."""
    with closing(sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=60)) as connection:
        return connection.execute(text, values).fetchall()
