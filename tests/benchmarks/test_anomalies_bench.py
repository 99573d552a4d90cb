"""The program that measures how well anomalies are found, at toy sizes, and how it counts."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.anomalies import __main__ as program
from benchmarks.anomalies.faults import INJECTIONS, MEASURED, WHOLE
from benchmarks.anomalies.scoring import Score
from benchmarks.anomalies.training import new_run
from spectral_mlflow.monitoring.anomalies import KINDS
from spectral_mlflow.monitoring.monitor import Alert

ROOT = Path(__file__).parent.parent.parent


def test_every_kind_has_a_row(tmp_path: Path) -> None:
    """Each fault is injected once into real runs, and what was told of it is counted and judged."""
    found = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.anomalies", "--toy", "--corpus", "python-docs", "--json", str(found)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wanted, kinds, totals = json.loads(found.read_text())["tables"]
    assert [row[0] for row in kinds["rows"]] == list(KINDS) == list(dict.fromkeys(KINDS))
    assert set(KINDS) == set(INJECTIONS) | set(MEASURED) | set(WHOLE)
    assert [row[1] for row in kinds["rows"]] == [1] * len(KINDS)
    by_name = {row[0]: row for row in kinds["rows"]}
    assert [by_name[kind][2] for kind in ("non_finite", "learning_rate")] == [1, 1], "found even in short runs"
    assert [row[0] for row in totals["rows"]] == [program.OURS, program.FIXED]
    assert [row[4] for row in totals["rows"]] == [60, 60], "healthy steps"
    for name, value, target, reached in wanted["rows"]:
        bound = float(target.split()[-1])
        holds = value is not None and (value >= bound if "at least" in target else value <= bound)
        assert reached == ("yes" if holds else "NO"), name


def test_counting() -> None:
    """Found, missed, told besides, told neutrally, told too early, and told of a healthy run."""
    score = Score()
    score.healthy(500, [(40, Alert("plateau", "warning", ""))])
    score.fault("loss_spike", 10, [(12, Alert("loss_spike", "warning", "")), (30, Alert("loss_spike", "warning", ""))])
    score.fault("loss_spike", 10, [(5, Alert("loss_spike", "warning", ""))])
    score.fault("divergence", 10, [(14, Alert("oscillation", "warning", "")), (15, Alert("plateau", "warning", ""))],
                ("plateau",))  # fmt: skip
    assert (score.recall("loss_spike"), score.recall("divergence")) == (0.5, 0)
    assert score.precision("loss_spike") == 0.5
    assert score.precision("plateau") == score.precision("oscillation") == 0
    assert score.precision("memory_growth") is None
    assert (score.delay("loss_spike"), score.delay("divergence")) == (2, None)
    assert score.false_rate() == score.false_rate("plateau") == 2
    assert dict(score.instead["divergence"]) == {"oscillation": 1}
    assert dict(score.instead["loss_spike"]) == {"loss_spike": 1}


@pytest.mark.parametrize(("option", "value"), [("--seeds", "0"), ("--first-seed", "many"), ("--first-seed", "-1")])
def test_a_wrong_option_is_a_mistake(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line before any work, with exit code 2."""
    assert program.main([option, value]) == 2
    assert f"{option}" in capsys.readouterr().err


def test_faults_of_measurements_begin_where_they_should() -> None:
    """Records before the start are what they were, later ones have only the one value changed."""
    records = list(new_run(0, "python-docs", steps=12).records(12))
    for name, metric in (("memory_growth", "system/rss_mb"), ("throughput_drop", "tokens_per_sec")):
        changed = MEASURED[name](np.random.default_rng(0), 8, records)
        for old, new in zip(records, changed, strict=True):
            differing = {key for key in old.metrics if old.metrics[key] != new.metrics[key]}
            assert differing <= ({metric} if old.step >= 8 else set())
        assert changed[9].metrics[metric] != records[9].metrics[metric]
        assert all(math.isfinite(record.metrics.get(metric, 0.0)) for record in changed)
