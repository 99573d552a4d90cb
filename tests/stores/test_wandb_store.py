"""The Weights & Biases store in offline mode, read back with W&B's own reader of its files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("wandb", reason="the extra `wandb` is not installed")

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError
from spectral_mlflow.stores.base import RunView, StoreError
from spectral_mlflow.stores.reader import numbers
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.stores.wandb_mode import mode_now

DEADLINE = 240.0


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """A home without keys, and a proxy that whatever goes to the network would have to call."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NETRC", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        yield proxy


def _was_called(proxy: socket.socket) -> bool:
    proxy.setblocking(False)
    try:
        proxy.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _wait_for(true: Callable[[], bool]) -> None:
    pause, deadline = threading.Event(), time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        pause.wait(0.02)


def _state(run: Any) -> StoreState:
    return StoreState.load(RunView(run.directory).state_of("wandb"))


def _services(pid: int) -> list[psutil.Process]:
    """The services that W&B has started for a process."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words and words[0].endswith("wandb-core") and words[-2:] == ["--pid", str(pid)]:
            found.append(process)
    return found


def _records(run: Any) -> list[dict[str, Any]]:
    """What `wandb leet inspect` says of the one file that the run has."""
    (path,) = (run.directory / "wandb").glob("offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "WANDB_ERROR_REPORTING": "false"}
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def _rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record["history"]["item"] for record in records if record["type"] == "history"]


def _stored(run: Any) -> list[tuple[str, int, float, str]]:
    plain = [row for row in _rows(_records(run)) if not any(name.endswith("._type") for name in row)]
    return sorted(
        (name, row["step"], row["_timestamp"], repr(float(value)))
        for row in plain
        for name, value in row.items()
        if name != "step" and not name.startswith("_")
    )


def _written(run: Any) -> list[tuple[str, int, float, str]]:
    return sorted(
        (name, line["step"], journal.milliseconds(line["timestamp"]) / 1000, repr(float(value)))
        for line in run.records()
        for name, value in numbers(line)
    )


def test_every_point_once_although_companion_and_service_are_killed(
    full_run: Callable[..., Any],
    odd_lines: list[Any],
    companion: Callable[..., Any],
    trainer: Callable[[Path], Any],
    network: socket.socket,
) -> None:
    """Name, step, value and time of every point are in one offline file; nobody called the network, nothing is left."""
    run = full_run("wandb")
    process = trainer(run.directory)
    killed = companion(run.directory, "--follow")
    run.steps(1, 100)
    _wait_for(lambda: _state(run).metrics_offset > 0)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    follower = companion(run.directory, "--follow")
    _wait_for(lambda: bool(_services(follower.pid)) and _state(run).events_offset > 0)
    for service in _services(follower.pid):
        service.kill()
    run.steps(101, 300)
    run.lines(*odd_lines)
    run.end()
    process.communicate("")
    assert follower.wait(DEADLINE) == 0
    assert _state(run).closed
    assert _stored(run) == _written(run)
    assert not _was_called(network)
    _wait_for(lambda: not _services(killed.pid) and not _services(follower.pid))


def test_resumed_run_and_what_is_not_a_number(full_run: Callable[..., Any], companion: Callable[..., Any]) -> None:
    """A run that ended twice is one file with its plots, samples, alerts, settings, files, summary and last status."""
    run = full_run("wandb")
    run.file("visualizations/torn_step_1.png", "P")
    run.event("artifact", path="visualizations/torn_step_1.png", kind="plot", step=1)
    run.event("histogram", step=1, path="config.json")
    run.steps(1, 3)
    run.end("FAILED", "no more memory")
    assert companion(run.directory).wait(DEADLINE) == 0
    run.event("resume", step=3)
    run.steps(4, 5)
    run.end()
    assert companion(run.directory).wait(DEADLINE) == 0
    assert _stored(run) == _written(run)
    records = _records(run)
    types: dict[str, list[Any]] = {}
    for record in records:
        types.setdefault(record["type"], []).append(record[record["type"]])
    (told,) = types["run"]
    assert (told["run_id"], told["project"]) == (run.name, "spectral")
    assert told["config"]["update"]["model"]["type"] == "wave"
    rows = {name: row for row in _rows(records) for name in row if name.endswith("._type")}
    assert {name: row["step"] for name, row in rows.items()} == {
        "training/loss._type": 20,
        "sample._type": 10,
        "histograms/weight._type": 5,
    }
    (media,) = (run.directory / "wandb").glob("offline-run-*/files/media")
    assert rows["training/loss._type"]["training/loss.path"] in {
        path.relative_to(media.parent).as_posix() for path in media.rglob("*.png")
    }
    (sample,) = media.rglob("*.html")
    assert "&lt;b&gt;ROMEO" in sample.read_text(encoding="utf-8")
    (alert,) = types["alert"]
    assert (alert["title"], alert["level"]) == ("loss_spike", "ERROR")
    assert alert["text"] == "step 5 (critical): up; likely cause: lr; lower it"
    (artifact,) = types["artifact"]
    assert {entry["path"]: entry["local_path"] for entry in artifact["manifest"]["contents"]} == {
        name: str(run.directory / name)
        for name in (
            "config.json", "results.json", "samples/sample_step_10.txt", "logs/metrics.jsonl", "logs/events.jsonl"
        )
    }  # fmt: skip
    summary = {name: value for update in types["summary"] for name, value in update["update"].items()}
    assert (summary["final/val_loss"], summary["status"]) == (1.5, "FINISHED")
    (ended,) = types["exit"]
    assert ended["exit_code"] == 0
    assert not [path for path in run.directory.rglob("*") if path.is_symlink()]  # So it can be packed and moved.
    _check_tells_what_is_missing(run)


def _check_tells_what_is_missing(run: Any) -> None:
    from spectral_mlflow.stores import wandb_file

    (path,) = (run.directory / "wandb").glob("offline-run-*/*.wandb")
    whole, rows = path.read_bytes(), len(_rows(_records(run)))
    wandb_file.check(path, rows)
    with pytest.raises(StoreError, match=f"{rows} of {rows + 1} rows"):
        wandb_file.check(path, rows + 1)
    for length in [*range(0, len(whole), 53), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError, match="disk full"):
            wandb_file.check(path, rows)
        path.write_bytes(whole[:length] + bytes([whole[length] ^ 1]) + whole[length + 1 :])
        with pytest.raises(StoreError, match="disk full"):
            wandb_file.check(path, rows)


def test_full_disk_is_told_and_mended(new_run: Callable[..., Any], companion: Callable[..., Any]) -> None:
    """A run whose file had no room is not complete, although W&B says nothing; with room it is."""
    run = new_run(stores=["wandb"])
    run.steps(1, 2000)
    run.end()
    folder = run.directory / "wandb"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk cannot be made here")
    try:
        assert companion(run.directory, "--patience", "0").wait(DEADLINE) == 1
        assert "disk full" in str(_state(run).error)
        assert not _state(run).closed
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert companion(run.directory).wait(DEADLINE) == 0
    assert _stored(run) == _written(run)


IMPATIENT = """
import sys
from spectral_mlflow.stores import __main__, wandb, wandb_service
wandb_service.SILENT_SECONDS, wandb.FINISH_SECONDS, wandb.INIT_SECONDS = 15.0, 10.0, 60.0
sys.exit(__main__.main())
"""


def test_service_that_hangs_is_replaced(
    new_run: Callable[..., Any], trainer: Callable[[Path], Any], tmp_path: Path
) -> None:
    """A service that was stopped holds up neither the run nor its end, and every point is there once."""
    run = new_run(stores=["wandb"])
    process = trainer(run.directory)
    program = tmp_path / "impatient.py"
    program.write_text(IMPATIENT)
    follower = subprocess.Popen([sys.executable, str(program), str(run.directory), "--follow", "--poll", "0.05"])
    try:
        run.steps(1, 20)
        _wait_for(lambda: _state(run).metrics_offset > 0)
        (service,) = _services(follower.pid)
        service.suspend()
        run.steps(21, 1000)
        run.end()
        process.communicate("")
        assert follower.wait(DEADLINE) == 0
    finally:
        follower.kill()
        follower.wait()
    assert not service.is_running()
    assert _stored(run) == _written(run)


def test_names_that_w_and_b_does_not_take_as_they_are(
    new_run: Callable[..., Any], companion: Callable[..., Any]
) -> None:
    """Metrics that W&B would drop are found under other names, long runs stay two, and settings cannot harm."""
    stem = "ablation-of-the-wave-attention-with-four-harmonics-and-more"
    names = ["", "_step", "_timestamp", "_runtime", "_type", "_wandb", "journal/metrics"]
    runs = [new_run(f"{stem}_20260131_12000{number}_1a2b3c4d", stores=["wandb"]) for number in (1, 2)]
    for number, run in enumerate(runs):
        run.file("config.json", json.dumps({"config": {"a": 10**400, "path": "caf\udce9"}}))
        run.lines({"step": 1, **{name: place + number + 0.5 for place, name in enumerate(names)}, "caf\udce9": 1.0})
        run.end()
        agent = {"WANDB_SWEEP_ID": "sweep", "WANDB_RUN_ID": "other"}
        assert companion(run.directory, **agent).wait(DEADLINE) == 0
        (row,) = _rows(_records(run))
        assert {name: row[f"metric/{name}"] for name in names} == {
            name: place + number + 0.5 for place, name in enumerate(names)
        }
        assert row["caf?"] == 1.0
    ids = [_state(run).run_id for run in runs]
    assert len(set(ids)) == 2
    for run, run_id in zip(runs, ids, strict=True):
        (folder,) = (run.directory / "wandb").glob("offline-run-*")
        assert folder.name.endswith(f"-{run_id}")
        assert len(str(run_id)) == 64


def test_mode_is_decided_without_asking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """WANDB_MODE decides, then a key in the environment or in netrc; what could only ask is the user's mistake."""
    assert mode_now() == "offline"
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(UserError, match="wandb login"):
        mode_now()
    netrc = tmp_path / "netrc"
    netrc.write_text("machine example.org login user password 0123\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with pytest.raises(UserError):
        mode_now()
    monkeypatch.setenv("WANDB_BASE_URL", "https://example.org/")
    assert mode_now() == "online"
    monkeypatch.delenv("WANDB_MODE")
    assert mode_now() == "online"
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert mode_now() == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(UserError, match="allowed: online, offline"):
        mode_now()
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    assert mode_now() == "online"
