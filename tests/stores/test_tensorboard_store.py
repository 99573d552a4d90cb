"""The TensorBoard store, read back with TensorBoard's own reader."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.util.tensor_util import make_ndarray

from spectral_mlflow import journal
from spectral_mlflow.stores import sync
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.companion import Companion, Pace
from spectral_mlflow.stores.reader import numbers
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.stores.tensorboard import TensorBoardStore

ALL = {"scalars": 0, "tensors": 0, "images": 0, "histograms": 0, "compressedHistograms": 0, "graph": 0}
DEADLINE = 240.0


def _wait_for(true: Callable[[], bool]) -> None:
    pause, deadline = threading.Event(), time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        pause.wait(0.01)


def _read(run: Any) -> EventAccumulator:
    return EventAccumulator(str(run.directory / "tensorboard"), size_guidance=ALL).Reload()


def _stored(run: Any) -> list[tuple[str, int, float, str]]:
    found = _read(run)
    tags = [tag for tag in found.Tags()["scalars"] if not tag.startswith("final/")]
    return sorted((tag, e.step, e.wall_time, repr(np.float32(e.value))) for tag in tags for e in found.Scalars(tag))


def _written(run: Any) -> list[tuple[str, int, float, str]]:
    with np.errstate(over="ignore"):  # Beyond single precision is infinity there.
        return sorted(
            (name, line["step"], journal.milliseconds(line["timestamp"]) / 1000, repr(np.float32(value)))
            for line in run.records()
            for name, value in numbers(line)
        )


def _state(run: Any) -> StoreState:
    return StoreState.load(RunView(run.directory).state_of("tensorboard"))


def _feed(run: Any, pace: Pace) -> StoreState:
    return Companion(RunView(run.directory), TensorBoardStore(), pace=pace).catch_up()


def _event_file(run: Any) -> Path:
    (path,) = (path for path in (run.directory / "tensorboard").iterdir() if path.suffix != ".end")
    return Path(path)


def test_every_point_once_although_companions_are_killed(
    full_run: Callable[..., Any], odd_lines: list[Any], companion: Callable[..., Any], trainer: Callable[[Path], Any]
) -> None:
    """Name, step, value and time of every point come back from one event file, whenever kill -9 hit a companion."""
    run = full_run("tensorboard")
    process = trainer(run.directory)
    for first in (1, 101, 201):
        known = _state(run).metrics_offset
        follower = companion(run.directory, "--follow")
        run.steps(first, first + 99)
        _wait_for(lambda known=known: _state(run).metrics_offset > known)
        follower.send_signal(signal.SIGKILL)
        follower.wait()
    run.lines(*odd_lines)
    run.end()
    process.communicate("")
    assert companion(run.directory).wait(DEADLINE) == 0
    assert _state(run).closed
    assert _event_file(run).stat().st_size == _state(run).size
    assert _stored(run) == _written(run)


def test_whatever_a_dead_companion_left_behind_the_state_is_cut(new_run: Callable[..., Any], fast: Pace) -> None:
    """After a death between the file and the state, at any byte of a record, nothing is there twice or torn."""
    run = new_run(stores=["tensorboard"])
    run.steps(1, 20)
    run.event("resume", step=20)
    companion = Companion(RunView(run.directory), TensorBoardStore(), pace=fast)
    opened = companion.store.open(companion.run, companion.state)
    companion.store.metrics([(record, 0) for record in run.records()])
    whole = _event_file(run).read_bytes()
    run.steps(21, 30)
    for length in (opened.size, opened.size + 1, opened.size + 11, len(whole) - 1, len(whole)):
        opened.save(RunView(run.directory).state_of("tensorboard"))
        _event_file(run).write_bytes(whole[:length])
        assert _feed(run, fast).error is None
        assert _stored(run) == _written(run)


def test_lost_file_or_lost_lines_begin_again(new_run: Callable[..., Any], fast: Pace) -> None:
    """Without its file, with half of it, or behind a journal that a power cut took lines from, all is written again."""
    run = new_run(stores=["tensorboard"])
    run.steps(1, 20)
    run.end()
    _feed(run, fast)
    whole = _event_file(run).read_bytes()
    _event_file(run).unlink()
    assert _feed(run, fast).closed
    assert _stored(run) == _written(run)
    _event_file(run).write_bytes(whole[:100])
    assert _feed(run, fast).closed
    assert _stored(run) == _written(run)
    metrics = RunView(run.directory).metrics_path
    metrics.write_bytes(b"".join(metrics.read_bytes().splitlines(keepends=True)[:12]))
    run.event("resume", step=12)
    run.steps(13, 14)
    run.end()
    assert _feed(run, fast).closed
    assert _stored(run) == _written(run)


def test_what_is_not_a_number(full_run: Callable[..., Any], fast: Pace) -> None:
    """Plots, samples, alerts, histograms, settings and the end are where TensorBoard's pages look for them."""
    run = full_run("tensorboard")
    run.event("artifact", path="../outside.png", kind="plot", step=1)
    run.event("artifact", path="visualizations/gone_step_1.png", kind="plot", step=1)
    run.file("visualizations/torn_step_1.png", "P")
    run.event("artifact", path="visualizations/torn_step_1.png", kind="plot", step=1)
    run.event("histogram", step=1, path="config.json")
    run.steps(1, 3)
    run.end("KILLED", "SIGTERM")
    assert _feed(run, fast).error is None
    found = _read(run)

    def only(tag: str) -> tuple[int, Any]:
        (event,) = found.Tensors(tag)
        return event.step, make_ndarray(event.tensor_proto)

    step, (width, height, png) = only("training/loss (plot)")
    assert (step, width, height) == (20, b"30", b"20")
    assert png == (run.directory / "visualizations" / "loss_step_20.png").read_bytes()
    assert only("text/sample") == (10, b"    <b>ROMEO</b>\n    ? and")
    assert only("text/alert/loss_spike") == (5, b"    step 5 (critical): up; likely cause: lr; lower it")
    assert only("text/outcome") == (3, b"    KILLED: SIGTERM")
    step, buckets = only("weights/weight")
    assert (step, buckets.tolist()) == (5, [[0.0, 1.0, 3.0], [1.0, 2.0, 4.0]])
    assert [(event.step, event.value) for event in found.Scalars("final/val_loss")] == [(3, 1.5)]
    content = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    told = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert told.group_name == run.name
    assert (told.hparams["model.type"].string_value, told.hparams["training.lr"].number_value) == ("wave", 0.001)


