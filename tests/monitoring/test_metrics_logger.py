"""MetricsLogger: persistence, completeness and validity of metrics.jsonl."""

import fractions
import json
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import MetricsLogger, StructuredLog

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in ("step", "timestamp", "invalid")
)
METRICS = st.dictionaries(NAMES, st.floats() | st.integers(-(2**60), 2**60), max_size=6)


def lines(logger: MetricsLogger) -> list[dict[str, Any]]:
    """What any JSON parser sees in the file."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in logger.path.read_bytes().splitlines()]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equality in which NaN equals NaN."""
    return {name: str(value) for name, value in one.items()} == {name: str(value) for name, value in other.items()}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**9), METRICS), max_size=5))
def test_every_line_is_there_when_the_call_returns(written: list[tuple[int, dict[str, float]]]) -> None:
    """Property 5 to 7: each line is valid JSON on disk at once, in order, and comes back as it was given."""
    with tempfile.TemporaryDirectory() as folder, MetricsLogger(folder) as logger:
        for count, (step, metrics) in enumerate(written, 1):
            logger.log_metrics(step, metrics)
            assert len(lines(logger)) == count
            assert lines(logger)[-1]["step"] == step
            assert logger.get_latest_step() == step
        loaded = MetricsLogger(folder).load_metrics()
    for record, (step, metrics) in zip(loaded, written, strict=True):
        assert list(record)[:2] == ["step", "timestamp"]
        assert journal.milliseconds(record.pop("timestamp")) > 0
        assert same(record, {"step": step, **metrics})


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        (torch.tensor(1.5, requires_grad=True), 1.5),
        (torch.tensor([[2]]), 2),
        (np.float32(0.5), 0.5),
        (np.float64(0.25), 0.25),
        (np.int64(3), 3),
        (np.array([4.0]), 4.0),
        (True, 1),
        (fractions.Fraction(1, 4), 0.25),
        (10**20, 10**20),
    ],
)
def test_whatever_is_one_number_counts_as_one(tmp_path: Path, given_value: Any, expected: float) -> None:
    """Tensors and arrays of one element and all kinds of numbers are written as plain numbers."""
    with MetricsLogger(str(tmp_path)) as logger:
        logger.log_metrics(np.int64(1), {"loss": given_value})
        (record,) = lines(logger)
    assert (record["step"], record["loss"]) == (1, expected)
    assert type(record["loss"]) is type(expected)


@pytest.mark.parametrize(
    "bad", ["1.0", None, [1.0], {}, torch.ones(2), np.ones(3), 1j, torch.tensor(1j), 10**400, object()]
)
def test_what_is_no_number_is_refused_by_name(tmp_path: Path, bad: Any) -> None:
    """A metric that is no number raises with its name, writes nothing and spoils no later line."""
    with MetricsLogger(str(tmp_path)) as logger:
        with pytest.raises(TypeError, match=r"metric 'val/loss': given"):
            logger.log_metrics(1, {"loss": 1.0, "val/loss": bad})
        logger.log_metrics(2, {"loss": 1.0})
        assert [record["step"] for record in lines(logger)] == [2]


def test_names_that_the_line_needs_itself(tmp_path: Path) -> None:
    """A metric cannot replace the step or the time, be called like the NaN marker, or have no text as name."""
    with MetricsLogger(str(tmp_path)) as logger:
        logger.log_metrics(5, {"step": 9, "loss": 1.0, "timestamp": 0.0})
        (record,) = logger.load_metrics()
        assert record["step"] == 5
        assert journal.milliseconds(record["timestamp"]) > 0
        with pytest.raises(UserError, match="metric 'invalid': given a name"):
            logger.log_metrics(6, {"invalid": 1.0})
        with pytest.raises(TypeError, match="metric 3: given a name of type int"):
            logger.log_metrics(6, {3: 1.0})  # type: ignore[dict-item]


def test_invalid_number_is_marked_and_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """NaN and infinities stay in the line as null with their true value beside; one warning a name."""
    with MetricsLogger(str(tmp_path)) as logger:
        for step in (1, 2):
            logger.log_metrics(step, {"loss": math.nan, "grad/norm": torch.tensor(math.inf)})
        first = lines(logger)[0]
        assert (first["loss"], first["grad/norm"]) == (None, None)
        assert first["invalid"] == {"loss": "nan", "grad/norm": "inf"}
        assert [math.isnan(line["loss"]) for line in logger.load_metrics()] == [True, True]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "metric loss is nan at step 1" in caplog.records[0].getMessage()
    assert (tmp_path / "training.log").read_text().count("[WARNING]") == 2


@given(interval=st.integers(1, 50), step=st.integers(0, 500))
def test_lines_are_due_at_multiples_of_the_interval(interval: int, step: int) -> None:
    """Every multiple of the interval is due, nothing else is."""
    with tempfile.TemporaryDirectory() as folder:
        assert MetricsLogger(folder, interval).should_log(step) == (step in range(0, 501, interval))


