"""Plots as MLflow images with steps, each once whatever happens to the companion."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from PIL import Image

from spectral_mlflow.journal import Record
from spectral_mlflow.stores import images, rebuild
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.companion import Companion, Pace
from spectral_mlflow.stores.mlflow import MlflowStore

DEADLINE = 240.0
SMALL = (30, 20)


def _draw(run: Any, plot: str, step: int, color: str = "red", size: tuple[int, int] = SMALL, **told: Any) -> Path:
    path = run.directory / "visualizations" / f"{plot}_step_{step}.png"
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, color).save(path)
    run.event("artifact", kind="plot", path=f"visualizations/{path.name}", step=step, **told)
    return path


def _feed(run: Any, store: str, pace: Pace) -> MlflowStore:
    destination = MlflowStore(store)
    assert Companion(RunView(run.directory), destination, pace=pace).catch_up().error is None
    return destination


def _images(run: Any, store: str) -> list[str]:
    listed = MlflowClient(tracking_uri=store).list_artifacts(run.state()["run_id"], images.FOLDER)
    return sorted(Path(entry.path).name for entry in listed)


def _keys_and_steps(names: list[str]) -> list[tuple[str, int]]:
    """What MLflow's UI reads of the names of whole images."""
    parts = [name.removesuffix(".png").split("+") for name in names if name.endswith(".png")]
    assert all((part[1], part[3], len(part)) == ("step", "timestamp", 6) for part in parts)
    return sorted((part[0].replace("~", "/"), int(part[2])) for part in parts)


def _stored(run: Any, store: str, name: str, folder: Path) -> Path:
    client = MlflowClient(tracking_uri=store)
    return Path(client.download_artifacts(run.state()["run_id"], f"{images.FOLDER}/{name}", str(folder)))


def test_plot_is_an_image_with_its_step(new_run: Callable[..., Any], store: str, fast: Pace, tmp_path: Path) -> None:
    """Key and step are those of the event, the whole image is the plot itself, and the smaller one fits a chart."""
    run = new_run()
    path = _draw(run, "frequencies", 250, size=(1400, 700), key="wave/frequencies")
    _feed(run, store, fast)
    smaller, whole = _images(run, store)
    assert _keys_and_steps([whole]) == [("wave/frequencies", 250)]
    assert smaller == whole.replace(".png", "+compressed.webp")
    assert _stored(run, store, whole, tmp_path).read_bytes() == path.read_bytes()
    with Image.open(_stored(run, store, smaller, tmp_path)) as small:
        assert (small.format, small.size) == ("WEBP", (720, 360))
    client = MlflowClient(tracking_uri=store)
    assert client.get_run(run.state()["run_id"]).data.tags["mlflow.loggedImages"] == "True"
    assert [entry.path for entry in client.list_artifacts(run.state()["run_id"], "visualizations")] == [
        "visualizations/frequencies_step_250.png"
    ]


