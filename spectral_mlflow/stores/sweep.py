"""Runs that nobody follows any more, closed by the companion of the next run."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from spectral_mlflow.monitoring.runs import run_directories
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.sync import is_behind, syncing

_log = logging.getLogger(__name__)


def abandoned(experiments: Path) -> list[Path]:
    """The runs of this host that their store does not have in full although their trainer is gone.

    Args:
        experiments: the folder of run directories.
    """
    return [path for path in run_directories(experiments) if _is_abandoned(RunView(path))]


def _is_abandoned(run: RunView) -> bool:
    try:
        return run.is_of_this_host() and is_behind(run.directory) and not run.is_alive()
    except OSError as failure:  # Another user's, for example; there are others to close.
        _log.warning("%s is left alone: %s", run.directory, failure)
    except Exception:
        _log.exception("%s is left alone", run.directory)
    return False


class Sweep:
    """Sends and closes the abandoned runs of a folder once, in a thread beside the run that is followed.

    A run that another companion holds is left to it.
    """

    def __init__(self, followed: Path, stop: threading.Event) -> None:
        """Nothing is read or sent yet.

        Args:
            followed: the run directory that is left out; those beside it are swept.
            stop: set by a signal.
        """
        self._followed = followed
        self._stop = stop
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin, unless it has begun already; each store of the run that is followed may ask for it."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._sweep)
                self._thread.start()

    def wait(self) -> None:
        """Return when it is done; at once where it has not begun."""
        if self._thread is not None:
            self._thread.join()

    def _sweep(self) -> None:
        try:
            others = [path for path in abandoned(self._followed.parent) if path.name != self._followed.name]
            for result in syncing(others, stop=self._stop):
                _log.info("left behind: %s", result)
        except OSError as failure:
            _log.warning("%s cannot be swept: %s", self._followed.parent, failure)
