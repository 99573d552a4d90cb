"""Checkpoints that are damaged or hostile, disks that are full, writers that are killed."""

import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpointing import flip, save, sealed, steps
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import CheckpointManager, checkpoint_file, retention
from spectral_mlflow.monitoring.checkpoint_file import DamagedCheckpointError, write


def test_cleanup_spares_the_newest_whole_one(tmp_path: Path) -> None:
    """A damaged newest file does not cost the last one that could still be loaded."""
    manager = CheckpointManager(str(tmp_path), keep_last_n=3)
    for step in (1, 2, 3):
        save(manager, step)
    for step in (2, 3):
        flip(manager.directory / f"checkpoint_step_{step}.pt", 0.3)
    manager = CheckpointManager(str(tmp_path), keep_last_n=1)
    manager.cleanup_old_checkpoints()
    assert steps(manager) == [3, 1]


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1), cut=st.booleans())
def test_damage_anywhere_falls_back_to_the_one_before(place: float, cut: bool) -> None:
    """A bit flipped or a file cut at any place is noticed, told and passed over."""
    told: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        manager = CheckpointManager(folder, on_damage=lambda path, reason: told.append((path, reason)))
        save(manager, 1)
        newest = Path(save(manager, 2))
        if cut:
            newest.write_bytes(newest.read_bytes()[: int(place * (newest.stat().st_size - 1))])
        else:
            flip(newest, place)
        loaded = manager.load_latest_checkpoint()
    assert loaded is not None
    assert loaded["step"] == 1
    assert [path for path, _ in told] == [str(newest)]
    assert "seal" in told[0][1] or "digest" in told[0][1]


def test_all_damaged_means_none_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a whole checkpoint training starts from scratch, and says so."""
    manager = CheckpointManager(str(tmp_path))
    assert manager.load_latest_checkpoint() is None
    assert caplog.records == []
    for step in (1, 2):
        flip(Path(save(manager, step)), 0.5)
    assert manager.load_latest_checkpoint() is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    assert "every checkpoint is damaged; starting from scratch" in caplog.text


def test_asking_for_a_damaged_or_missing_file_stops(tmp_path: Path) -> None:
    """A checkpoint asked for by name is loaded or refused, never replaced by another one."""
    manager = CheckpointManager(str(tmp_path))
    paths = [Path(save(manager, step)) for step in (1, 2)]
    assert manager.load_checkpoint(str(paths[0]))["step"] == 1
    flip(paths[0], 0.5)
    with pytest.raises(DamagedCheckpointError, match="does not agree with its digest"):
        manager.load_checkpoint(str(paths[0]))
    with pytest.raises(UserError, match=r"no checkpoint gone.pt; .*checkpoint_step_2.pt, checkpoint_step_1.pt"):
        manager.load_checkpoint("gone.pt")


class Attack:
    """Pickles to a call that makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.trace),))


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    """A file with a valid seal whose pickle would run code is passed over, and the code does not run."""
    manager = CheckpointManager(str(tmp_path))
    save(manager, 1)
    hostile = manager.directory / "checkpoint_step_2.pt"
    sealed(hostile, {"step": 2, "state": Attack(tmp_path / "pwned")}, 99)
    assert steps(manager) == [2, 1]
    loaded = manager.load_latest_checkpoint()
    assert loaded is not None
    assert loaded["step"] == 1
    with pytest.raises(DamagedCheckpointError, match="holds code or unknown types, which are never loaded"):
        manager.load_checkpoint(str(hostile))
    assert not (tmp_path / "pwned").exists()
    torch.load(hostile, weights_only=False)  # The attack is real: unguarded loading falls for it.
    assert (tmp_path / "pwned").exists()


def test_sealed_file_of_something_else_is_no_checkpoint(tmp_path: Path) -> None:
    """Whole weights without the keys of a checkpoint are refused by that name."""
    manager = CheckpointManager(str(tmp_path))
    write(manager.directory / "checkpoint_step_1.pt", {"weights": torch.ones(2)}, 1)
    with pytest.raises(DamagedCheckpointError, match="is not a checkpoint of a run"):
        manager.load_checkpoint(str(manager.directory / "checkpoint_step_1.pt"))


# Disks and deaths


