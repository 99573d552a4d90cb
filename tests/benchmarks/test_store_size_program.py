"""The program that measures how fast a store is read, at toy size."""

import json
from pathlib import Path

import pytest

from benchmarks import store_size


def test_store_size_has_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both ways read everything, equally, and each has a time."""
    found = tmp_path / "found.json"
    assert store_size.main(["--toy", "--rounds", "1", "--threads", "1", "--markdown", "--json", str(found)]) == 0
    (table,) = json.loads(found.read_text())["tables"]
    names = ["settings and latest metrics", "histories of 3 metrics", "digest of all that"]
    assert [row[0] for row in table["rows"]] == [*names, "digest, in a process of its own"]
    assert all(cell > 0 for row in table["rows"][:3] for cell in row[1:])
    assert "with 5 runs and 400 metric points" in capsys.readouterr().out
