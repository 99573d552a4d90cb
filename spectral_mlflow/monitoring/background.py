"""One job at a time, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """Runs one job at a time beside the caller. The interpreter does not end before the job does."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._done = threading.Event()  # Joining a thread forgets it when a signal's handler raises meanwhile.
        self._failure: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._thread is not None and not self._done.is_set()

    def start(self, job: Callable[[], object]) -> None:
        """Wait for the job before, then start this one.

        Raises:
            Exception: what the job before has raised.
        """
        self.wait()
        self._done.clear()
        # Not a daemon: Python waits for it at exit, so that nothing accepted is lost.
        self._thread = threading.Thread(target=self._run, args=(job,), name="spectral-checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until the job is done.

        Raises:
            Exception: what it has raised, once.
        """
        if self._thread is not None and self._thread is not threading.current_thread():
            self._done.wait()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _run(self, job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as failure:
            self._failure = failure
        finally:
            self._done.set()
