"""The companion as the trainer sees it: a process that it starts, and a small file that says how far that one is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class CompanionProcess:
    """Mirrors a run directory into the stores while the run goes on, and after its end."""

    def __init__(self, run_dir: Path, tracking_uri: str | None) -> None:
        """Nothing is started yet.

        Args:
            run_dir: the run.
            tracking_uri: where the run is sent; default: as the companion decides.
        """
        self.run_dir = run_dir
        self._tracking_uri = tracking_uri
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in a session of its own, so that Ctrl-C for the trainer does not reach it.

        Raises:
            OSError: there can be no further process, or no log of it.
        """
        command = [sys.executable, "-m", "spectral_mlflow.stores", str(self.run_dir), "--follow"]
        environment = {**os.environ}
        if self._tracking_uri:  # Not an argument: other users of the machine can read those.
            environment["MLFLOW_TRACKING_URI"] = self._tracking_uri
        with (self.run_dir / "logs" / "companion.log").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and package
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def state(self) -> dict[str, Any]:
        """What it says of the run in MLflow: run_id, closed, error; empty before it said anything."""
        try:
            return dict(json.loads((self.run_dir / "stores" / "mlflow.json").read_text()))
        except (OSError, ValueError):
            return {}

    def wait(
        self, seconds: float, *, stop: Callable[[], bool], tell: Callable[[float], None], sleep: Callable[[float], None]
    ) -> bool:
        """Wait until it has sent everything, at most so long.

        Args:
            seconds: the most to wait.
            stop: whether to wait no longer, asked again and again.
            tell: told again and again which share of all there is to send has arrived.
            sleep: waits between looks.

        Returns:
            Whether the stores are complete; if not, the companion goes on.
        """
        deadline = time.monotonic() + seconds
        while (share := self._share()) < 1:
            gone = self._process is None or self._process.poll() not in (None, 0)
            if gone or stop() or time.monotonic() > deadline:
                return False
            tell(share)
            sleep(0.1)
        return True

    def _share(self) -> float:
        """How much of the journals has arrived; 1 once the run is closed there too."""
        state = self.state()  # Of a resumed run it may still be that of the end before.
        written = [_size(self.run_dir / "logs" / name) for name in ("metrics.jsonl", "events.jsonl")]
        sent = [int(state.get(name, 0)) for name in ("metrics_offset", "events_offset")]
        if state.get("closed") and sent[1] == written[1]:
            return 1.0
        return min(0.99, sum(sent) / max(1, sum(written)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
