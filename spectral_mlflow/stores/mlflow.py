"""The MLflow store: one run directory as one MLflow run, exactly once.

MLflow keeps a metric row for each (key, timestamp, step, value), so a line that is sent twice with
the journal's own timestamp is stored once. How far the journal is stored stands in a tag which goes
with each call; MLflow writes it after the metrics of that call, so it may lag and can never lead.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException

from spectral_mlflow import journal
from spectral_mlflow.config import without_password
from spectral_mlflow.journal import Record
from spectral_mlflow.stores import client as clients
from spectral_mlflow.stores import facts
from spectral_mlflow.stores.artifacts import Artifacts, Sent
from spectral_mlflow.stores.base import GONE, NO_MODELS, Outcome, RunView, StoreError
from spectral_mlflow.stores.models import log_best
from spectral_mlflow.stores.points import MARK, calls, joined
from spectral_mlflow.stores.pull_back import append_missing
from spectral_mlflow.stores.reader import Batch, last_record
from spectral_mlflow.stores.run_page import RunPage
from spectral_mlflow.stores.state import StoreState

# MLflow takes 1000 metrics and tags together.
POINTS = 990
# Rows that are there already are slow to send, and the first call after a failure may be all of that.
# So calls begin small and double: a slow store gets ahead too.
FIRST_POINTS = 50
POINTS_SECONDS = 15

OFFSET = "spectral.journal_offset"
ORIGIN = "spectral.origin"
ERROR, REASON = "spectral.error", "spectral.reason"
LONGEST_REASON = 500
FILES = ("artifact", "sample", "checkpoint", "checkpoint_removed")  # Events that name files.

_log = logging.getLogger(__name__)


class MlflowStore:
    """Mirrors one run into MLflow (see `spectral_mlflow.stores.base.Store`)."""

    name = "mlflow"
    size = 0

    _client: MlflowClient
    _run: RunView
    _start: Record
    _page: RunPage
    _artifacts: Artifacts

    def __init__(self, tracking_uri: str) -> None:
        """Name the store; nothing is asked of it yet.

        Args:
            tracking_uri: an absolute URI, as `spectral_mlflow.tracking_uri.resolve` gives it.
        """
        self._uri = tracking_uri
        self._run_id = ""
        self._outcome: Outcome | None = None
        self._sent: Sent = {}
        self._marks: dict[str, str] = {}
        self._limit = FIRST_POINTS

    def open(self, run: RunView, state: StoreState) -> StoreState:
        """Find, adopt or create the run; tell MLflow what is known of it so far."""
        start = run.start()
        if start is None:
            raise StoreError(f"{run.events_path} has no start event yet")
        self._run, self._start, self._limit = run, start, FIRST_POINTS
        with clients.store_errors():
            self._client = clients.open_client(self._uri)
            here = state if state.tracking_uri == without_password(self._uri) else StoreState()
            self._run_id = self._find(here) or self._create()
            began = journal.milliseconds(start["timestamp"])
            self._artifacts = Artifacts(self._client, self._run_id, run, began, self._sent)
            self._page = RunPage(self._client, self._run_id, run, start, self._artifacts.stored_images)
            current = self._client.get_run(self._run_id)
            self._marks = {name: text for name, text in current.data.tags.items() if name.startswith(MARK)}
            self._page.tag(self._missing_birth_tags(current))
            self._page.offer()
        stored, ours = int(current.data.tags.get(OFFSET, 0)), here.run_id == self._run_id
        return StoreState(
            run_id=self._run_id,
            experiment_id=current.info.experiment_id,
            tracking_uri=without_password(self._uri),
            # The state may have been set back, because the journal lost lines that the store has.
            metrics_offset=min(stored, here.metrics_offset) if ours else stored,
            events_offset=here.events_offset if ours else 0,
        )

    def holds(self, _run: RunView, state: StoreState) -> bool:
        """Ask for the run; an address alone does not tell an empty database in the place of a lost one."""
        if state.run_id is None or state.tracking_uri != without_password(self._uri):
            return False
        with clients.store_errors():
            return self._has(clients.open_client(self._uri), state.run_id)

    def _has(self, client: MlflowClient, run_id: str) -> bool:
        there = clients.run_exists(client, run_id)
        if there and clients.in_trash(client, run_id):
            raise StoreError(f"MLflow run {run_id} was deleted there; `spectral rebuild RUN` restores it")
        return there

    def _find(self, state: StoreState) -> str | None:
        if state.run_id and self._has(self._client, state.run_id):
            return state.run_id
        given = self._start.get("mlflow_run_id")
        if given and clients.run_exists(self._client, given) and self._may_adopt(given):
            return str(given)
        found = self._client.search_runs(
            [clients.find_experiment(self._client, self._experiment, self._uri)],
            f"tags.`{ORIGIN}` = '{facts.origin(self._start)}'",
            max_results=1,
        )
        return str(found[0].info.run_id) if found else None

    def _may_adopt(self, run_id: str) -> bool:
        """Whether no other run has adopted this one: all trainings in an environment see the same MLFLOW_RUN_ID."""
        ours = facts.origin(self._start)
        found = self._client.get_run(run_id)
        return bool(found.info.lifecycle_stage == "active" and found.data.tags.get(ORIGIN, ours) == ours)

    @property
    def _experiment(self) -> str:
        return self._start.get("mlflow_experiment") or "Default"

    @property
    def _adopted(self) -> bool:
        return self._start.get("mlflow_run_id") == self._run_id

    def _create(self) -> str:
        created = self._client.create_run(
            clients.find_experiment(self._client, self._experiment, self._uri),
            start_time=journal.milliseconds(self._start["timestamp"]),
            tags=facts.birth_tags(self._run, self._start),
            run_name=self._start["experiment_id"],
        )
        return str(created.info.run_id)

    def _missing_birth_tags(self, current: Run) -> dict[str, str]:
        """Our tags that the run lacks. What `mlflow run` and the user have set of MLflow's own stays."""
        present = current.data.tags
        wanted = facts.birth_tags(self._run, self._start)
        if self._adopted and facts.is_generated_name(present.get("mlflow.runName", "")):
            present = {name: value for name, value in present.items() if name != "mlflow.runName"}
        return {
            name: value
            for name, value in wanted.items()
            if present.get(name) != value and not (name.startswith("mlflow.") and name in present)
        }

    def pull_back(self) -> int:
        """Append to the journal what MLflow has and a power cut has taken from it."""
        with clients.store_errors():
            lines = append_missing(self._client, self._run_id, self._run)
            self._page.tag({OFFSET: "0"})
        return lines

    def metrics(self, batch: Batch) -> None:
        """Send lines of metrics, at most 990 points a call, each with the offset behind it."""
        with clients.store_errors():
            for call in calls(batch, self._limits()):
                self._marks |= {name: joined(self._marks.get(name, ""), mark) for name, mark in call.marks.items()}
                self._page.tag({name: self._marks[name] for name in call.marks})
                offset = [] if call.offset is None else [RunTag(OFFSET, str(call.offset))]
                with clients.allowing(POINTS_SECONDS):
                    self._client.log_batch(self._run_id, metrics=call.points, tags=offset)
                self._limit = min(2 * self._limit, POINTS)

    def _limits(self) -> Iterator[int]:
        while True:
            yield self._limit

    def event(self, record: Record, _offset: int = 0, /) -> None:
        """Send the file, the tag or the status that an event means."""
        with clients.store_errors():
            match record.get("event"):
                case "artifact" if record.get("kind") == "config":
                    self._page.offer()
                case "alert":
                    self._page.tag(_alert_tag(record))
                case "resume":
                    self._reopen()
            if record.get("event") in FILES and not self._has_ended():
                self._offer(record)

    def _has_ended(self) -> bool:
        """Whether the journal ends with the end of the run: its status comes first then, and all files behind it."""
        return (last_record(self._run.events_path) or {}).get("event") == "end"

    def _offer(self, record: Record) -> None:
        if record["event"] in ("checkpoint", "checkpoint_removed"):
            self._artifacts.offer_checkpoints()
        elif record.get("kind") != "plot":
            self._artifacts.offer(record["path"])
        elif self._artifacts.offer_plot(record):
            self._page.offer()  # The image that it shows is gone.

    def _reopen(self) -> None:
        self._client.update_run(self._run_id, status="RUNNING")
        self._page.forget(ERROR, REASON)
        self._page.offer()

    def close(self, outcome: Outcome) -> None:
        """Say how the run ended, which nobody should wait for; then send the description, all files and the model."""
        if outcome.reason == GONE:
            self._write_overview()
        with clients.store_errors():
            self._end(outcome)
            self._page.send(outcome)
            self._artifacts.finish()
            self._page.describe(outcome)  # Now with the last images.
            self._send_model()

    def _write_overview(self) -> None:
        """The overview as it is in the end, of which a trainer that was killed has left an earlier one or none."""
        try:
            from spectral_mlflow.monitoring import overview

            overview.write(self._run.directory)
        except Exception as failure:  # Whatever is wrong with it, the run is sent without.
            _log.warning("%s: its overview is left as it was: %s", self._run.directory.name, failure)

    def _send_model(self) -> None:
        """The best model, where the store takes models; an older server has all of the run without it."""
        try:
            log_best(self._client, self._run_id, self._run)
        except MlflowException as failure:
            if failure.error_code not in NO_MODELS:
                raise
            _log.warning("the store takes no models: %s", clients.one_line(failure))

    def _end(self, outcome: Outcome) -> None:
        reason = (outcome.reason or "").strip().split("\n", 1)[0][:LONGEST_REASON]
        tags = {REASON: reason} if reason else {}
        if outcome.status == "FAILED":
            tags[ERROR] = reason or "unknown"
        self._page.forget(*({REASON, ERROR} - tags.keys()))
        self._page.tag(tags)
        self._client.set_terminated(self._run_id, outcome.status, outcome.end_time)
        self._outcome = outcome

    def confirm(self) -> bool:
        """Say again how an adopted run ended: `mlflow run` sets FINISHED or FAILED when its child ends."""
        if self._outcome is None or not self._adopted:
            return False
        with clients.store_errors():
            if self._client.get_run(self._run_id).info.status != self._outcome.status:
                self._end(self._outcome)
        return True


def _alert_tag(record: Record) -> dict[str, str]:
    return {facts.valid_name(f"spectral.alert.{record.get('kind')}"): facts.alert_text(record)[:LONGEST_REASON]}
