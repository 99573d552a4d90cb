"""The program that measures what plots cost, at toy sizes."""

import json
import math
from pathlib import Path

from benchmarks import plots


def test_both_tables_have_every_row(tmp_path: Path) -> None:
    """Whole runs with plots and without, and the plots of a model, each judged by its limit."""
    found = tmp_path / "found.json"
    assert plots.main(["--toy", "--rounds", "1", "--threads", "1", "--json", str(found)]) == 0
    runs, drawn = json.loads(found.read_text())["tables"]
    assert [row[0] for row in runs["rows"]] == list(plots.ARMS)
    assert all(math.isfinite(row[1]) and row[2] <= row[1] <= row[3] for row in runs["rows"])
    assert [row[6] for row in runs["rows"]][::2] == [None, None]
    assert runs["rows"][1][6] == ("yes" if runs["rows"][1][4] <= plots.WHOLE_RUN else "NO")
    assert int(runs["notes"][0].rpartition(", ")[2].split()[0]) > 20
    assert [row[4] for row in drawn["rows"]] == ["yes" if row[2] < plots.MODEL_PLOTS else "NO" for row in drawn["rows"]]
    assert {row[1] for row in drawn["rows"]} == {9}  # Six of waves, two of attention, one of parameters.
