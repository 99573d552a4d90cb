"""What detectors remember: exact, plain, and enough."""

import io
import math
from dataclasses import replace

import pytest
import torch
from anomaly_streams import START, alerts, anomalies, changed, healthy
from hypothesis import given, settings
from hypothesis import strategies as st

from spectral_mlflow.monitoring.monitor import StepRecord

HEALTHY = healthy()
VALUES = st.one_of(st.floats(1e-6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf, 0.0]))
CHANGES = st.dictionaries(
    st.integers(1, len(HEALTHY)),
    st.dictionaries(st.sampled_from([*HEALTHY[149].metrics, "block_size", "gpu_memory_mb"]), VALUES, max_size=3),
    max_size=40,
)


def stream(changes: dict[int, dict[str, float]]) -> list[StepRecord]:
    """The healthy stream, with other values at some steps; each holds on for some steps more."""
    records = []
    for record in HEALTHY:
        given = {name: value for first in range(record.step - 6, record.step + 1)
                 for name, value in changes.get(first, {}).items()}  # fmt: skip
        records.append(replace(record, metrics={**record.metrics, **given}))
    return records


@settings(max_examples=25, deadline=None)
@given(changes=CHANGES, cut=st.integers(0, len(HEALTHY)))
def test_a_resumed_monitor_tells_the_same(changes: dict[int, dict[str, float]], cut: int) -> None:
    """Stopped at any step and gone on from a file, it gives the alerts of one that was never stopped."""
    records = stream(changes)
    whole = anomalies()
    before, after = alerts(records[:cut], whole), None
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    after = alerts(records[cut:], whole)
    resumed = anomalies()
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert alerts(records[cut:], resumed) == after
    assert str(resumed.state_dict()) == str(whole.state_dict())
    assert alerts(records) == before + after


def test_a_state_is_a_copy() -> None:
    """Going on changes neither the state that was taken nor the one that was given."""
    one, other = anomalies(), anomalies()
    alerts(HEALTHY[:100], one)
    state = one.state_dict()
    before = str(state)
    other.load_state_dict(state)
    for monitor in (one, other):
        alerts(HEALTHY[100:], monitor)
    assert str(state) == before


def test_a_detector_that_is_new_begins_anew() -> None:
    """The state of a version with fewer detectors can be gone on from."""
    one, other = anomalies(), anomalies()
    alerts(HEALTHY[:100], one)
    state = one.state_dict()
    del state["detectors"]["memory"]
    other.load_state_dict(state)
    assert other.state_dict()["detectors"]["loss"] == state["detectors"]["loss"]
    assert other.state_dict()["detectors"]["memory"] == anomalies().state_dict()["detectors"]["memory"]


@pytest.mark.parametrize(
    ("loss", "norm", "skipped"),
    [(2.4, 0.8, False), (2.6, 1.2, False), (9.0, 0.8, True), (2.4, 80.0, True), (math.nan, 0.8, True),
     (2.4, math.inf, True), (0.1, 0.01, False)],
)  # fmt: skip
def test_which_batches_are_skipped(loss: float, norm: float, skipped: bool) -> None:
    """Those far above what is usual; asking changes nothing."""
    monitor = anomalies()
    alerts(HEALTHY[:START], monitor)
    before = str(monitor.state_dict())
    assert monitor.would_skip(loss, norm) == skipped
    assert str(monitor.state_dict()) == before


def test_at_the_start_nothing_is_unusual() -> None:
    """Before anything is known every finite batch is taken."""
    assert not anomalies().would_skip(1e6, 1e6)


def test_skipping_starves_no_run() -> None:
    """Where every batch is unusual, the sixth is taken, and after some more they are usual."""
    monitor = anomalies()
    alerts(HEALTHY[:START], monitor)
    answers = []
    for record in HEALTHY[START : START + 60]:
        high = changed(record, loss=9.0, objective=9.0)
        answers.append(monitor.would_skip(9.0, high.metrics["grad/norm"]))
        monitor.observe(high)
    assert answers[0]
    assert sum(answers) <= 5