def test_plot_and_metric_of_one_name(full_run: Callable[..., Any], fast: Pace) -> None:
    """TensorBoard takes one kind of data a tag: a user's plot stands beside a metric of its name, in two tags."""
    run = full_run("tensorboard")
    path = "visualizations/loss_step_20.png"
    for key, step in (("loss", 1), ("wave/frequencies", "2")):
        run.event("artifact", path=path, kind="plot", step=step, key=key)
    run.steps(1, 3)
    run.end()
    assert _feed(run, fast).error is None
    found = _read(run).Tags()
    assert "loss" in found["scalars"]
    assert {"loss (plot)", "wave/frequencies"} <= set(found["tensors"])
    assert not set(found["tensors"]) & set(found["scalars"])


def test_resumed_run_has_its_last_ending_alone(full_run: Callable[..., Any], fast: Pace) -> None:
    """A killed run that is resumed and finishes is a success, and the file that a TensorBoard follows only grows."""
    run = full_run("tensorboard")
    run.steps(1, 20)
    run.end("KILLED", "SIGTERM")
    assert _feed(run, fast).closed
    before = _event_file(run).read_bytes()
    run.event("resume", step=20)
    run.steps(21, 30)
    run.end()
    assert _feed(run, fast).closed
    assert _event_file(run).read_bytes().startswith(before)
    found = _read(run)
    content = found.summary_metadata["_hparams_/session_end_info"].plugin_data.content
    assert plugin_data_pb2.HParamsPluginData.FromString(content).session_end_info.status == api_pb2.STATUS_SUCCESS
    assert [make_ndarray(event.tensor_proto) for event in found.Tensors("text/outcome")] == [b"    FINISHED"]
    assert _stored(run) == _written(run)


def test_odd_settings_of_one_run_stop_no_other(new_run: Callable[..., Any]) -> None:
    """Half a character and a number that no float can hold are told as text, and every run is sent."""
    odd, plain = new_run("odd", stores=["tensorboard", "mlflow"]), new_run("plain", stores=["tensorboard"])
    settings = {"dataset": {"path": "caf\udce9.txt", "caf\udce9": 1}, "training": {"seed": 10**400}}
    odd.file("config.json", json.dumps({"config": settings}))
    for run in (odd, plain):
        run.steps(1, 3)
        run.end()
    assert [result.complete for result in sync.sync([odd.directory, plain.directory])] == [True, True]
    content = _read(odd).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    told = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert told["dataset.path"].string_value == "caf?.txt"
    assert told["training.seed"].string_value == str(10**400)


def test_sync_sends_it_later(full_run: Callable[..., Any]) -> None:
    """`spectral sync` completes a run that no companion has followed, and finds nothing to do the second time."""
    run = full_run("tensorboard")
    run.steps(1, 10)
    run.end()
    assert sync.is_behind(run.directory)
    before, after = sync.sync([run.directory, run.directory])
    assert (before.complete, before.message) == (True, "sent")
    assert (after.complete, after.message) == (True, "is in the store already")
    assert not sync.is_behind(run.directory)
    assert _stored(run) == _written(run)
