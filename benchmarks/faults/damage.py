"""Checkpoint files that were changed behind their writer's back: one bit, one block of zeros, a cut end."""

from __future__ import annotations

import io
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

from benchmarks.faults.bench import Bench
from benchmarks.faults.checks import require
from benchmarks.faults.home import NO_STORE, SMALL, VARIANTS
from spectral_mlflow.monitoring.checkpoint_file import DamagedCheckpointError, read
from spectral_mlflow.monitoring.checkpoints import CheckpointManager

BLOCK = 4096

Damage = Callable[[Random, bytes], bytes]


def flipped(random: Random, content: bytes) -> bytes:
    """One bit is another one."""
    place, changed = random.randrange(8 * len(content)), bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def zeroed(random: Random, content: bytes) -> bytes:
    """One block of the disk, which did not hold zeros only, is lost."""
    blocks = [start for start in range(0, len(content), BLOCK) if any(content[start : start + BLOCK])]
    start = random.choice(blocks)
    size = min(BLOCK, len(content) - start)
    return content[:start] + bytes(size) + content[start + size :]


def truncated(random: Random, content: bytes) -> bytes:
    """The end is missing."""
    return content[: random.randrange(len(content))]


def bit(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """One flipped bit is noticed, and the checkpoint before is taken."""
    return _trial(bench, random, folder, flipped)


def block(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """A zeroed block is noticed, and the checkpoint before is taken."""
    return _trial(bench, random, folder, zeroed)


def end(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """A cut end is noticed, and the checkpoint before is taken."""
    return _trial(bench, random, folder, truncated)


def _trial(bench: Bench, random: Random, folder: Path, damage: Damage) -> dict[str, Any]:
    """Damage the newest checkpoint of a run; beside it, the same damage to what bare torch.save has written."""
    run_dir = Path(shutil.copytree(bench.shared("trained", _trained), folder / "run", symlinks=True))
    newest, before = CheckpointManager(str(run_dir)).list_checkpoints()[:2]
    content = newest.path.read_bytes()
    plain = io.BytesIO()
    torch.save(read(newest.path), plain)
    newest.path.write_bytes(damage(random, content))
    try:
        read(newest.path)
    except DamagedCheckpointError:
        pass
    else:
        raise AssertionError(f"{newest.path.name} was read as if it were whole")
    told: list[str] = []
    loaded = CheckpointManager(str(run_dir), on_damage=lambda path, _: told.append(path)).load_latest_checkpoint()
    require(loaded is not None and loaded["step"] == before.step, f"step {before.step} should have been loaded")
    require(told == [str(newest.path)], f"damage was told of {told}")
    return {"torch_load_accepts": _accepts(damage(random, plain.getvalue()))}


def _trained(bench: Bench) -> Path:
    home = bench.home(bench.folder / "trained", SMALL | VARIANTS["standard"] | NO_STORE)
    process = home.train()
    require(process.wait() == 0, process.printed())
    return home.run_dirs()[0]


def _accepts(content: bytes) -> bool:
    """Whether bare torch.load takes it without a word."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            torch.load(io.BytesIO(content), weights_only=True)
    except Exception:
        return False
    return True
