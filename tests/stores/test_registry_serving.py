"""The way of a model from its run to somebody who asks it over HTTP, with MLflow's own server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spectral_mlflow.cli import main

DEADLINE = 180.0


def ask(address: str, request: Any) -> tuple[int, Any]:
    """Status and content of an answer."""
    post = urllib.request.Request(  # noqa: S310 - our own address
        f"{address}/invocations", json.dumps(request).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(post, timeout=DEADLINE) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


@pytest.fixture
def server(trained: Path, store: str, tmp_path: Path) -> Iterator[str]:
    """Address of `mlflow models serve` with the champion of the store."""
    assert main(["register", trained.name, "--tracking-uri", store, "--alias", "champion"]) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scripts = Path(sys.executable).parent
    command = ["models", "serve", "-m", "models:/spectral-wave@champion", "--env-manager", "local", "--port", str(port)]
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [str(scripts / "mlflow"), *command], stdout=log, stderr=log, cwd=tmp_path, start_new_session=True,
            env={**os.environ, "MLFLOW_TRACKING_URI": store, "PATH": f"{scripts}:{os.environ['PATH']}"},
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, process, tmp_path / "serve.log")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    pause, deadline = threading.Event(), time.monotonic() + DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/ping", timeout=5):  # noqa: S310
                return
        except OSError:
            pause.wait(0.1)
    pytest.fail(log.read_text())


def test_the_champion_answers(server: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text request is answered as `spectral sample` answers it with the same seed; a bad one with 400 and a line."""
    capsys.readouterr()
    assert main(["sample", trained.name, "--prompt", "the ", "--tokens", "50", "--seed", "7", "--stop", "\\n\\n"]) == 0
    sampled = capsys.readouterr().out.removesuffix("\n")
    params: dict[str, Any] = {"max_tokens": 50, "temperature": 0.8, "seed": 7, "stop": ["\n\n"]}
    status, answer = ask(server, {"inputs": ["the ", "and "], "params": params})
    assert status == 200
    assert answer["predictions"][0] == sampled
    assert answer["predictions"][1].startswith("and ")
    assert len(sampled) > len("the ")
    status, answer = ask(server, {"inputs": ["the "], "params": {"top_p": 1.5}})
    assert status == 400
    assert answer["message"].endswith("top_p: given 1.5; allowed: above 0, at most 1, or leave it out")
    assert "Traceback" not in str(answer)
