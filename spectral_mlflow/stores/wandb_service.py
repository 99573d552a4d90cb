"""The process of W&B that does the work, watched: W&B waits for one that hangs for good, even as a program ends."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

SERVICE = "wandb-core"
SILENT_SECONDS = 65.0  # More than W&B itself waits for the end of a run.
LOOK_SECONDS = 1.0

_log = logging.getLogger(__name__)
_progress: dict[int, float] = {}  # By thread, when its call of W&B was last seen to go on.
_starting = threading.Lock()
_watcher: threading.Thread | None = None


@contextmanager
def watched() -> Iterator[None]:
    """Kill the service when a call of it makes no progress for `SILENT_SECONDS`, so that the call raises."""
    _start()
    progressed()
    try:
        yield
    finally:
        _progress.pop(threading.get_ident(), None)


def progressed() -> None:
    """Say that the call of this thread goes on."""
    _progress[threading.get_ident()] = time.monotonic()


def watch_exit() -> None:
    """Watch the call too with which W&B ends its service when the program ends. To be said after that has begun."""
    atexit.unregister(progressed)
    atexit.register(progressed)  # W&B's own was registered before, so it is called after this one.


def _start() -> None:
    global _watcher
    with _starting:
        if _watcher is None:
            _watcher = threading.Thread(target=_watch, daemon=True)
            _watcher.start()


def _watch() -> None:
    pause = threading.Event()
    while not pause.wait(LOOK_SECONDS):
        now = time.monotonic()
        for thread, seen in list(_progress.items()):
            if now - seen > SILENT_SECONDS:
                _progress[thread] = now
                _kill()


def _kill() -> None:
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # It has ended by itself.
            if child.name() == SERVICE:
                _log.warning("%s (process %d) does not answer and is killed", SERVICE, child.pid)
                child.kill()
