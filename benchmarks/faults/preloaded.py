"""A Python that starts in milliseconds: one process imports everything once, and forks for each program.

`Preloaded.start` runs ``python -m MODULE ...`` in such a fork: a process of its own with its own session, working
folder, environment and output, which ends as any Python ends. Its ``sys.executable`` is a small launcher that asks
the same process for a fork, so whatever the program starts by ``sys.executable -m`` (the companion) is preloaded too,
by the real code of both sides.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parent.parent.parent
CALL = Path(__file__).with_name("call.py")
PIDS = "FAULTS_PIDS"  # Folder in which each fork notes what it runs.
PATIENCE = 300.0  # Seconds after which a program counts as hanging, on the slowest machine.


class HangsError(AssertionError):
    """What was waited for did not come."""


def wait_for(true: Callable[[], Any], what: str, seconds: float = PATIENCE, pause: float = 0.002) -> Any:
    """Poll until a condition is true, and return it.

    Raises:
        HangsError: it did not become so.
    """
    deadline = time.monotonic() + seconds
    while not (value := true()):
        if time.monotonic() > deadline:
            raise HangsError(f"in {seconds:.0f} s it did not come to this: {what}")
        time.sleep(pause)
    return value


@dataclass
class Process:
    """A program that runs, or has run."""

    pid: int
    output: Path
    _connection: socket.socket
    _code: int | None = None

    def __del__(self) -> None:
        self._connection.close()  # Of one that nobody has waited for.

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self._code is None:
            try:
                answer = self._connection.recv(64, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            self._connection.close()
            self._code = int(answer or b"-9")
        return self._code

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code, once it has ended.

        Raises:
            HangsError: it does not end.
        """
        wait_for(lambda: self.poll() is not None, f"process {self.pid} ends; see {self.output}", seconds, 0.005)
        return int(self._code or 0)

    def kill(self) -> None:
        """End it by SIGKILL, and wait until it is gone."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def printed(self) -> str:
        """What it wrote to stdout and stderr."""
        return self.output.read_text(encoding="utf-8", errors="replace")


class Preloaded:
    """The process that forks; a context manager, whose end is the end of all its children."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="faults-")
        self.socket = Path(self._folder.name) / "socket"
        self.launcher = Path(self._folder.name) / "python"
        command = shlex.join([sys.executable, "-IS", str(CALL), str(self.socket)])
        self.launcher.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        self.launcher.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment = {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults.server", str(self.socket)],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        if self._server.stdout is None or self._server.stdout.readline() != b"ready\n":
            raise RuntimeError("the preloaded process did not start; see what it printed above")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the process that forks: the parent of all that it starts."""
        return self._server.pid

    def close(self) -> None:
        """End it, and everything that it has started."""
        self._server.communicate()  # The end of its input tells it to end.
        self._folder.cleanup()

    def start(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        output: Path,
        environment: Mapping[str, str],
        real: bool = False,
    ) -> Process:
        """Run ``python ARGUMENTS``, where the arguments begin with ``-m MODULE``.

        Args:
            arguments: of Python.
            folder: to work in.
            output: where stdout and stderr are appended.
            environment: all of it.
            real: whether what the program itself starts is a true new interpreter, not one more fork.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(str(self.socket))
        request = {
            "arguments": list(arguments), "folder": str(folder), "environment": dict(environment),
            "executable": sys.executable if real else str(self.launcher),
        }  # fmt: skip
        with output.open("ab") as file, Path(os.devnull).open("rb") as nothing:
            handles = [nothing.fileno(), file.fileno(), file.fileno()]
            socket.send_fds(connection, [json.dumps(request).encode()], handles)
        return Process(int(connection.recv(64)), output, connection)
