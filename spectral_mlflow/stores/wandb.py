"""The Weights & Biases store: one run directory as one W&B run.

W&B counts rows by itself and takes none for a row that is past, so every line of the journal is a row
of its own that names its step, and the step is the axis of every chart: what a resumed run adds to an
old step is not lost.

Offline, W&B can neither be asked what a run has nor go on with it, and `wandb sync` replaces a run by
the last one of its id. So there is one folder that holds all of the run: whoever opens it removes the
one before and writes all of the journal again, which takes a millisecond or two a line. W&B tells nobody
when the disk is full, so the file is read before the run is called complete.
Online, each row says how far the journals are with it, and W&B gives back the newest.
"""

from __future__ import annotations

import hashlib
import html
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# Reports of failures would go to W&B over the network, offline too; the package reads it when it is imported.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError
from spectral_mlflow.journal import Record
from spectral_mlflow.monitoring import priority
from spectral_mlflow.stores import checkpoints, images, wandb_file, wandb_service
from spectral_mlflow.stores.base import Outcome, RunView, StoreError
from spectral_mlflow.stores.facts import alert_text
from spectral_mlflow.stores.reader import DAMAGED, Batch, encodable, is_line, numbers
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.stores.wandb_mode import OFFLINE, ONLINE, mode_now

STEP = "step"
METRICS, EVENTS = "journal/metrics", "journal/events"  # Bytes of the two journals that W&B has with a row.
INIT_SECONDS, FINISH_SECONDS = 20.0, 60.0
LEVELS = {"info": "INFO", "warning": "WARN", "critical": "ERROR", "fatal": "ERROR"}
LONGEST_TITLE = 63
LONGEST_ID, DIGEST = 64, 8
# Names that W&B gives its own meaning; a metric of such a name would be lost.
TAKEN = ("", STEP, METRICS, EVENTS, "_step", "_timestamp", "_runtime", "_type", "_wandb")
NOT_OURS = ("WANDB_RUN_ID", "WANDB_SWEEP_ID")  # Of an agent that has started the trainer; they would rename the run.
FILES = ("config.json", "results.json", "overview.html", "samples/*", "logs/*.jsonl", "code_snapshot/*")

_log = logging.getLogger(__name__)


class WandbStore:
    """Mirrors one run into W&B (see `spectral_mlflow.stores.base.Store`)."""

    name = "wandb"
    size = 0

    _run: RunView

    def __init__(self) -> None:
        """Nothing is opened yet."""
        self._mode = OFFLINE
        self._rows = 0
        self._stored: Any = None  # wandb.Run, whose methods wandb leaves untyped here and there.

    def open(self, run: RunView, _state: StoreState) -> StoreState:
        """Begin the run, offline from its first line; online go on behind what W&B has."""
        start = run.start()
        if start is None:
            raise StoreError(f"{run.events_path} has no start event yet")
        self.release()
        self._run, self._mode, self._rows = run, mode_now(), 0
        run_id, project = _identifier(start["experiment_id"]), _identifier(_project(start))
        if self._mode == OFFLINE:
            _forget(run, run_id)
        with _errors():
            self._stored = _begin(run, run_id, project, self._mode)
            self._stored.define_metric(STEP)
            self._stored.define_metric("*", step_metric=STEP)
            said = {name: self._stored.summary.get(name) for name in (METRICS, EVENTS)}
        return StoreState(
            run_id=run_id,
            experiment_id=project,
            tracking_uri=f"wandb {self._mode}",
            metrics_offset=int(said[METRICS] or 0),
            events_offset=int(said[EVENTS] or 0),
        )

    def holds(self, run: RunView, state: StoreState) -> bool:
        """Whether the folder of an offline run is there; W&B keeps what was sent online."""
        if state.run_id is None or state.tracking_uri != f"wandb {mode_now()}":
            return False
        return mode_now() == ONLINE or bool(_folders(run, state.run_id))

    def metrics(self, batch: Batch) -> None:
        """Log one row for each line."""
        with _errors():
            for record, offset in batch:
                if is_line(record):
                    self._log(record, {_metric(name): value for name, value in numbers(record)}, {METRICS: offset})
                    wandb_service.progressed()

    def event(self, record: Record, offset: int, /) -> None:
        """Log what an event means, if it means something here."""
        try:
            row = self._media(record)
        except DAMAGED as failure:
            _log.warning("%s is left out: %s", record.get("path"), failure)
            return
        with _errors():
            if record.get("event") == "alert":
                self._alert(record)
            elif row:
                self._log(record, row, {EVENTS: offset})

    def _log(self, record: Record, row: dict[str, Any], position: dict[str, int]) -> None:
        known = position if self._mode == ONLINE else {}
        seconds = journal.milliseconds(record["timestamp"]) / 1000
        self._stored.log({**row, STEP: record.get("step") or 0, "_timestamp": seconds, **known})
        self._rows += 1

    def _media(self, record: Record) -> dict[str, Any]:
        match record.get("event"):
            case "artifact" if record.get("kind") == "plot":
                path = self._run.inside(record["path"])
                caption = f"step {record.get('step')}"
                return {_metric(images.key_of(record)): wandb.Image(str(path), caption=caption)} if path else {}
            case "sample":
                text = html.escape(encodable(str(record.get("text", ""))))
                return {"sample": wandb.Html(f"<pre>{text}</pre>", inject=False)}
            case "histogram":
                path = self._run.inside(record["path"])
                return _histograms(path) if path else {}
        return {}

    def _alert(self, record: Record) -> None:
        level = LEVELS.get(str(record.get("severity")), "WARN")
        self._stored.alert(str(record.get("kind"))[:LONGEST_TITLE], alert_text(record), level=level)

    def close(self, outcome: Outcome) -> None:
        """Send the files, then say how the run ended.

        Raises:
            StoreError: W&B does not answer; or the file of an offline run does not hold all of it.
        """
        final = dict(numbers(self._run.results().get("final_metrics") or {}))
        with _errors():
            self._stored.summary.update({encodable(f"final/{name}"): value for name, value in final.items()})
            self._stored.summary.update({"status": outcome.status, "reason": outcome.reason or ""})
            self._stored.log_artifact(_artifact(self._run, self._stored.id))
            self._stored.finish(exit_code=0 if outcome.status == "FINISHED" else 1)
            file, self._stored = Path(self._stored.settings.sync_file), None
        if self._mode == OFFLINE:
            wandb_file.wait(file, self._rows)

    def release(self) -> None:
        """Let go of a run that is not closed: W&B writes out what it still holds, and waits for more."""
        stored, self._stored = self._stored, None
        if stored is not None:
            with suppress(StoreError), _errors():
                stored.finish(exit_code=1)


