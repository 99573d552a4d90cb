"""A real MLflow server on this machine, and something in front of it that misbehaves on demand."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

Mode = Literal["pass", "500", "hang", "refuse"]

START_SECONDS = 120.0
ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TrackingServer:
    """``mlflow server`` with a sqlite database and its artifacts in a folder."""

    def __init__(self, folder: Path) -> None:
        """Nothing is started yet.

        Args:
            folder: where the database is, or will be.
        """
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            TimeoutError: it does not.
        """
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}",
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # Four processes that no run needs.
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError(f"mlflow server does not start; {self.folder / 'server.log'} says why")
            time.sleep(0.1)

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def stop(self) -> None:
        """End it and its workers."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Proxy:
    """Passes connections on to a port, or answers 500, or accepts and says nothing, or refuses.

    Attributes:
        port: where it listens.
        accepted: connections so far.
    """

    def __init__(self, target: int) -> None:
        """Listen and pass on.

        Args:
            target: port of the server behind.
        """
        self.port = free_port()
        self.accepted = 0
        self._target = target
        self._mode: Mode = "pass"
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def uri(self) -> str:
        """The address to send to."""
        return f"http://127.0.0.1:{self.port}"

    def become(self, mode: Mode) -> None:
        """Behave so from now on; connections that are open are cut, but for hanging, which they begin to do."""
        self._mode = mode
        if mode == "refuse":
            self.close()
        elif self._listener is None:
            self._listen()
        if mode != "hang":
            self._cut()

    def close(self) -> None:
        """Listen no more."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._cut()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _cut(self) -> None:
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # It was closed.
            while True:
                connection = listener.accept()[0]
                self.accepted += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._held(client), suppress(OSError):
            if self._mode == "500":
                client.recv(65536)
                client.sendall(ERROR)
            elif self._mode == "hang":
                while client.recv(65536):
                    pass
            else:
                with self._held(socket.create_connection(("127.0.0.1", self._target))) as server:
                    back = threading.Thread(target=self._copy, args=(server.socket, client), daemon=True)
                    back.start()
                    self._copy(client, server.socket)
                    back.join()

    def _held(self, connection: socket.socket) -> _Held:
        return _Held(connection, self._open, self._lock)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._mode != "hang":
                    target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


class _Held:
    """A connection that can be cut as long as it is in use."""

    def __init__(self, connection: socket.socket, held: set[socket.socket], lock: threading.Lock) -> None:
        self.socket, self._all, self._lock = connection, held, lock

    def __enter__(self) -> Self:
        with self._lock:
            self._all.add(self.socket)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._all.discard(self.socket)
        self.socket.close()
