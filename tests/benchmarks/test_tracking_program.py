"""The program that measures what tracking costs, at toy sizes."""

import json
import math
from pathlib import Path

import pytest

from benchmarks import tracking


def test_all_tables_have_every_row(tmp_path: Path) -> None:
    """Lines, steps and parts are measured beside what they are compared with, each ratio judged by its limit."""
    found = tmp_path / "found.json"
    assert tracking.main(["--toy", "--rounds", "1", "--threads", "1", "--json", str(found)]) == 0
    lines, steps, parts = json.loads(found.read_text())["tables"]
    assert [row[0] for row in lines["rows"]] == [
        "json.dumps and a write", "log_metrics, the journal alone", "log_metrics, with its training.log",
    ]  # fmt: skip
    assert [row[4] for row in lines["rows"]] == [None, "1.5", "3"]
    assert [row[4] for row in steps["rows"]] == [None, "1.02", "1.02", "1.01"]
    assert {row[0] for row in parts["rows"]} == {"logging", "monitors", "usage", "all"}
    assert parts["rows"][-1][2] == pytest.approx(sum(row[2] for row in parts["rows"][:-1]))
    for row in (*lines["rows"], *steps["rows"]):
        assert all(math.isfinite(cell) and cell > 0 for cell in row if isinstance(cell, float))
        assert (row[5] is None) == (row[4] is None)
        if row[3] is not None:
            assert row[5] == ("yes" if row[3] <= float(row[4]) else "NO")
    assert f"{tracking.TOY_STEPS} steps of each, {tracking.TOY_STEPS + 1} lines" in steps["notes"][0]
