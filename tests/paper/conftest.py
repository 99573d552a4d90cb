"""Stores for the documents: made as for the tests of the analysis."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))  # Both rooms read the same kind of store.

from tracking_store import TrackingStore, empty_store, falling, store

__all__ = ["empty_store", "store"]


@pytest.fixture(scope="session")
def study(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> TrackingStore:
    """Three seeds of both models, for tests that only read."""
    made = TrackingStore(tmp_path_factory.mktemp("study"), empty_store)
    for seed, (wave, standard) in enumerate([(2.4051, 2.3921), (2.4082, 2.3934), (2.4025, 2.3911)]):
        made.train("wave", seed, falling(wave), settings={"steps": "300"})
        made.train("standard", seed, falling(standard), settings={"steps": "300"})
    return made


@pytest.fixture
def paper(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: exit code, stdout, stderr."""
    from spectral_mlflow.paper.__main__ import main

    monkeypatch.setenv("SPECTRAL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return run
