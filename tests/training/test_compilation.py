"""torch.compile, with a compiler and without one; in processes of their own, since it warns and starts others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.training import runner

PROGRAM = """
import json, sys
from spectral_mlflow.settings import parse
from spectral_mlflow.training import runner
finished = runner.start(parse(json.loads(sys.argv[1])))
print(finished.run_dir)
"""


def train(config: ExperimentConfig, cache: Path, **environment: str) -> tuple[Path, str]:
    """Run directory and console of a compiled run."""
    settings = config.to_dict()
    settings["runtime"]["compile"] = True
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(settings)], capture_output=True, text=True, check=False,
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip().splitlines()[-1]), done.stderr


def losses(run_dir: Path) -> list[float]:
    """Of all steps."""
    return [line["loss"] for line in journal.records(run_dir / "logs" / "metrics.jsonl")]


def results(run_dir: Path) -> dict[str, Any]:
    """The final metrics of results.json."""
    return dict(json.loads((run_dir / "results.json").read_text())["final_metrics"])


def alerts(run_dir: Path) -> list[dict[str, Any]]:
    """What a person should look at."""
    return [event for event in journal.records(run_dir / "logs" / "events.jsonl") if event["event"] == "alert"]


@pytest.mark.skipif(not shutil.which("g++"), reason="no g++ on this machine")
def test_a_compiled_run_is_the_same_but_for_rounding(tiny: ExperimentConfig, tmp_path: Path) -> None:
    """Losses agree with the uncompiled run, and the seconds of the compiler are not in those of training."""
    run, console = train(tiny, tmp_path / "inductor")
    assert alerts(run) == []
    assert losses(run) == pytest.approx(losses(runner.start(tiny).run_dir), abs=1e-4)
    assert "which do not count as training" in console
    assert results(run)["compile_seconds"] > results(run)["total_time_seconds"]


def test_without_a_compiler_training_goes_on(tiny: ExperimentConfig, tmp_path: Path) -> None:
    """A compiler that is not there is named in one line, and the run is to the last bit the uncompiled one."""
    config = replace(tiny, model=tiny.model.of_type("standard"))
    run, console = train(config, tmp_path / "inductor", CXX=str(tmp_path / "no-such-compiler"))
    (alert,) = alerts(run)
    assert alert["kind"] == "compile"
    assert "no-such-compiler" in alert["message"]
    assert "\n" not in alert["message"]
    assert alert["message"] in console
    assert losses(run) == losses(runner.start(config).run_dir)
    assert results(run)["compile_seconds"] > 0
