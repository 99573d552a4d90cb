"""Where the runs of a study are trained: processes of this machine, or whatever else can start a command."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Job(Protocol):
    """A training that was started."""

    def poll(self) -> int | None:
        """Its exit code; None while it goes on."""

    def stop(self) -> None:
        """Ask it to end whole, with a checkpoint to go on from."""

    def wait(self) -> int:
        """Its exit code, when it has one."""


class Launcher(Protocol):
    """Starts trainings. One for a cluster has these two methods too."""

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path, hold: int) -> Job:
        """Start a command.

        Args:
            command: what trains a cell.
            environment: all its variables.
            log: where it writes what it prints.
            hold: file descriptor of the cell's lock, which must stay open as long as the training lives.
        """


class LocalJob:
    """A process of this machine."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        """Its exit code; None while it goes on."""
        return self._process.poll()

    def stop(self) -> None:
        """Send SIGTERM, at which the training saves its state and ends."""
        self._process.terminate()

    def wait(self) -> int:
        """Its exit code, when it has one."""
        return self._process.wait()


class LocalLauncher:
    """Starts processes of this machine, each in a session of its own, so that a Ctrl-C reaches us alone."""

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path, hold: int) -> LocalJob:
        """Start a command; see `Launcher`."""
        with log.open("ab") as output:
            return LocalJob(
                subprocess.Popen(  # noqa: S603 - our own program
                    list(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=output,
                    stderr=output, start_new_session=True, pass_fds=(hold,),
                )
            )  # fmt: skip
