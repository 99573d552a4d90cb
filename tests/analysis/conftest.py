"""A store for each test, copied from an empty one that each worker makes once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tracking_store import TrackingStore


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store's database."""
    return TrackingStore(tmp_path_factory.mktemp("empty")).file


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> TrackingStore:
    """A store of its own for one test."""
    return TrackingStore(tmp_path, empty_store)
