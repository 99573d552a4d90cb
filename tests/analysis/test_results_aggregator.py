"""All experiments in one table."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from spectral_mlflow.analysis import ResultsAggregator
from spectral_mlflow.journal import without_non_finite

METRICS = st.dictionaries(
    st.sampled_from(["val_loss", "best_val_loss", "perplexity", "mine"]), st.floats(allow_nan=False), max_size=4
)


@settings(max_examples=25)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), METRICS, max_size=5))
def test_the_table_has_all_experiments(experiments: dict[str, dict[str, float]]) -> None:
    """Whatever result files there are, each is a row with all its metrics, infinities included."""
    with tempfile.TemporaryDirectory() as name:
        for experiment, metrics in experiments.items():
            content = without_non_finite({"experiment_id": experiment, "status": "completed", "final_metrics": metrics})
            (Path(name) / experiment).mkdir()
            (Path(name) / experiment / "results.json").write_text(json.dumps(content))
        table = ResultsAggregator(name).summary_table().set_index("experiment_id")
    assert sorted(table.index) == sorted(experiments)
    for experiment, metrics in experiments.items():
        assert {key: table.loc[experiment, key] for key in metrics} == metrics


def write(folder: Path, results: str | None, **config: object) -> None:
    """An experiment with these files."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if results is not None:
        (folder / "results.json").write_text(results)


def test_experiments_without_results_are_named(tmp_path: Path) -> None:
    """A running, a damaged and an empty one are rows too; nothing hides the others."""
    config = {"model": {"type": "wave", "num_parameters": 9}, "config": {"training": {"seed": 3}}}
    write(tmp_path / "running", None, **config)
    write(tmp_path / "torn", '{"final_metrics": {"val')
    write(tmp_path / "list", "[]")
    write(tmp_path / "odd", '{"final_metrics": 3, "status": "failed"}', config={"training": {}})
    write(tmp_path / "good", '{"final_metrics": {"best_val_loss": 2.5}, "status": "completed"}')
    aggregator = ResultsAggregator(tmp_path)
    table = aggregator.summary_table().set_index("experiment_id")
    assert table["status"].to_dict() == {
        "good": "completed", "list": "no results", "odd": "failed", "running": "no results", "torn": "no results",
    }  # fmt: skip
    assert (table.loc["running", "model"], table.loc["running", "seed"]) == ("wave", 3)
    assert aggregator.best() == "good"
    assert aggregator.best("mine") is None


def test_the_best_by_either_direction(tmp_path: Path) -> None:
    """Experiments without the metric do not count."""
    for name, value in (("a", 1.0), ("b", 3.0), ("c", None)):
        write(tmp_path / name, json.dumps({"final_metrics": {} if value is None else {"score": value}}))
    assert ResultsAggregator(tmp_path).best("score") == "a"
    assert ResultsAggregator(tmp_path).best("score", maximize=True) == "b"


def test_the_summary_as_a_file(tmp_path: Path) -> None:
    """CSV, JSON and Markdown by the name of the file; marks of Markdown stay text."""
    write(tmp_path / "runs" / "a|b", '{"final_metrics": {"best_val_loss": 2.5}}')
    aggregator = ResultsAggregator(tmp_path / "runs")
    table = pd.read_csv(aggregator.save_summary(tmp_path / "summary.csv"))
    assert table["best_val_loss"].tolist() == [2.5]
    assert json.loads(aggregator.save_summary(tmp_path / "summary.json").read_text())[0]["experiment_id"] == "a|b"
    assert r"| a\|b | completed |" in aggregator.save_summary(tmp_path / "summary.md").read_text()


def test_an_empty_folder(tmp_path: Path) -> None:
    """No experiments are an empty table, which can be written all the same."""
    aggregator = ResultsAggregator(tmp_path / "nothing")
    assert aggregator.summary_table().empty
    assert aggregator.best() is None
    assert aggregator.save_summary(tmp_path / "summary.md").read_text().startswith("| experiment_id |")
    assert math.isclose(len(aggregator.load_results()), 0)
