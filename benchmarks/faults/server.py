"""``python -m benchmarks.faults.server SOCKET``: imports everything, then forks for every request."""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

# What train, resume, sync and the companion import on their way, some of it only late.
MODULES = (
    "torch", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.artifact.local_artifact_repo",
    "matplotlib.pyplot", "matplotlib.backends.backend_agg", "safetensors.torch", "torch._dynamo",
    "spectral_mlflow.cli", "spectral_mlflow.training.runner", "spectral_mlflow.training.sampling",
    "spectral_mlflow.monitoring.visualizations", "spectral_mlflow.plots.training", "spectral_mlflow.plots.waves",
    "spectral_mlflow.stores.mlflow", "spectral_mlflow.stores.sync", "spectral_mlflow.stores.companion",
)  # fmt: skip


def preload() -> None:
    """Import everything, with one thread, and keep the collector from touching (and so copying) its pages."""
    for module in MODULES:
        importlib.import_module(module)
    importlib.import_module("torch").set_num_threads(1)
    gc.collect()
    gc.freeze()


class Server:
    """One thread, one loop: a fork for each request, its exit code for the one who asked."""

    def __init__(self, path: str, before: set[str]) -> None:
        self._set_by_imports = {name: value for name, value in os.environ.items() if name not in before}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(path)
        self._listener.listen(64)
        self._children: dict[int, tuple[int, socket.socket]] = {}
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(sys.stdin, selectors.EVENT_READ)

    def serve(self) -> dict[str, Any] | None:
        """Work until the input ends.

        Returns:
            In a fork what it is to do; in the server itself, at its end, None.
        """
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is sys.stdin:
                    self._end()
                    return None
                if key.fileobj is self._listener:
                    request = self._fork()
                    if request is not None:
                        return request
                else:
                    self._reap(key.fd)

    def _fork(self) -> dict[str, Any] | None:
        connection, _ = self._listener.accept()
        message, handles, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        request = json.loads(message)
        pid = os.fork()
        if pid == 0:
            return self._become(request, handles, connection)
        for handle in handles:
            os.close(handle)
        watch = os.pidfd_open(pid)
        self._children[watch] = pid, connection
        self._selector.register(watch, selectors.EVENT_READ)
        if folder := request["environment"].get("FAULTS_PIDS"):
            Path(folder, f"{pid}.json").write_text(json.dumps(request["arguments"]))
        connection.send(b"%d" % pid)
        return None

    def _become(self, request: dict[str, Any], handles: list[int], connection: socket.socket) -> dict[str, Any]:
        """In the fork: let go of everything of the server's, take the standard files and place of a new process."""
        os.setsid()
        self._listener.close()
        self._selector.close()
        connection.close()
        for watch, (_, other) in self._children.items():
            os.close(watch)
            other.close()
        for target, handle in enumerate(handles):
            os.dup2(handle, target)
            os.close(handle)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(self._set_by_imports | request["environment"])
        return request

    def _reap(self, watch: int) -> None:
        pid, connection = self._children.pop(watch)
        self._selector.unregister(watch)
        os.close(watch)
        _, status = os.waitpid(pid, 0)
        with suppress(OSError):  # Whoever asked may have died meanwhile.
            connection.send(b"%d" % os.waitstatus_to_exitcode(status))
        connection.close()

    def _end(self) -> None:
        for pid, _ in self._children.values():
            os.kill(pid, signal.SIGKILL)


def run(request: dict[str, Any]) -> None:
    """Be the program that was asked for."""
    option, module, *arguments = request["arguments"]
    if option != "-m":
        raise SystemExit(f"only -m MODULE is preloaded, given {option}")
    sys.executable = request["executable"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    given = set(os.environ)
    preload()
    server = Server(sys.argv[1], given)
    print("ready", flush=True)
    if (wanted := server.serve()) is not None:
        run(wanted)
