"""The process that draws plots, as the trainer sees it: started at the first one, told of steps, heard in a thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

LOOK_SECONDS = 0.1
LAST_SECONDS = 3.0  # That a plot in hand may still take.
SILENT_SECONDS = 120.0  # Without a word, after which nobody waits for it any more.
MOST_DEATHS = 3  # In a row: what it dies of will not go away.
LOG = "plots.log"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # The processors belong to the training.


class PlotProcess:
    """Draws the plots of a run in a process of its own, which ends with this one."""

    def __init__(self, run_dir: Path, hear: Callable[[dict[str, Any]], None]) -> None:
        """Nothing is started yet.

        Args:
            run_dir: the run.
            hear: called in a thread with what the process tells: ``plot``, ``step`` and ``key`` of a plot, ``done``
                with the step of a set, or ``level`` and ``message``.
        """
        self.waiting: set[int] = set()
        self._run_dir = run_dir
        self._hear = hear
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None
        self._closing = False
        self._deaths = 0
        self._heard = 0.0

    def ask(self, step: int) -> None:
        """Have the plots of a step drawn, some time.

        Raises:
            OSError: there can be no further process.
        """
        self.waiting.add(step)
        if self._is_alive():
            self._send(step=step)
        elif self._deaths < MOST_DEATHS:
            self._begin()

    def _begin(self) -> None:
        """Begin, or begin again after it died of what it drew or was killed, with all that is left."""
        self._start()
        for left in sorted(self.waiting):
            self._send(step=left)

    def finish(self, *, stop: Callable[[], bool], tell: Callable[[float], None]) -> None:
        """Wait until all is drawn, with as much of the processor as it takes.

        Args:
            stop: whether to wait no longer, asked again and again; what is in `waiting` then is left.
            tell: told again and again which share of the steps that waited is drawn.
        """
        total = len(self.waiting)
        if self.waiting and not self._is_alive() and 0 < self._deaths < MOST_DEATHS:
            self._begin()
        self._heard = time.monotonic()
        self._send(finish=True)
        while self._listener and self._listener.is_alive() and not stop():
            if self.waiting:
                tell(1 - len(self.waiting) / total)
            self._listener.join(LOOK_SECONDS)
            if time.monotonic() - self._heard > SILENT_SECONDS:
                self._hear(_warning(f"the process that draws plots said nothing for {SILENT_SECONDS:.0f} s"))
                break
        self.close()

    def close(self) -> None:
        """End the process, after the plot in hand if that is soon ready."""
        self._closing = True
        if self._process is None or self._listener is None:
            return
        if self._process.stdin:
            with suppress(OSError):
                self._process.stdin.close()  # It ends with its input.
        self._listener.join(LAST_SECONDS)
        self._process.kill()
        self._listener.join()
        if self._process.stdout:
            self._process.stdout.close()
        self._process = self._listener = None

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _start(self) -> None:
        self.close()
        self._closing = False
        command = [sys.executable, "-m", "spectral_mlflow.monitoring.plot_worker", str(self._run_dir)]
        with (self._run_dir / "logs" / LOG).open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and package
                command, env={**os.environ, **ONE_THREAD}, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=output, start_new_session=True,
            )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()

    def _send(self, **message: Any) -> None:
        with suppress(OSError):  # It is gone, which the listener tells.
            if self._process and self._process.stdin:
                print(json.dumps(message), file=self._process.stdin, flush=True)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            message = json.loads(line)
            self._heard = time.monotonic()
            self._hear(message)
            self.waiting.discard(message.get("done", -1))
            self._deaths = 0
        if process.wait() != 0 and not self._closing:
            self._deaths += 1
            self._hear(_warning(f"the process that draws plots ended: logs/{LOG} says why"))


def _warning(message: str) -> dict[str, Any]:
    return {"level": "WARNING", "message": message}
