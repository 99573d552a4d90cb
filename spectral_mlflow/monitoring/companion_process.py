"""The companion as the trainer sees it: a process that it starts, and a small file that says how far that one is."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from spectral_mlflow.monitoring.monitor import Alert

# Stores that need an extra; its name, that of the package and that of the store are one.
EXTRAS = ("tensorboard", "wandb")


def stores_lacking_a_package(stores: Iterable[str]) -> list[str]:
    """Those of the stores whose package is not installed; nothing is imported."""
    return [name for name in stores if name in EXTRAS and not _is_installed(name)]


def _is_installed(package: str) -> bool:
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None  # Any folder of that name counts as a package without code.


def how_to_install(store: str) -> str:
    """The command that brings the package of a store."""
    return f"pip install 'spectral-mlflow[{store}]'"


class CompanionProcess:
    """Mirrors a run directory into the stores while the run goes on, and after its end."""

    def __init__(self, run_dir: Path, tracking_uri: str | None, stores: Sequence[str] = ("mlflow",)) -> None:
        """Nothing is started yet.

        Args:
            run_dir: the run.
            tracking_uri: where MLflow is; default: as the companion decides.
            stores: names of those that the run goes to.
        """
        self.run_dir = run_dir
        self._tracking_uri = tracking_uri
        self._lacking = stores_lacking_a_package(stores)
        self._stores = [name for name in stores if name not in self._lacking]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> list[Alert]:
        """Start it, in a session of its own, so that Ctrl-C for the trainer does not reach it.

        Returns:
            An alert for each store that the run will not be in, because its package is not installed.

        Raises:
            OSError: there can be no further process, or no log of it.
        """
        if self._stores:
            self._start()
        later = f"spectral sync {self.run_dir.name} then sends it the run"
        return [
            Alert(
                kind="stores",
                severity="warning",
                message=f"nothing is sent to {name}: its package is not installed",
                advice=f"{how_to_install(name)}; {later}",
            )
            for name in self._lacking
        ]

    def _start(self) -> None:
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
        return self._state("mlflow")

    def states(self) -> dict[str, dict[str, Any]]:
        """The same of every store that it feeds, by name."""
        return {name: self._state(name) for name in self._stores}

    def _state(self, store: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self.run_dir / "stores" / f"{store}.json").read_text()))
        except (OSError, ValueError):
            return {}

    def wait(
        self, seconds: float, *, stop: Callable[[], bool], tell: Callable[[float], None], sleep: Callable[[float], None]
    ) -> bool:
        """Wait until it has sent everything, at most so long.

        Args:
            seconds: the most to wait.
            stop: whether to wait no longer, asked again and again.
            tell: told again and again which share of all there is to send has arrived in the slowest store.
            sleep: waits between looks.

        Returns:
            Whether the stores whose package is installed are complete; if not, the companion goes on.
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
        """How much of the journals has arrived in the slowest store; 1 once the run is closed everywhere."""
        return min((self._share_of(state) for state in self.states().values()), default=0.0)

    def _share_of(self, state: dict[str, Any]) -> float:
        written = [_size(self.run_dir / "logs" / name) for name in ("metrics.jsonl", "events.jsonl")]
        sent = [int(state.get(name, 0)) for name in ("metrics_offset", "events_offset")]
        if state.get("closed") and sent[1] == written[1]:  # Else it is that of the end before, of a resumed run.
            return 1.0
        return min(0.99, sum(sent) / max(1, sum(written)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
