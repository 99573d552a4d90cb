"""Which checkpoints of a run are artifacts, and the list of all of them that goes with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from spectral_mlflow.files import replace_file
from spectral_mlflow.journal import Record
from spectral_mlflow.monitoring.checkpoint_list import Checkpoint, describe
from spectral_mlflow.monitoring.runs import changed_settings
from spectral_mlflow.stores.base import RunView

FOLDER = "checkpoints"
LIST = "checkpoints.json"
SETTING = "monitoring.log_checkpoints"
USUAL = "best,last"

UPLOADED, LOCAL, REMOVED, UNWANTED = "uploaded", "local", "removed", "unwanted"


@dataclass(frozen=True)
class CheckpointRecord:
    """One checkpoint of a run.

    Attributes:
        path: relative to the run directory; that of its artifact too.
        step: optimizer steps done.
        best: whether it was the best when it was saved.
        bytes: size; None where it is unknown.
        sequence: orders the checkpoints by the time of writing; None where it is unknown.
        digest: ``algorithm:hexadecimal`` of the file; None where it was never seen.
        state: uploaded, local (this file is not an artifact), removed (it is nowhere any more), or
            unwanted (an artifact that the store did not delete).
    """

    path: str
    step: int
    best: bool
    bytes: int | None = None
    sequence: int | None = None
    digest: str | None = None
    state: str = LOCAL


def policy(run: RunView) -> frozenset[str]:
    """What `monitoring.log_checkpoints` says of a run: some of best and last, all, or nothing."""
    begun = ((run.config().get("config") or {}).get("monitoring") or {}).get("log_checkpoints")
    said = changed_settings(run.events("resume")).get(SETTING, begun)
    return frozenset(str(said or USUAL).split(",")) - {"none"}


def wanted(records: Iterable[CheckpointRecord], chosen: frozenset[str]) -> set[str]:
    """Paths of the checkpoints that should be artifacts.

    Args:
        records: those that still exist, locally or in the store, in the order of writing.
        chosen: what `policy` gave.
    """
    there = list(records)
    best = [record for record in there if record.best]
    paths = {record.path for record in there} if "all" in chosen else set[str]()
    paths |= {record.path for record in best[-1:]} if "best" in chosen else set()
    return paths | ({record.path for record in there[-1:]} if "last" in chosen else set())


def known(run: RunView) -> list[CheckpointRecord]:
    """All checkpoints that a run has ever had, in the order of writing; those that are gone are removed or uploaded."""
    before = {record.path: record for record in read(list_path(run))}
    found: dict[str, CheckpointRecord] = {}
    for event in run.events("checkpoint"):
        if is_checkpoint(path := str(event.get("path"))):
            found.pop(path, None)  # One of the same step was replaced, and is the newest now.
            found[path] = _described(run, event, before.get(path))
    return list(found.values())


def is_checkpoint(path: str) -> bool:
    """Whether this is the path of a file in the checkpoint folder, and of nothing else."""
    parts = PurePosixPath(path).parts
    return len(parts) == 2 and parts[0] == FOLDER and parts[1] != ".."


def _described(run: RunView, event: Record, before: CheckpointRecord | None) -> CheckpointRecord:
    path = run.directory / event["path"]
    file = describe(path) if path.is_file() else None
    old = before if before and event.get("sequence") in (None, before.sequence) else None
    return CheckpointRecord(
        path=event["path"],
        step=event["step"],
        best=bool(event.get("best")),
        bytes=event.get("bytes") or (file.size if file else None),
        sequence=event.get("sequence") or (file.sequence if file else None) or (old.sequence if old else None),
        digest=event.get("digest") or (digest(file) if file else None) or (old.digest if old else None),
        state=LOCAL if file else REMOVED,
    )


def digest(file: Checkpoint) -> str | None:
    """Algorithm and digest that a file says of itself; None where it has lost its seal."""
    return f"{file.algorithm}:{file.digest}" if file.digest else None


def with_artifacts(records: Iterable[CheckpointRecord], stored: Mapping[str, int | None]) -> list[CheckpointRecord]:
    """The records with the state that the artifacts of the run give them.

    Args:
        records: what `known` gave.
        stored: size of each artifact in the checkpoint folder.
    """
    return [replace(record, state=UPLOADED) if record.path in stored else record for record in records]


def list_path(run: RunView) -> Path:
    """Where the list lies before it is sent."""
    return run.state_path.with_name(LIST)


def read(path: Path) -> list[CheckpointRecord]:
    """A list of checkpoints; an empty one where there is none, or a damaged one."""
    try:
        return [CheckpointRecord(**record) for record in json.loads(path.read_text(encoding="utf-8"))["checkpoints"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write(path: Path, records: Iterable[CheckpointRecord]) -> bool:
    """Write a list of checkpoints; returns whether it is another one than before."""
    listed = list(records)
    if listed == read(path) and path.exists():
        return False
    content = {"format_version": 1, "checkpoints": [asdict(record) for record in listed]}
    replace_file(path, json.dumps(content, indent=1).encode() + b"\n")
    return True
