"""What the doctor says, and that its advice mends what it names."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spectral_mlflow.cli import main
from spectral_mlflow.stores import sync
from spectral_mlflow.stores.doctor import examine


def _wrong(run_dir: Path, store: str) -> list[str]:
    return [f.fix for f in examine(run_dir.parent, store) if f.fix is not None and not f.fix.startswith("spectral gc")]


def _mend(advice: str) -> None:
    words = shlex.split(advice)
    if words[0] == "rm":
        for path in words[1:]:
            Path(path).unlink()
    else:
        assert words[0] == "spectral"
        assert main(words[1:]) == 0


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
