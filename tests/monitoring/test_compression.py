"""Compressed checkpoints: the same to the last byte, or refused."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from checkpointing import flip, save, sealed
from hypothesis import given, settings
from hypothesis import strategies as st

from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import CheckpointManager
from spectral_mlflow.monitoring.compression import compress_checkpoint, decompress_checkpoint
from spectral_mlflow.monitoring.seal import DamagedCheckpointError

needs_zstandard = pytest.mark.skipif(find_spec("zstandard") is None, reason="zstandard is not installed")


@needs_zstandard
@settings(max_examples=15)
@given(numbers=st.integers(0, 600_000), tail=st.integers(0, 3), level=st.integers(1, 4))
def test_decompressed_is_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, numbers: int, tail: int, level: int
) -> None:
    """Whatever its length, a checkpoint comes back byte for byte, and proves itself."""
    folder = tmp_path_factory.mktemp("packed")
    path, packed, back = folder / "a.pt", folder / "a.szst", folder / "b.pt"
    sealed(path, {"numbers": torch.linspace(0, 1, numbers), "tail": "x" * tail}, 1)
    size = compress_checkpoint(path, packed, level=level)
    assert size == packed.stat().st_size
    decompress_checkpoint(packed, back)
    assert back.read_bytes() == path.read_bytes()
    assert {item.name for item in folder.iterdir()} == {"a.pt", "a.szst", "b.pt"}


@needs_zstandard
def test_shuffling_pays_for_weights(tmp_path: Path) -> None:
    """Numbers as weights are get smaller."""
    sealed(tmp_path / "a.pt", {"weights": 0.02 * torch.randn(200_000)}, 1)
    size = compress_checkpoint(tmp_path / "a.pt", tmp_path / "a.szst")
    assert size < 0.92 * (tmp_path / "a.pt").stat().st_size


@needs_zstandard
@pytest.mark.parametrize("place", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("cut", [False, True])
def test_damaged_copy_is_refused(tmp_path: Path, place: float, cut: bool) -> None:
    """A bit flipped or an end cut: no checkpoint comes out, and one that was there stays."""
    path, packed = Path(save(CheckpointManager(str(tmp_path)), 1)), tmp_path / "a.szst"
    compress_checkpoint(path, packed)
    before = path.read_bytes()
    if cut:
        packed.write_bytes(packed.read_bytes()[: int(place * (packed.stat().st_size - 1))])
    else:
        flip(packed, place)
    with pytest.raises(UserError, match=r"a\.szst: (cannot be decompressed|does not hold|is not a compressed)"):
        decompress_checkpoint(packed, path)
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".*"))


@needs_zstandard
def test_damaged_checkpoint_is_not_compressed(tmp_path: Path) -> None:
    """It would come out damaged too, when it is too late."""
    path = Path(save(CheckpointManager(str(tmp_path)), 1))
    flip(path, 0.5)
    with pytest.raises(DamagedCheckpointError, match="does not agree with its digest"):
        compress_checkpoint(path, tmp_path / "a.szst")
    assert not (tmp_path / "a.szst").exists()


def test_extra_is_named(tmp_path: Path) -> None:
    """Without zstandard one line says what to install."""
    code = (
        "import sys; sys.modules['zstandard'] = None\n"
        "from pathlib import Path\n"
        "from spectral_mlflow.errors import UserError\n"
        "from spectral_mlflow.monitoring.compression import compress_checkpoint\n"
        "try:\n    compress_checkpoint(Path('a'), Path('b'))\n"
        "except UserError as mistake:\n    print(mistake)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "pip install 'spectral-mlflow[checkpoints]'" in done.stdout, done.stderr
