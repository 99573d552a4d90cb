"""The companion: follows one run directory and feeds one store until the run has ended and all is sent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError
from spectral_mlflow.stores.base import GONE, Outcome, RunView, SharedStore, Store, StoreError
from spectral_mlflow.stores.reader import batches, has_more, is_boundary
from spectral_mlflow.stores.state import StoreState

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How often and how long, all in seconds.

    Attributes:
        poll: between looks at whether the journals grow and the trainer lives; a look costs next to nothing.
        slowest_poll: between looks at journals that have stopped growing.
        interval: between calls with metrics, each of which costs the store 10 ms and more; events do not wait.
        retry: before the second call to a store that failed; doubles with each failure.
        longest_retry: the most that it doubles to.
        patience: how long a failing store is called after the trainer is gone.
        settle: how long after the trainer is gone somebody else's status is corrected.
        handover: how long to wait for the companion before this one, before looking whether that still matters.
    """

    poll: float = 0.5
    slowest_poll: float = 2.0
    interval: float = 2.0
    retry: float = 1.0
    longest_retry: float = 60.0
    patience: float = 60.0
    settle: float = 10.0
    handover: float = 15.0


def companion_lock(run_dir: Path, seconds: float = 0.0, store: str = "mlflow") -> FileLock:
    """The lock that the one companion of a run and one of its stores holds."""
    folder = run_dir / "stores"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{store}.lock", timeout=seconds)


