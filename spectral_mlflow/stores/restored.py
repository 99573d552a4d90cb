"""A run directory, made from the artifacts, metric histories and tags of an MLflow run."""

from __future__ import annotations

import re
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from spectral_mlflow import journal
from spectral_mlflow.config import without_password
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file, replace_link
from spectral_mlflow.journal import Record
from spectral_mlflow.monitoring.checkpoint_list import BEST, LATEST, best_of, listing, verified
from spectral_mlflow.stores import checkpoints, histories, images
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.client import allowing
from spectral_mlflow.stores.mlflow import OFFSET, REASON
from spectral_mlflow.stores.state import StoreState

DOWNLOAD_SECONDS = 60
GIVEN = ("spectral.kind", "spectral.study", "spectral.cell")
ENDED = ("FINISHED", "FAILED", "KILLED")


def restore(client: MlflowClient, stored: Run, folder: Path, uri: str) -> list[str]:
    """Fill the empty folder of a run.

    Args:
        client: of the store.
        stored: the run there.
        folder: the run directory in the making; its name is the experiment id.
        uri: of the store.

    Returns:
        What could not be restored, a line each.

    Raises:
        UserError: the store has no config.json of the run, without which it cannot be used.
    """
    run, run_id = RunView(folder), stored.info.run_id
    for entry in client.list_artifacts(run_id):
        wanted = [entry.path]
        if entry.path == images.FOLDER:  # Beside files of the user copies of plots, which the companion makes again.
            there = client.list_artifacts(run_id, images.FOLDER)
            wanted = [file.path for file in there if not images.is_image(file.path)]
        for path in wanted:
            place = (folder / path).parent  # MLflow keeps the last part of the path alone.
            place.mkdir(exist_ok=True)
            with allowing(DOWNLOAD_SECONDS):
                client.download_artifacts(run_id, path, str(place))
    if not (folder / "config.json").is_file():
        raise UserError(f"MLflow run {run_id} has no artifact config.json, so that its directory cannot be made again")
    for name in ("logs", "checkpoints", "stores"):
        (folder / name).mkdir(exist_ok=True)
    if (folder / checkpoints.LIST).exists():
        (folder / checkpoints.LIST).replace(checkpoints.list_path(run))
    lines = histories.missing(histories.fetch(client, run_id), journal.records(run.metrics_path))
    histories.append(run.metrics_path, lines)
    notes = _prove(run)
    _write_events(run, stored, uri, client.get_experiment(stored.info.experiment_id).name)
    _link(run)
    sent = int(stored.data.tags.get(OFFSET, 0))
    whole = not lines and run.metrics_path.stat().st_size == sent
    StoreState(
        run_id=run_id,
        experiment_id=stored.info.experiment_id,
        tracking_uri=without_password(uri),
        metrics_offset=sent if whole else 0,
    ).save(run.state_path)
    return notes


# Events


def _write_events(run: RunView, stored: Run, uri: str, experiment: str) -> None:
    events = journal.records(run.events_path)
    starts = [event for event in events if event.get("event") == "start"] or [_start(run, stored, experiment)]
    stores = sorted({*starts[0].get("stores", ()), "mlflow"})  # It may have been made without, and sent later.
    start = starts[0] | {"tracking_uri": without_password(uri), "stores": stores}
    events = [start, *(event for event in events if event is not starts[0])]
    events += _unnamed_checkpoints(run, events)
    lifecycle = [event for event in events if event.get("event") in ("start", "resume", "end")]
    if lifecycle[-1]["event"] != "end" and stored.info.status in ENDED:
        events.append(_end(stored))
    replace_file(run.events_path, b"".join(map(journal.encode, events)))


def _start(run: RunView, stored: Run, experiment: str) -> Record:
    """The start event, by the tag that holds what tells the run from all others, and by those that it was given."""
    match = re.fullmatch(
        r"\S+ (?P<host>\S*) (?P<pid>\S*) (?P<timestamp>\S+)", stored.data.tags.get("spectral.origin", "")
    )
    process = (
        match.groupdict() if match else {"host": "", "pid": "", "timestamp": histories.written(stored.info.start_time)}
    )
    return {
        "event": "start",
        "timestamp": process["timestamp"],
        "format_version": 1,
        "experiment_id": run.directory.name,
        "name": (run.config().get("config") or {}).get("name") or run.directory.name,
        "stores": ["mlflow"],
        "mlflow_experiment": experiment,
        "mlflow_run_id": stored.info.run_id,
        "tags": {name: text for name, text in stored.data.tags.items() if _is_given(name)},
        "pid": int(process["pid"]) if process["pid"].isdecimal() else process["pid"],
        "host": process["host"],
    }


def _is_given(tag: str) -> bool:
    """Whether a tag is one that a run is started with, rather than one that MLflow or the companion makes."""
    return tag in GIVEN or not tag.startswith(("mlflow.", "spectral."))


def _end(stored: Run) -> Record:
    return {
        "event": "end",
        "timestamp": histories.written(stored.info.end_time or stored.info.start_time),
        "status": stored.info.status,
        "step": None,
        "reason": stored.data.tags.get(REASON),
    }


# Checkpoints


def _prove(run: RunView) -> list[str]:
    """Remove checkpoints that are not what was sent; a line for each."""
    digests = {record.path: record.digest for record in checkpoints.read(checkpoints.list_path(run))}
    notes = []
    for file in listing(run.directory / checkpoints.FOLDER):
        name = file.path.relative_to(run.directory).as_posix()
        damage = verified(file).damage
        if not damage and digests.get(name) not in (None, checkpoints.digest(file)):
            damage = f"is not the one that {checkpoints.LIST} names"
        if damage:
            notes.append(f"left out {name}: {damage}")
            file.path.unlink()
    return notes


def _unnamed_checkpoints(run: RunView, events: list[Record]) -> list[Record]:
    """Events for the checkpoints whose own events came after the last upload of events.jsonl."""
    named = {event.get("path") for event in events if event.get("event") == "checkpoint"}
    return [
        {
            "event": "checkpoint",
            "timestamp": file.timestamp or journal.now(),
            "step": file.step,
            "path": file.path.relative_to(run.directory).as_posix(),
            "bytes": file.size,
            "best": bool(file.best),
            "metrics": dict(file.metrics),
            "sequence": file.sequence,
            "digest": checkpoints.digest(file),
        }
        for file in reversed(listing(run.directory / checkpoints.FOLDER))
        if file.path.relative_to(run.directory).as_posix() not in named
    ]


def _link(run: RunView) -> None:
    folder = run.directory / checkpoints.FOLDER
    newest_first = listing(folder)
    best = best_of(newest_first, folder)
    for link, file in ((LATEST, newest_first[0] if newest_first else None), (BEST, best)):
        if file is not None:
            replace_link(folder / link, file.path.name)
