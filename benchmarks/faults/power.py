"""Power cuts: a real training run is recorded, and cut at any of its file operations (see `benchmarks.faults.disk`)."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from benchmarks.faults import checks
from benchmarks.faults.bench import Bench
from benchmarks.faults.checks import require
from benchmarks.faults.disk import MODES, Disk, Note, notes, tree
from benchmarks.faults.home import NO_STORE, SMALL, VARIANTS, Home, lines
from benchmarks.faults.kills import go_on
from spectral_mlflow.monitoring.checkpoint_file import DamagedCheckpointError, read
from spectral_mlflow.monitoring.checkpoints import CheckpointManager

VARIANT = "standard"
RESUMED = 0.2  # Share of cuts after which training really goes on.
PAST_PYTHON = ("model/", "tokenizer.json")  # Written by Rust, and renamed or made again.


@dataclass(frozen=True)
class Recording:
    """What a program did to a folder, and what it came to."""

    folder: Path
    notes: list[Note]

    def disk(self, count: int) -> Disk:
        """The disk after so many operations."""
        disk = Disk(self.folder)
        disk.play(self.notes[:count])
        return disk


def cut(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """After a power cut at any operation no acknowledged checkpoint is lost, one loads, and the journal covers it."""
    recording = bench.shared("recording", _record)
    count, mode = random.randint(1, len(recording.notes)), random.choice(MODES)
    home = bench.home(folder / "home", SMALL | VARIANTS[VARIANT] | NO_STORE)
    recording.disk(count).write(home.folder, random, mode)
    acknowledged = acknowledgements(recording.notes[:count])
    facts = {"cut": f"{count} of {len(recording.notes)}", "mode": mode, "acknowledged": len(acknowledged)}
    found = prove(home, recording, acknowledged)
    if random.random() < RESUMED:
        facts["resumed"] = True
        _resume(bench, home)
    return facts | {"newest": found} | plain(bench, random, folder / "plain", count / len(recording.notes), mode)


def _record(bench: Bench) -> Recording:
    folder = bench.folder / "recorded"
    home = bench.home(folder / "home", SMALL | VARIANTS[VARIANT] | NO_STORE, outside=folder)
    settings = [part for name, value in home.settings.items() for part in (f"--{name}", value)]
    process = home.run(
        "benchmarks.faults.recorder", str(folder / "log"), str(home.folder), "spectral_mlflow", "train", *settings,
        "--dataset.path", str(home.corpus),
    )  # fmt: skip
    require(process.wait() == 0, process.printed())
    recording = Recording(home.folder, notes(folder / "log"))
    _check(recording, folder / "replayed")
    return recording


def _check(recording: Recording, folder: Path) -> None:
    """Played in full, the recording must give what is on the true disk; otherwise something passed the recorder by."""
    random = Random(0)  # noqa: S311 - of which nothing is drawn
    recording.disk(len(recording.notes)).write(folder, random, "all")
    played, true = tree(folder), tree(recording.folder)
    different = [path for path in sorted(played.keys() | true.keys()) if played.get(path) != true.get(path)]
    missed = [path for path in different if not any(part in path for part in PAST_PYTHON)]
    require(not missed, f"not recorded: {missed}")


def acknowledgements(done: list[Note]) -> dict[str, int]:
    """Path and step of the checkpoints of which a `checkpoint` event was written, but those removed since."""
    found: dict[str, int] = {}
    for note in done:
        if note["do"] == "write" and b'"event": "checkpoint"' in (data := base64.b64decode(note["data"])):
            for line in filter(None, data.splitlines()):
                event = json.loads(line)
                if event["event"] == "checkpoint":
                    found[event["path"]] = event["step"]
        if note["do"] == "remove":
            found = {path: step for path, step in found.items() if not note["path"].endswith(path)}
    return found


def prove(home: Home, recording: Recording, acknowledged: dict[str, int]) -> int:
    """What must hold after the cut; returns the step of the newest checkpoint that loads, 0 without one."""
    (true,) = (recording.folder / "experiments").iterdir()
    run_dir = home.folder / "experiments" / true.name
    require(run_dir.is_dir() or not acknowledged, "the run directory is lost")
    if not run_dir.is_dir():
        return 0
    manager = CheckpointManager(str(run_dir))
    for path, step in acknowledged.items():
        require((run_dir / path).is_file(), f"the acknowledged checkpoint of step {step} is lost")
        try:
            read(run_dir / path)
        except DamagedCheckpointError as damage:
            raise AssertionError(f"the acknowledged checkpoint of step {step} is lost: {damage}") from None
    newest = manager.load_latest_checkpoint()
    if newest is None:
        require(not acknowledged, "no checkpoint loads")
        return 0
    require(
        newest["step"] >= max(acknowledged.values(), default=0), "a checkpoint older than an acknowledged one loads"
    )
    for name in ("config.json", "tokenizer.json"):
        lost = not (run_dir / name).is_file() or (run_dir / name).read_bytes() != (true / name).read_bytes()
        require(not lost, f"{name} is lost, so the checkpoint of step {newest['step']} cannot be continued from")
    written = {line["step"]: line for line in lines(run_dir)}
    truth = {line["step"]: line for line in lines(true)}
    lost_steps = [step for step in range(1, newest["step"] + 1) if written.get(step) != truth[step]]
    require(not lost_steps, f"the journal lacks steps {lost_steps[:5]} before the checkpoint of step {newest['step']}")
    return int(newest["step"])


def _resume(bench: Bench, home: Home) -> None:
    """Train on to the end, and compare with an uninterrupted run."""
    process = go_on(home)
    if process is not None:
        require(process.wait() == 0, f"resume: exit code {process.poll()}: {process.printed()[-300:]}")
    run_dir = home.run_dirs()[-1]
    checks.same_journal(run_dir, bench.reference(VARIANT))
    checks.same_parameters(run_dir, bench.reference(VARIANT))


# What is compared with: write to a temporary file, then replace, without any fsync


def plain(bench: Bench, random: Random, folder: Path, share: float, mode: str) -> dict[str, Any]:
    """The same cut for checkpoints that are replaced without a sync: how many of those kept are lost."""
    recording = bench.shared("plain recording", _record_plain)
    count = max(1, round(share * len(recording.notes)))
    recording.disk(count).write(folder, random, mode)
    saved = [n["target"] for n in recording.notes[:count] if n["do"] == "rename"]
    removed = {n["path"] for n in recording.notes[:count] if n["do"] == "remove"}
    kept = [Path(path).name for path in saved if path not in removed]
    loads = [name for name in kept if _loads(folder / name, int(name.split("_")[2][:-3]))]
    return {"plain_kept": len(kept), "plain_lost": len(kept) - len(loads)}


def _record_plain(bench: Bench) -> Recording:
    folder = bench.folder / "plainly recorded"
    home = bench.home(folder / "home", NO_STORE, outside=folder)
    process = home.run(
        "benchmarks.faults.recorder", str(folder / "log"), str(home.folder), "benchmarks.faults.plain_writer",
        str(home.folder),
    )  # fmt: skip
    require(process.wait() == 0, process.printed())
    return Recording(home.folder, notes(folder / "log"))


def _loads(path: Path, step: int) -> bool:
    try:
        return bool(torch.load(path, weights_only=True)["step"] == step)
    except Exception:
        return False