def test_full_disk_is_noticed_before_writing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without room the checkpoint is skipped with a warning and a note; with room the next one is saved."""
    free = 0
    manager = CheckpointManager(str(tmp_path), free_bytes=lambda _: free)
    assert save(manager, 1) == ""
    assert manager.skipped == {1: "No space left on device"}
    assert "checkpoint of step 1 skipped, training goes on: No space left" in caplog.text
    free = 1 << 30
    assert save(manager, 1) != ""
    assert manager.skipped == {}


def test_room_is_measured_by_the_tensors(tmp_path: Path) -> None:
    """A model larger than the room is skipped, a smaller one is not; shared weights count once."""
    manager = CheckpointManager(str(tmp_path), free_bytes=lambda _: 3_000_000)
    for width, fits in ((200, True), (2000, False)):
        model = nn.Linear(width, width)
        assert bool(manager.save_checkpoint(1, model, torch.optim.SGD(model.parameters()), [], {})) is fits
    tied = nn.Sequential(*[nn.Linear(600, 600, bias=False)] * 4)
    assert manager.save_checkpoint(2, tied, torch.optim.SGD(tied.parameters()), [], {})


CHILD = """
import os, resource, sys
import torch
from spectral_mlflow.monitoring import CheckpointManager
manager = CheckpointManager(sys.argv[1], keep_last_n=2)
model = torch.nn.Linear(200, 200)
optimizer = torch.optim.SGD(model.parameters())
"""


def test_disk_that_fills_while_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    """A write that the system refuses midway is skipped; the checkpoint before it stays whole."""
    code = CHILD + (
        "assert manager.save_checkpoint(1, model, optimizer, [], {})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "assert manager.save_checkpoint(2, model, optimizer, [], {}) == ''\n"
        "print(manager.skipped)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "{2: 'File too large'}\n"), done.stderr
    assert "checkpoint of step 2 skipped" in done.stderr
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"checkpoint_step_1.pt", "checkpoint_latest.pt"}
    loaded = CheckpointManager(str(tmp_path)).load_latest_checkpoint()
    assert loaded is not None
    assert loaded["step"] == 1


def test_killed_writer_loses_no_acknowledged_checkpoint(tmp_path: Path) -> None:
    """After kill -9 amid saving, the newest whole checkpoint is at least the last that was acknowledged."""
    code = CHILD + (
        "step = 0\n"
        "while True:\n"
        "    step += 1\n"
        "    manager.save_checkpoint(step, model, optimizer, [float(step)], {})\n"
        "    print(step, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = [int(child.stdout.readline()) for _ in range(6)]
        child.send_signal(signal.SIGKILL)
        acknowledged = max([*first, *map(int, child.stdout.read().split())])
    manager = CheckpointManager(str(tmp_path))
    loaded = manager.load_latest_checkpoint()
    assert loaded is not None
    assert loaded["step"] in (acknowledged, acknowledged + 1)
    save(manager, 1)
    assert not list(manager.directory.glob(".*"))


def test_leftovers_of_dead_writers_are_removed_those_of_living_ones_not(tmp_path: Path) -> None:
    """The next save removes unfinished files, except one that a living process still writes."""
    manager = CheckpointManager(str(tmp_path))
    dead, alive = (manager.directory / f".checkpoint_step_{step}.pt.1.tmp" for step in (8, 9))
    dead.write_bytes(b"half")
    code = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'wb')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(alive)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "locked\n"
        save(manager, 1)
        assert (dead.exists(), alive.exists()) == (False, True)
        child.kill()
    save(manager, 2)
    assert not alive.exists()


def test_a_bit_in_any_seal_stops_nothing(tmp_path: Path) -> None:
    """With any bit of an older seal changed, that file counts as damaged, and saving, keeping and listing go on."""
    manager = CheckpointManager(str(tmp_path), keep_last_n=9, keep=retention.best(1) | retention.hourly(1))
    for step in (1, 2):
        save(manager, step, metrics={"val_loss": 2.0 / step, "accuracy": math.nan}, best=True)
    old = manager.directory / "checkpoint_step_1.pt"
    whole = old.read_bytes()
    start = whole.rindex(b"spectral-checkpoint 2")
    for place in range(8 * start, 8 * len(whole), 7):
        old.write_bytes(flipped(whole, place))
        assert [(known.path.name, known.sequence) for known in manager.list_checkpoints()] == [
            ("checkpoint_step_2.pt", 2), ("checkpoint_step_1.pt", 0)
        ] or prove_fails(old)  # fmt: skip
        manager.cleanup_old_checkpoints()
        loaded = manager.load_best_checkpoint()
        assert loaded is not None
        assert loaded["step"] == 2


def flipped(content: bytes, place: int) -> bytes:
    """The content with one bit changed."""
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def prove_fails(path: Path) -> bool:
    """Whether a file is known to be damaged."""
    with pytest.raises(DamagedCheckpointError):
        checkpoint_file.prove(path)
    return True


def test_the_next_best_replaces_a_damaged_best(tmp_path: Path) -> None:
    """Where the marked one is damaged, the one that was marked before it, or the lowest loss, is loaded."""
    manager = CheckpointManager(str(tmp_path), keep_last_n=9)
    for step in (1, 2, 3):
        save(manager, step, metrics={"val_loss": 2.0 / step}, best=step == 3)
    flip(manager.directory / "checkpoint_step_3.pt", 0.5)
    loaded = manager.load_best_checkpoint()
    assert loaded is not None
    assert loaded["step"] == 2
