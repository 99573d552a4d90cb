"""No test of this room reads the user's cache, the user's corpora or a proxy."""

import os
from pathlib import Path

import pytest

TINYSHAKESPEARE = Path(os.environ.get("SPECTRAL_DATA_DIR", "")).absolute() / "tinyshakespeare.txt"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache folder of this test, not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SPECTRAL_DATA_DIR", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "spectral_mlflow"


@pytest.fixture
def tinyshakespeare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the real corpus available, where whoever runs the tests has it."""
    if not TINYSHAKESPEARE.is_file():
        pytest.skip("tinyshakespeare.txt is not in the folder named by SPECTRAL_DATA_DIR")
    monkeypatch.setenv("SPECTRAL_DATA_DIR", str(TINYSHAKESPEARE.parent))
