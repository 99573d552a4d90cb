"""No test of this room reads the user's cache, the user's corpora or a proxy."""

import os
import random
from pathlib import Path

import pytest
from pages import WriteParquet, words

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


@pytest.fixture
def write_parquet(tmp_path: Path) -> WriteParquet:
    """Writes a file with the columns of FineWeb-Edu that matter, and one that does not, in small row groups."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def write(name: str, documents: int, *, first: int = 0, group: int = 50, mean_words: int = 60) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = []
        for number in range(first, first + documents):
            generator = random.Random(number)
            text = words(generator, generator.randint(1, 2 * mean_words))
            rows.append({"text": text, "id": f"<urn:uuid:{number}>", "score": generator.random()})
        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)
        return path

    return write