def test_interval_below_one_is_refused(tmp_path: Path) -> None:
    """An interval of 0 is a user's mistake."""
    with pytest.raises(UserError, match="log_interval: given 0; allowed: 1 or more"):
        MetricsLogger(str(tmp_path), 0)


def test_unflushed_lines_wait_for_the_next_flush(tmp_path: Path) -> None:
    """Without flush a line is not yet on disk, but in order with the next one that is, or on closing."""
    logger = MetricsLogger(str(tmp_path))
    logger.log_metrics(1, {"loss": 1.0}, flush=False)
    assert not logger.path.exists()
    assert logger.get_latest_step() == 1
    logger.log_metrics(2, {"loss": 1.0})
    logger.log_metrics(3, {"loss": 1.0}, flush=False)
    assert [record["step"] for record in lines(logger)] == [1, 2]
    logger.close()
    assert [record["step"] for record in lines(logger)] == [1, 2, 3]


def test_logger_that_comes_later_goes_on_behind(tmp_path: Path) -> None:
    """A second logger appends; the latest step is 0 without lines and else that of the last line."""
    assert MetricsLogger(str(tmp_path)).get_latest_step() == 0
    for step in (10, 20):
        with MetricsLogger(str(tmp_path)) as logger:
            logger.log_metrics(step, {"loss": 1.0})
            logger.sync()
    assert MetricsLogger(str(tmp_path)).get_latest_step() == 20


@pytest.mark.parametrize("width", [10, 70_000])
def test_latest_step_of_a_large_file_is_found(tmp_path: Path, width: int) -> None:
    """The last step is right in a file larger than what is read at once, whatever the length of its lines."""
    with StructuredLog(tmp_path / "run.log") as log, MetricsLogger(str(tmp_path), log=log) as logger:
        for step in range(1, 3_000_000 // (width + 100)):
            logger.log_metrics(step, {"x" * width: 1.0})
        with logger.path.open("ab") as file:
            file.write(b'{"step": 99')
    assert MetricsLogger(str(tmp_path)).get_latest_step() == step


def test_reading_a_run_in_progress_touches_nothing(tmp_path: Path) -> None:
    """A logger that only reads leaves a line that another process is writing, and makes no file."""
    reader = MetricsLogger(str(tmp_path))
    assert (reader.load_metrics(), list(tmp_path.iterdir())) == ([], [])
    reader.path.write_bytes(b'{"step": 1}\n{"step": 2')
    assert [record["step"] for record in reader.load_metrics()] == [1]
    assert reader.get_latest_step() == 1
    reader.close()
    assert reader.path.read_bytes() == b'{"step": 1}\n{"step": 2'


def test_standing_alone_it_writes_a_log_for_people(tmp_path: Path) -> None:
    """Without a log of the run each line is also an entry of training.log."""
    with MetricsLogger(str(tmp_path)) as logger:
        logger.log_metrics(20, {"loss": 1.234, "val_loss": 1.5, "learning_rate": 3e-4})
    assert (tmp_path / "training.log").read_text().splitlines()[1:] == [
        "  - Step: 20",
        "  - Losses: {loss: 1.23, val_loss: 1.50}",
        "  - learning_rate: 0.0003",
    ]


def test_with_a_log_of_the_run_it_leaves_progress_to_its_owner(tmp_path: Path) -> None:
    """A log that is passed in gets warnings only, and is not closed with the logger."""
    with StructuredLog(tmp_path / "run.log") as log:
        with MetricsLogger(str(tmp_path / "logs"), log=log) as logger:
            logger.log_metrics(1, {"loss": 1.0})
            logger.log_metrics(2, {"loss": math.nan})
        log.entry("INFO", "test", "still open")
    text = (tmp_path / "run.log").read_text()
    assert [line.split("] ", 1)[1] for line in text.splitlines()] == [
        "[WARNING] [metrics_logger] metric loss is nan at step 2; marked as invalid, training goes on",
        "[INFO] [test] still open",
    ]
    assert not (tmp_path / "logs" / "training.log").exists()


def test_killed_writer_loses_no_acknowledged_line(tmp_path: Path) -> None:
    """Property 6: after kill -9 amid writing, every line whose call had returned is there, in order and valid."""
    code = (
        "import os, sys\n"
        "from spectral_mlflow.monitoring import MetricsLogger\n"
        "logger = MetricsLogger(sys.argv[1], 1)\n"
        "for step in range(1, 10**9):\n"
        "    logger.log_metrics(step, {'loss': 1 / step, 'learning_rate': 1e-3})\n"
        "    os.write(1, b'%d\\n' % step)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        first = [int(child.stdout.readline()) for _ in range(500)]
        os.kill(child.pid, signal.SIGKILL)
        acknowledged = max([*first, *map(int, child.stdout.read().splitlines())])
    loaded = MetricsLogger(str(tmp_path)).load_metrics()
    assert [record["step"] for record in loaded[:acknowledged]] == list(range(1, acknowledged + 1))
    assert len(loaded) - acknowledged in (0, 1)
    assert all(record["loss"] == 1 / record["step"] for record in loaded)