def _begin(run: RunView, run_id: str, project: str, mode: str) -> Any:
    config = run.config()
    for name in NOT_OURS:
        os.environ.pop(name, None)
    settings = wandb.Settings(
        mode=mode, run_id=run_id, run_name=run.directory.name, project=project, root_dir=str(run.directory),
        resume="allow" if mode == ONLINE else None, reinit="create_new",
        init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS, finish_timeout_raises=True,
        # The trainer has its own log, measures of the machine and provenance.
        console="off", silent=True, x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True,
        x_save_requirements=False, disable_git=True, save_code=False, symlink=False,
    )  # fmt: skip
    try:
        stored = wandb.init(settings=settings, config=_told({**(config.get("config") or {}), **_facts(config)}))
    except Exception:
        with suppress(Exception):  # However that fails: a service that has died is replaced by the next call only then.
            wandb.teardown(exit_code=1)
        raise
    wandb_service.watch_exit()
    # It leads out of the run directory, which may be moved or packed.
    (Path(stored.settings.sync_dir) / "logs" / "debug-core.log").unlink(missing_ok=True)
    priority.take_along_children()
    return stored


def _facts(config: Record) -> Record:
    return {f"{name}_facts": config[name] for name in ("model", "dataset", "hardware") if name in config}


@contextmanager
def _errors() -> Iterator[None]:
    """Turn whatever W&B raises into `StoreError`. A user's mistake stays one."""
    try:
        with wandb_service.watched():
            yield
    except (StoreError, UserError):
        raise
    except Exception as failure:  # Its own errors, those of its mailbox, sockets and time-outs.
        _log.debug("store failure", exc_info=True)
        reason = str(failure).strip().split("\n", 1)[0]
        raise StoreError(f"Weights & Biases: {type(failure).__name__}: {reason}") from failure


def _folders(run: RunView, run_id: str) -> list[Path]:
    return sorted((run.directory / "wandb").glob(f"offline-run-*-{run_id}"))


def _forget(run: RunView, run_id: str) -> None:
    for folder in _folders(run, run_id):
        shutil.rmtree(folder)


def _identifier(name: str) -> str:
    """A name that W&B takes for runs and projects; two long ones that begin alike stay two."""
    taken = re.sub(r"[^\w.-]", "-", name)
    if len(taken) <= LONGEST_ID:
        return taken
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:DIGEST]
    return f"{taken[: LONGEST_ID - DIGEST - 1]}_{digest}"


def _metric(name: str) -> str:
    """The name itself, or `metric/NAME` where W&B would keep none of its points."""
    return f"metric/{name}" if name in TAKEN else encodable(name)


def _told(value: Any) -> Any:
    """Settings as W&B takes them: text of whole characters, and numbers that a float can hold."""
    match value:
        case dict():
            return {encodable(str(key)): _told(item) for key, item in value.items()}
        case list() | tuple():
            return [_told(item) for item in value]
        case str():
            return encodable(value)
        case int() if abs(value) > sys.float_info.max:
            return str(value)
    return value


def _project(start: Record) -> str:
    return os.environ.get("WANDB_PROJECT") or start.get("mlflow_experiment") or "spectral"


def _histograms(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes())["parameters"]
    return {
        f"histograms/{name}": wandb.Histogram(np_histogram=(one["counts"], one["edges"])) for name, one in found.items()
    }


def _artifact(run: RunView, run_id: str) -> Any:
    """The files of a run under their own paths. W&B is told that they stay as they are, so that it copies none."""
    artifact = wandb.Artifact(f"{run_id}-files", type="run")
    wanted = checkpoints.wanted(
        [record for record in checkpoints.known(run) if record.state == checkpoints.LOCAL], checkpoints.policy(run)
    )
    paths = [path for pattern in (*FILES, *sorted(wanted)) for path in sorted(run.directory.glob(pattern))]
    for path in filter(Path.is_file, paths):
        name = path.relative_to(run.directory).as_posix()
        artifact.add_file(str(path), name=name, policy="immutable", skip_cache=True)
        wandb_service.progressed()  # It took a digest, which needs no service.
    return artifact
