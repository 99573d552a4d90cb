"""What the doctor says, and that its advice mends what it names."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient, experiments, runs

from spectral_mlflow.cli import main
from spectral_mlflow.stores import sync
from spectral_mlflow.stores.doctor import examine


def _wrong(run_dir: Path, store: str) -> list[str]:
    return [f.fix for f in examine(run_dir.parent, store) if f.fix is not None and not f.fix.startswith("spectral gc")]


def _mend(advice: str) -> None:
    """Do what a shell would do with the advice."""
    words = shlex.split(advice, comments=True)
    if "&&" in words:
        first, then = words[: words.index("&&")], words[words.index("&&") + 1 :]
        _mend(shlex.join(first))
        _mend(shlex.join(then))
    elif words[:2] == ["rm", "-r"]:
        shutil.rmtree(words[2])
    elif words[0] == "rm":
        for path in words[1:]:
            Path(path).unlink()
    elif words[0] == "mv":
        Path(words[1]).rename(words[2])
    elif words[0].startswith("MLFLOW_TRACKING_URI="):
        name, _, uri = words[0].partition("=")
        assert words[1] == "mlflow"
        commands = {"runs": runs.commands, "experiments": experiments.commands}[words[2]]
        assert CliRunner(env={name: uri}).invoke(commands, words[3:]).exit_code == 0
    else:
        assert words[0] == "spectral"
        assert main([*words[1:], *(["--yes"] if words[1] == "delete" else [])]) == 0


def test_healthy(trained: Path, store: str) -> None:
    """A run that is in its store and a store that answers: nothing to mend."""
    sync.sync([trained], store)
    assert _wrong(trained, store) == []
    said = {finding.subject: finding.text for finding in examine(trained.parent, store)}
    assert "answers in" in said["store"]
    assert "torch" in said["versions"]


def test_run_that_is_behind(new_run: Callable[..., Any], store: str) -> None:
    """A killed run that nobody has sent is sent by the command that the doctor names."""
    run = new_run()
    run.steps(1, 5)
    (advice,) = _wrong(run.directory, store)
    _mend(advice)
    assert _wrong(run.directory, store) == []


def test_running_in_the_store_alone(new_run: Callable[..., Any], store: str, trainer: Callable[[Path], Any]) -> None:
    """A run that MLflow calls running, and whose directory is lost, is made again and can then be closed."""
    run = new_run(host="")
    process = trainer(run.directory)
    run.steps(1, 5)
    run.event("artifact", path="config.json", kind="config", step=None)
    sync.sync([run.directory], store)
    process.communicate("")
    shutil.rmtree(run.directory)
    (advice,) = _wrong(run.directory, store)
    assert advice.startswith("spectral rebuild")
    _mend(advice)
    while left := _wrong(run.directory, store):
        _mend(left[0])
    assert len(run.records()) == 5


def test_damage_and_leftovers(trained: Path, store: str) -> None:
    """A damaged newest checkpoint and a temporary file of a dead process are named with what removes them."""
    sync.sync([trained], store)
    newest = max((trained / "checkpoints").glob("checkpoint_step_*.pt"), key=lambda path: int(path.stem.split("_")[-1]))
    content = bytearray(newest.read_bytes())
    content[100] ^= 1
    newest.write_bytes(content)
    (trained / "checkpoints" / ".checkpoint_step_9.pt.1.tmp").write_bytes(b"half")
    advice = _wrong(trained, store)
    assert [newest.name in one for one in advice] == [True, False]
    for one in advice:
        _mend(one)
    assert _wrong(trained, store) == []


@pytest.mark.parametrize("whole", [False, True])
def test_run_in_the_trash(new_run: Callable[..., Any], store: str, whole: bool) -> None:
    """A run that MLflow has in its trash, alone or with its experiment, is taken out before it is sent."""
    run = new_run()
    run.steps(1, 5)
    sync.sync([run.directory])
    client, state = MlflowClient(tracking_uri=store), run.state()
    if whole:
        client.delete_experiment(state["experiment_id"])
    else:
        client.delete_run(state["run_id"])
    assert _wrong(run.directory, store) == []
    run.steps(6, 7)
    (advice,) = _wrong(run.directory, store)
    assert "sync" not in advice
    _mend(advice)
    (advice,) = _wrong(run.directory, store)
    assert advice.startswith("spectral sync")
    _mend(advice)
    assert _wrong(run.directory, store) == []
    assert len(client.get_metric_history(state["run_id"], "loss")) == 7


@pytest.mark.parametrize("left", [b"", b'{"event": "sta', None])
def test_run_without_a_start(new_run: Callable[..., Any], store: str, left: bytes | None) -> None:
    """A run whose journal a power cut took at once is removed, not sent."""
    run = new_run()
    events = run.directory / "logs" / "events.jsonl"
    events.unlink()
    if left is not None:
        events.write_bytes(left)
    (advice,) = _wrong(run.directory, store)
    assert advice.startswith("rm -r" if left is None else "spectral delete")
    _mend(advice)
    assert not run.directory.exists()
    assert _wrong(run.directory, store) == []


def test_run_without_a_start_that_was_sent(
    new_run: Callable[..., Any], store: str, trainer: Callable[[Path], Any]
) -> None:
    """What MLflow has of a run whose journals are lost is taken from there, and nothing is deleted."""
    run = new_run(host=socket.gethostname(), pid=1)
    process = trainer(run.directory)
    run.steps(1, 5)
    run.event("artifact", path="config.json", kind="config", step=None)
    sync.sync([run.directory])
    process.communicate("")
    for name in ("events", "metrics"):
        (run.directory / "logs" / f"{name}.jsonl").write_bytes(b"")
    (advice,) = _wrong(run.directory, store)
    _mend(advice)
    while left := _wrong(run.directory, store):
        _mend(left[0])
    assert len(run.records()) == 5
    assert MlflowClient(tracking_uri=store).get_run(run.state()["run_id"]).info.status == "KILLED"


def test_half_of_what_dead_processes_made(new_run: Callable[..., Any], store: str) -> None:
    """Folders of an import, a rebuild, an export and a removal are named and go; those of living processes stay."""
    run_dir = new_run().directory
    folder = run_dir.parent
    sync.sync([run_dir])
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale = [f".import.{dead.pid}", ".removed.wave_1", ".rebuild.wave_2", ".export.abc"]
    for name in (*stale, f".import.{os.getpid()}", ".rebuild.wave_3", ".lost.wave_4", ".git"):
        (folder / name).mkdir()
        (folder / name / "half").write_bytes(b"half")
    for path in folder.glob(".[re]*.*[2c]"):
        os.utime(path / "half", (0, 0))
        os.utime(path, (0, 0))
    advice = _wrong(run_dir, store)
    assert sorted(advice) == sorted(f"rm -r {folder / name}" for name in stale)
    for one in advice:
        _mend(one)
    assert _wrong(run_dir, store) == []


def test_run_that_cannot_be_read(new_run: Callable[..., Any], store: str) -> None:
    """It is one line, and the runs behind it are looked at."""
    bad, good = new_run("a_1"), new_run("b_2")
    events = bad.directory / "logs" / "events.jsonl"
    events.unlink()
    events.mkdir()
    advice = _wrong(good.directory, store)
    assert [str(events) in one for one in advice] == [True, False]
    assert "sync" in advice[1]


def test_other_users_run(new_run: Callable[..., Any], store: str) -> None:
    """One that this user has no right to read is not taken for one without a journal."""
    run = new_run()
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    for path in (run.directory / "logs" / "events.jsonl", run.directory / "logs", run.directory):
        mode = path.stat().st_mode
        path.chmod(0)
        (advice,) = _wrong(run.directory, store)
        path.chmod(mode)
        assert advice.startswith("chmod -R u+rwX")


def test_exit_codes(
    new_run: Callable[..., Any], store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 where something is wrong, with a line for each; 0 otherwise; 2 for a mistake of the user."""
    assert main(["doctor", "--tracking-uri", store]) == 0
    new_run().steps(1, 2)
    assert main(["doctor", "--tracking-uri", store]) == 1
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG") and "sync" in line]
    silent = tmp_path / "silent.db"
    silent.write_bytes(b"no database" * 100)
    assert main(["doctor", "--tracking-uri", f"sqlite:///{silent}"]) == 1
    assert main(["doctor", "--tracking-uri", "ftp://host"]) == 2


def test_rebuild_command(
    new_run: Callable[..., Any], store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`spectral rebuild` sends a run again, makes a lost directory again, and names what it does not know."""
    run = new_run()
    run.steps(1, 5)
    assert main(["rebuild", run.name]) == 0
    run_id = json.loads((run.directory / "stores" / "mlflow.json").read_text())["run_id"]
    shutil.rmtree(run.directory)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert main(["rebuild", run_id]) == 0
    assert len(run.records()) == 5
    assert main(["rebuild", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err