class Companion:
    """Feeds one store from one run directory. Hold `companion_lock` while it works."""

    def __init__(
        self,
        run: RunView,
        store: Store,
        *,
        pace: Pace | None = None,
        stop: threading.Event | None = None,
        on_open: Callable[[], None] | None = None,
        on_sent: Callable[[int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read or sent yet.

        Args:
            run: the run directory.
            store: where it is mirrored.
            pace: how often and how long.
            stop: set by a signal: the batch in hand is finished, then the companion returns.
            on_open: called when the store has the run, possibly more than once.
            on_sent: told how many bytes of metrics.jsonl the store has.
            clock: seconds.
        """
        self.run = run
        self.store = store
        self.pace = pace or Pace()
        self.stop = stop or threading.Event()
        self.state = StoreState.load(run.state_of(store.name))
        self._on_open = on_open or (lambda: None)
        self._on_sent = on_sent or (lambda _: None)
        self._clock = clock
        self._opened = False
        self._begun = False
        self._saved = True

    def follow(self) -> StoreState:
        """Send what there is and what comes, until the run has ended or its trainer is gone.

        Returns:
            The last state: closed, or with the error that made it give up.
        """
        return self._work(follow=True)

    def catch_up(self) -> StoreState:
        """Send what there is, once; close the run if it has ended or its trainer is gone."""
        return self._work(follow=False)

    def _work(self, *, follow: bool) -> StoreState:
        retry, failing_since = self.pace.retry, None
        while not self.stop.is_set():
            alive = False
            try:
                alive = self.run.is_alive()  # Before reading: what a dead trainer has written is complete.
                self._advance(alive=alive)
                if not self._goes_on(alive=alive, follow=follow):
                    break
            except (StoreError, UserError, OSError) as failure:
                self._note(failure)
                self._opened = False  # What arrived of a call that failed, only the store knows.
                waits_for_trainer = follow and alive
                failing_since = None if waits_for_trainer else failing_since or self._clock()
                if failing_since is not None and self._clock() - failing_since >= self.pace.patience:
                    break
                self._back_off(retry if waits_for_trainer else min(retry, self.pace.patience / 4), alive=alive)
                retry = min(2 * retry, self.pace.longest_retry)
                continue
            retry, failing_since = self.pace.retry, None
            self._rest()
        return self.state

    def _back_off(self, seconds: float, *, alive: bool) -> None:
        """Leave a failing store alone for a while, but no longer when something has happened to the run."""
        until, (_, seen) = self._clock() + seconds, self._sizes()
        while (left := until - self._clock()) > 0 and not self.stop.wait(min(left, self.pace.slowest_poll)):
            if self._sizes()[1] != seen or (alive and not self._is_alive()):
                return

    def _rest(self) -> None:
        """Wait until there is an event, the trainer is gone, or lines of metrics have waited long enough."""
        began, pause, seen = self._clock(), self.pace.poll, self._sizes()
        while not self.stop.wait(pause):
            metrics, events = sizes = self._sizes()
            waited = self._clock() - began >= self.pace.interval
            if events > self.state.events_offset or (metrics > self.state.metrics_offset and waited):
                return
            if not self._is_alive():
                return
            pause = self.pace.poll if sizes != seen else min(1.5 * pause, self.pace.slowest_poll)
            seen = sizes

    def _sizes(self) -> tuple[int, int]:
        return _size(self.run.metrics_path), _size(self.run.events_path)

    def _is_alive(self) -> bool:
        """Whether a trainer is known to live: the next pass tells what is wrong with a directory that does not say."""
        try:
            return self.run.is_alive()
        except OSError:
            return False

    def _goes_on(self, *, alive: bool, follow: bool) -> bool:
        """Whether there is more to wait for after a pass without failure."""
        if self.stop.is_set() or not follow:
            return False
        if self.state.closed:
            return self._watch()
        return alive or self._begun

    # One pass

    def _advance(self, *, alive: bool) -> None:
        """Send everything new, and the end if the run has one."""
        self._begun = self._begun or self.run.start() is not None  # Once is enough: it decodes all events.
        if not self._begun:
            return
        if not self.is_behind():
            if self._opened or self.store.holds(self.run, self.state):
                self._save(error=None)
                return
            self._save(**vars(StoreState()))  # That was another store, or this one before it was lost.
        was_closed = self.state.closed
        self._save(closed=False)  # A resumed run is open again before the store has heard of it.
        opened_now = not self._opened
        if opened_now:
            self._open(alive=alive)
        self._send_metrics()
        told = self._send_events()
        outcome = self.run.outcome(alive=alive) if opened_now or told or was_closed or not alive else None
        if outcome is None or self.stop.is_set():
            return
        self._send_metrics()  # Those that were written while the events were sent, and before the end was told.
        if outcome.reason != GONE or not self.run.is_alive():  # It may have been resumed meanwhile.
            self._close(outcome)

    def _open(self, *, alive: bool) -> None:
        opened = self.store.open(self.run, self.state)
        cut = self.run.is_cut(self.state) or self.run.is_cut(opened)
        if cut and not alive and isinstance(self.store, SharedStore):
            # What the next trainer computes again would be stored a second time.
            lines = self.store.pull_back()
            _log.info("%s: %d lines that the journal had lost are back", self.run.directory.name, lines)
            opened = replace(opened, metrics_offset=0, events_offset=0)
        self._save(**vars(opened))
        self._opened = True
        self._on_open()

    def is_behind(self) -> bool:
        """Whether the journals have something that the store has not."""
        return not self.state.closed or self.journals_grew()

    def journals_grew(self) -> bool:
        """Whether there are lines or events that were not sent."""
        read = ((self.run.metrics_path, self.state.metrics_offset), (self.run.events_path, self.state.events_offset))
        return any(has_more(path, offset) for path, offset in read)

    def _send_metrics(self) -> None:
        for batch in batches(self.run.metrics_path, self.state.metrics_offset):
            self.store.metrics(batch)
            self._save(metrics_offset=batch[-1][1], size=self.store.size, error=None)
            self._on_sent(self.state.metrics_offset)
            if self.stop.is_set():
                break

    def _send_events(self) -> bool:
        """Whether there were any. Metrics do not wait for them: a store may take long over the files that they name."""
        told, path, offset, since = False, self.run.events_path, self.state.events_offset, self._clock()
        for record, behind in journal.read(path, offset if is_boundary(path, offset) else 0):
            self.store.event(record, behind)
            self._save(events_offset=behind, size=self.store.size, error=None)
            told = True
            if self.stop.is_set():
                break
            if self._clock() - since >= self.pace.interval:
                self._send_metrics()
                since = self._clock()
        return told

    def _close(self, outcome: Outcome) -> None:
        self.store.close(outcome)
        self._save(closed=True, size=self.store.size, error=None)
        _log.info("%s closed in %s as %s", self.run.directory.name, self.store.name, outcome.status)

    # After the end

    def _watch(self) -> bool:
        """Correct the status of an adopted run for a while. Returns whether the run goes on after all."""
        store, gone_since = self.store, None
        while isinstance(store, SharedStore) and store.confirm() and not self.stop.wait(self.pace.poll):
            if self.journals_grew():
                return True
            gone_since = None if self._is_alive() else gone_since or self._clock()
            if gone_since is not None and self._clock() - gone_since >= self.pace.settle:
                break
        return self.journals_grew()

    # State

    def _note(self, failure: Exception) -> None:
        if self.state.error != str(failure):  # Once, not at every retry.
            _log.warning("%s in %s: %s; trying again", self.run.directory.name, self.store.name, failure)
        self._save(error=str(failure))

    def _save(self, **changes: object) -> None:
        changed = replace(self.state, **changes)  # type: ignore[arg-type]
        if changed == self.state and self._saved:
            return
        self.state = changed
        try:
            changed.save(self.run.state_of(self.store.name))
        except OSError as failure:  # The store knows how far it is; whoever comes next asks it.
            if self._saved:
                _log.warning("%s: how far its store is cannot be kept: %s", self.run.directory.name, failure)
            self._saved = False
        else:
            self._saved = True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
