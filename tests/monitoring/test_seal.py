"""The seal of a checkpoint file: what it tells, and what it notices."""

import hashlib
import io
import math
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from checkpointing import flip, save, sealed, steps
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow.monitoring import CheckpointManager, seal
from spectral_mlflow.monitoring.seal import DamagedCheckpointError, Facts, SealingWriter

ALGORITHMS = ["sha256", pytest.param("xxh3_128", marks=pytest.mark.skipif(
    find_spec("xxhash") is None, reason="xxhash is not installed"))]  # fmt: skip


def zipped(content: bytes = b"a" * 100) -> bytes:
    """A small ZIP, which ends with its end record."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a", content)
    return buffer.getvalue()


def write(path: Path, pieces: list[bytes], facts: Facts, algorithm: str | None = None) -> seal.Seal:
    """A sealed file of these pieces."""
    with path.open("wb") as file:
        writer = SealingWriter(file, algorithm)
        for piece in pieces:
            writer.write(piece)
        return writer.finish(facts)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_facts_come_back(tmp_path: Path, algorithm: str) -> None:
    """What a seal was given is found again, values that are no JSON included, and the file proves itself."""
    metrics = {"val_loss": 1.5, "grad/norm": math.inf, "a\u2028b": -0.0}
    facts = Facts(12, 400, "2026-01-31T12:00:00.000Z", 3, metrics)
    written = write(tmp_path / "a.pt", [zipped()], facts, algorithm)
    assert seal.prove(tmp_path / "a.pt") == written
    assert (written.facts, written.algorithm, written.size) == (facts, algorithm, len(zipped()))


@given(cuts=st.lists(st.integers(0, 220), max_size=8))
def test_pieces_do_not_matter(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    """However a ZIP comes in pieces, the sealed file is the same, and still that ZIP."""
    folder, whole = tmp_path_factory.mktemp("pieces"), zipped()
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    write(folder / "one", [whole], Facts(1))
    write(folder / "many", [whole[a:b] for a, b in pairwise(places)], Facts(1))
    assert (folder / "one").read_bytes() == (folder / "many").read_bytes()
    with zipfile.ZipFile(folder / "many") as file:
        assert file.read("a") == b"a" * 100


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_bit_counts(tmp_path: Path, algorithm: str) -> None:
    """Any one bit of a file that has changed is noticed, in the seal as before it, and so is any end that is cut."""
    path = tmp_path / "a.pt"
    write(path, [zipped(b"ab")], Facts(7, 3, "2026-01-31T12:00:00.000Z", 1, {"val_loss": 2.5}), algorithm)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(DamagedCheckpointError):
            seal.prove(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedCheckpointError):
            seal.prove(path)


def test_more_metrics_than_a_comment_holds(tmp_path: Path) -> None:
    """The first are kept; those that a comment of a ZIP has no room for are in the file alone."""
    metrics = {f"layer/{index}/\U0001f600": math.nan for index in range(5000)}
    write(tmp_path / "a.pt", [zipped()], Facts(1, metrics=metrics))
    kept = list(seal.prove(tmp_path / "a.pt").facts.metrics)
    assert 100 < len(kept) < 5000
    assert kept == list(metrics)[: len(kept)]
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        assert file.testzip() is None


def test_file_of_format_1_still_loads(tmp_path: Path) -> None:
    """A checkpoint of before is known by its sequence, verified, loaded, and noticed when it is damaged."""
    manager = CheckpointManager(str(tmp_path))
    content = torch.load(save(manager, 5), weights_only=True)
    old = manager.directory / "checkpoint_step_5.pt"
    with old.open("w+b") as file:
        torch.save(content, file)
        file.seek(-2, os.SEEK_END)
        file.write((31 + 20 + 8 + 64).to_bytes(2, "little"))
        file.write(b"spectral-checkpoint 1 sequence %020d sha256 " % 41)
        file.flush()
        file.seek(0)
        file.write(hashlib.file_digest(file, "sha256").hexdigest().encode())
    (found,) = manager.list_checkpoints()
    assert (found.step, found.sequence, found.algorithm) == (5, 41, "sha256")
    assert manager.load_checkpoint(str(old))["loss_history"] == [5.0]
    save(manager, 6)
    assert [known.sequence for known in manager.list_checkpoints()] == [42, 41]
    manager.mark_best(str(old))
    best = manager.load_best_checkpoint()
    assert best is not None
    assert best["step"] == 5
    flip(old, 0.5)
    assert [result.damage for result in manager.verify(str(old))] == ["does not agree with its digest"]


WITHOUT_XXHASH = """
import sys
sys.modules["xxhash"] = None
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import CheckpointManager
from spectral_mlflow.monitoring.seal import DamagedCheckpointError
manager = CheckpointManager(sys.argv[1])
try:
    manager.load_latest_checkpoint()
except DamagedCheckpointError:
    print("damaged")
except UserError as mistake:
    print(mistake)
import torch
model = torch.nn.Linear(2, 2)
manager.save_checkpoint(9, model, torch.optim.SGD(model.parameters()), [], {})
print(manager.list_checkpoints()[0].algorithm, manager.load_latest_checkpoint()["step"])
"""


@pytest.mark.skipif(find_spec("xxhash") is None, reason="xxhash is not installed")
def test_without_xxhash(tmp_path: Path) -> None:
    """A file that needs it is not called damaged: the extra is named; new files are sealed with sha256."""
    manager = CheckpointManager(str(tmp_path))
    save(manager, 1)
    done = subprocess.run([sys.executable, "-c", WITHOUT_XXHASH, str(tmp_path)], capture_output=True, text=True)
    message, saved = done.stdout.splitlines()
    assert "takes the package xxhash; pip install 'spectral-mlflow[checkpoints]'" in message, done.stderr
    assert saved == "sha256 9"
    assert [known.algorithm for known in manager.list_checkpoints()] == ["sha256", "xxh3_128"]
    assert [result.damage for result in manager.verify()] == ["", ""]


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_unzip_finds_nothing_wrong(tmp_path: Path) -> None:
    """``unzip -t`` checks every member; it prints the seal as the comment."""
    path = save(CheckpointManager(str(tmp_path)), 7)
    done = subprocess.run(["unzip", "-t", path], capture_output=True, text=True)
    assert done.returncode == 0
    assert "No errors detected" in done.stdout
    assert "spectral-checkpoint 2" in subprocess.run(["unzip", "-z", path], capture_output=True, text=True).stdout


def test_marking_does_not_launder_damage(tmp_path: Path) -> None:
    """A damaged file is not sealed anew when it is to be called the best."""
    manager = CheckpointManager(str(tmp_path))
    path = Path(save(manager, 1))
    flip(path, 0.4)
    with pytest.raises(DamagedCheckpointError):
        manager.mark_best(str(path))
    assert steps(manager) == [1]
    assert manager.verify()[0].damage == "does not agree with its digest"


def test_sealed_pickle_is_proved_like_any_file(tmp_path: Path) -> None:
    """The seal says that a file is what was written, of whatever it is."""
    sealed(tmp_path / "a.pt", {"a": torch.ones(3)}, 4)
    assert seal.prove(tmp_path / "a.pt").facts.sequence == 4
