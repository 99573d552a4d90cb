"""A model that trains in a second, on a text of its own."""

import shutil
from pathlib import Path

import pytest
from tiny_runs import TINY, write_corpus

from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.settings import build
from spectral_mlflow.training import runner


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of those settings, drawn and all, which takes seconds; nobody writes to it."""
    folder = tmp_path_factory.mktemp("trained")
    corpus = write_corpus(folder / "corpus.txt")
    drawn = {"monitoring.viz_interval": "100", "monitoring.experiments_dir": str(folder)}
    return runner.start(build({**TINY, **drawn, "dataset.path": str(corpus)})).run_dir


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of that run among the experiments of the test."""
    return Path(shutil.copytree(trained_once, tmp_path / "experiments" / trained_once.name, symlinks=True))


@pytest.fixture
def tiny(tmp_path: Path) -> ExperimentConfig:
    """The smallest configuration in which everything happens but plots."""
    return build({**TINY, "dataset.path": str(write_corpus(tmp_path / "corpus.txt"))})