def test_plot_of_an_older_run_has_a_key_too(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """An event without a key is known by the name of its file."""
    run = new_run()
    _draw(run, "loss_curve", 10)
    _draw(run, "loss_curve", 20)
    _feed(run, store, fast)
    assert _keys_and_steps(_images(run, store)) == [("plots/loss_curve", 10), ("plots/loss_curve", 20)]


def test_same_events_twice_are_the_same_images(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """A companion that has lost its state sends every plot again, and no image is there twice."""
    run = new_run()
    for step in (0, 10, 20):
        _draw(run, "phases", step, key="wave/phases")
    _feed(run, store, fast)
    before = _images(run, store)
    run.end()
    run.directory.joinpath("stores", "mlflow.json").unlink()
    _feed(run, store, fast)
    assert _images(run, store) == before
    assert _keys_and_steps(before) == [("wave/phases", step) for step in (0, 10, 20)]


def test_plot_drawn_again_replaces_the_image(
    new_run: Callable[..., Any], store: str, fast: Pace, tmp_path: Path
) -> None:
    """After a rollback the plot of a step is drawn once more: one image of it, and that is the newer one."""
    run = new_run()
    _draw(run, "phases", 10, "red", key="wave/phases")
    _feed(run, store, fast)
    newer = _draw(run, "phases", 10, "blue", size=(40, 20), key="wave/phases")
    run.end()
    _feed(run, store, fast)
    _, whole = _images(run, store)
    assert _stored(run, store, whole, tmp_path).read_bytes() == newer.read_bytes()


@pytest.mark.parametrize("content", ["no picture", "\x89PNG\r\n\x1a\n torn"])
def test_plot_that_is_no_picture_is_a_file_alone(
    new_run: Callable[..., Any], store: str, fast: Pace, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be opened is sent as it is, and neither the run nor other images wait for it."""
    run = new_run()
    run.file("visualizations/odd_step_5.png", content)
    run.event("artifact", kind="plot", path="visualizations/odd_step_5.png", step=5, key="wave/odd")
    _draw(run, "phases", 5, key="wave/phases")
    run.end()
    _feed(run, store, fast)
    assert run.state()["closed"]
    assert _keys_and_steps(_images(run, store)) == [("wave/phases", 5)]
    assert caplog.text.count("is no image") == 1
    listed = MlflowClient(tracking_uri=store).list_artifacts(run.state()["run_id"], "visualizations")
    assert len(listed) == 2


def test_picture_of_another_format_becomes_a_png(
    new_run: Callable[..., Any], store: str, fast: Pace, tmp_path: Path
) -> None:
    """A loop of one's own may draw JPEG; MLflow takes PNG."""
    run = new_run()
    run.file("mine.jpg")
    Image.new("L", SMALL).save(run.directory / "mine.jpg")
    run.event("artifact", kind="plot", path="mine.jpg", step=3)
    _feed(run, store, fast)
    _, whole = _images(run, store)
    with Image.open(_stored(run, store, whole, tmp_path)) as image:
        assert (image.format, image.size) == ("PNG", SMALL)


def test_growing_plot_is_one_image(
    new_run: Callable[..., Any], store: str, fast: Pace, trainer: Callable[[Path], Any]
) -> None:
    """Of a plot that shows all that earlier ones did, the highest step alone is an image, whenever it was drawn."""
    run = new_run()
    training = trainer(run.directory)
    for key in ("training/loss_curve", "training/loss_curve_2", "wave/course", "wave/phases"):
        _draw(run, key.split("/")[1], 10, key=key)
    _feed(run, store, fast)
    for step in (30, 20):
        _draw(run, "loss_curve", step, key="training/loss_curve")
    for key in ("wave/course", "wave/phases"):
        _draw(run, key.split("/")[1], 20, key=key)
    _feed(run, store, fast)
    expected = [
        ("training/loss_curve", 30), ("training/loss_curve_2", 10), ("wave/course", 20), ("wave/phases", 10),
        ("wave/phases", 20),
    ]  # fmt: skip
    assert _keys_and_steps(_images(run, store)) == expected
    training.kill()
    training.wait()
    (run.directory / "stores" / "mlflow.json").unlink()
    _feed(run, store, fast)
    assert _keys_and_steps(names := _images(run, store)) == expected
    assert len(names) == 2 * len(expected)
    client = MlflowClient(tracking_uri=store)
    assert len(client.list_artifacts(run.state()["run_id"], "visualizations")) == 8


def test_companion_killed_among_images(
    new_run: Callable[..., Any], store: str, companion: Callable[..., Any], trainer: Callable[[Path], Any]
) -> None:
    """When kill -9 hits the companion among the images, there is one of each key and step in the end."""
    run = new_run()
    training = trainer(run.directory)
    for step in range(12):
        _draw(run, "phases", step, key="wave/phases", size=(600, 400))
    process, deadline = companion(run.directory, "--follow"), time.monotonic() + DEADLINE
    artifacts = Path(store.removeprefix("sqlite:///")).parent / "mlruns"
    while len(list(artifacts.rglob("images/*.png"))) < 4:
        assert time.monotonic() < deadline, "no images came"
        threading.Event().wait(0.005)
    process.kill()
    process.wait()
    run.end()
    training.kill()
    training.wait()
    assert companion(run.directory).wait(DEADLINE) == 0
    names = _images(run, store)
    assert _keys_and_steps(names) == [("wave/phases", step) for step in range(12)]
    assert len(names) == 24


def test_directory_made_again_has_no_copies(
    new_run: Callable[..., Any], store: str, fast: Pace, tmp_path: Path
) -> None:
    """What is rebuilt from the store has its plots, and not the images that MLflow shows of them."""
    run = new_run()
    _draw(run, "phases", 10, key="wave/phases")
    run.steps(1, 3)
    run.end()
    _feed(run, store, fast)
    made, _ = rebuild.from_store(run.name, tmp_path / "elsewhere", store)
    assert (made / "visualizations" / "phases_step_10.png").is_file()
    assert not (made / "images").exists()


def _broken(run: Any, store: str) -> list[str]:
    """Addresses of pictures in the description that MLflow does not have."""
    note = MlflowClient(tracking_uri=store).get_run(run.state()["run_id"]).data.tags["mlflow.note.content"]
    shown = [parse_qs(urlsplit(at).query)["path"][0] for at in re.findall(r"!\[[^\]]*\]\((\S+)\)", note)]
    assert shown
    return [path for path in shown if Path(path).name not in _images(run, store)]


def test_picture_of_a_running_run_is_there(
    new_run: Callable[..., Any], store: str, fast: Pace, trainer: Callable[[Path], Any]
) -> None:
    """After a resume, a newer plot, a companion that begins anew and a plot that is gone, the description shows one."""
    run = new_run()
    training = trainer(run.directory)
    _draw(run, "training_dynamics", 10, key="training/dynamics")
    _feed(run, store, fast)
    run.event("resume", step=10, settings={})
    _feed(run, store, fast)
    assert _broken(run, store) == []
    _draw(run, "training_dynamics", 20, key="training/dynamics")
    gone = _draw(run, "training_dynamics", 30, key="training/dynamics")
    _feed(run, store, fast)
    assert _keys_and_steps(_images(run, store)) == [("training/dynamics", 30)]
    assert _broken(run, store) == []
    gone.unlink()
    run.end()
    training.kill()
    training.wait()
    _feed(run, store, fast)
    assert _broken(run, store) == []


def _refuse(*_: object) -> None:
    raise PermissionError("no")


def test_store_that_refuses_deletes_is_asked_once(
    new_run: Callable[..., Any], store: str, fast: Pace, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Images that newer ones replace stay then, which is told once, and the run is closed."""
    tries: list[object] = []
    monkeypatch.setattr(LocalArtifactRepository, "delete_artifacts", lambda *given: (tries.append(given), _refuse()))
    run = new_run()
    destination = _Drawing(store, run)
    run.event("alert", step=0, kind="test")
    with FileLock(run.directory / ".run.lock"):
        Companion(RunView(run.directory), destination, pace=fast).catch_up()
    assert destination.step == 6
    assert len(tries) == caplog.text.count("cannot be deleted") == 1
    run.end()
    _feed(run, store, fast)
    assert run.state()["closed"]


class _Drawing(MlflowStore):
    """At each event the next plot is drawn, until there are six."""

    def __init__(self, uri: str, run: Any) -> None:
        super().__init__(uri)
        self.step = 0
        self._written = run

    def event(self, record: Record, offset: int = 0, /) -> None:
        super().event(record, offset)
        if record["event"] != "start" and self.step < 6:
            self.step += 1
            _draw(self._written, "loss_curve", self.step, key="training/loss_curve")


def test_store_that_refuses_listing_closes_the_run(
    new_run: Callable[..., Any], store: str, fast: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be tidied up holds up nothing."""
    run = new_run()
    _draw(run, "loss_curve", 1, key="training/loss_curve")
    run.end()
    with monkeypatch.context() as patched:
        patched.setattr(LocalArtifactRepository, "list_artifacts", _refuse)
        _feed(run, store, fast)
    assert run.state()["closed"]
    assert _keys_and_steps(_images(run, store)) == [("training/loss_curve", 1)]


def test_odd_steps_are_no_images(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """A step that is text, a part or below zero makes no image, and neither run nor other images wait for it."""
    run = new_run()
    for step in ("7", 2.5, -5, 3):
        _draw(run, "mine", step, key="training/mine")
    run.end()
    _feed(run, store, fast)
    assert _keys_and_steps(_images(run, store)) == [("training/mine", 3)]


def test_directory_made_again_has_the_users_own_files(
    new_run: Callable[..., Any], store: str, fast: Pace, tmp_path: Path
) -> None:
    """A folder of the user that is called as that of the images comes back, without the images."""
    run = new_run()
    run.file("images/cat.txt", "my cat")
    run.event("artifact", kind="file", path="images/cat.txt", step=None)
    _draw(run, "phases", 10, key="wave/phases")
    run.end()
    _feed(run, store, fast)
    made, _ = rebuild.from_store(run.name, tmp_path / "elsewhere", store)
    assert [path.name for path in (made / "images").iterdir()] == ["cat.txt"]


@given(st.text(), st.text(), st.integers(0, 10**9), st.integers(0, 10**9))
def test_names_are_of_one_key_and_step(first: str, second: str, step: int, other: int) -> None:
    """Two images have one name only for the same key and step; whatever a key is, MLflow reads its step."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "plot.png").touch()
        name, another = (
            plot.name
            for key, number in ((first, step), (second, other))
            if (plot := images.plot_of(
                {"event": "artifact", "kind": "plot", "path": "plot.png", "key": key, "step": number},
                RunView(Path(folder)), "run", 5,
            ))
        )  # fmt: skip
    assert (name == another) == ((first or None, step) == (second or None, other))
    assert (name.partition("+")[0] == another.partition("+")[0]) == ((first or None) == (second or None))
    assert re.fullmatch(r"[\w. ~-]*\+step\+\d+\+timestamp\+5\+[0-9a-f-]{36}", name, re.ASCII)
