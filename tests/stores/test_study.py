"""Studies: runs under one parent run in MLflow, which has their means over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run

from spectral_mlflow import cli
from spectral_mlflow.stores import sync
from spectral_mlflow.stores.study import PARENT, Point, Study, Variant, describe, log_means, means

HASH = "0123456789abcdef" * 4
HISTORIES = st.lists(
    st.dictionaries(
        st.integers(0, 20), st.builds(Point, st.floats(-1e9, 1e9), st.integers(0, 10**12)), max_size=20
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@pytest.fixture
def trained_as(new_run: Callable[..., Any], store: str) -> Callable[..., Any]:
    """Makes finished runs of a model and a seed, as the trainer leaves them, with two points of each loss."""

    def make(model: str, seed: int, *, name: str = "", losses: tuple[float, float] = (3.0, 2.0), **told: Any) -> Any:
        start = {"stores": told.pop("stores")} if "stores" in told else {}
        run = new_run(name or f"{model}_{seed}", tracking_uri=told.pop("uri", store), **start)
        steps = told.pop("at", (10, 20))
        settings = {"type": model, "d_model": 32, "num_layers": 1, "num_heads": 2, "block_size": told.pop("block", 16)}
        parts = dict.fromkeys(("embedding", "attention", "feedforward"), model)
        data = {"name": "text", "sha256": told.pop("sha", HASH), "num_tokens": 99, "source": "text.txt"}
        splits = {"tokenizer": "char", "train_split": 0.9, "val_split": 0.1, "val_windows": 8}
        training = {"steps": 20, "batch_size": 4, "seed": seed, **told}
        config = {"name": model, "model": settings | parts, "training": training, "dataset": splits}
        facts = {"type": model, "num_parameters": 1000, "vocab_size": 65}
        run.file(
            "config.json", json.dumps({"experiment_id": run.name, "config": config, "model": facts, "dataset": data})
        )
        for step, loss in zip(steps, losses, strict=True):
            run.lines({"step": step, "loss": loss + 1, "val_loss": loss, "best_val_loss": loss})
        run.end()
        return run

    return make


@pytest.fixture
def four(trained_as: Callable[..., Any]) -> list[Any]:
    """Two seeds of two models."""
    return [
        trained_as("wave", 0, losses=(3.0, 2.0)), trained_as("wave", 1, losses=(4.0, 3.0)),
        trained_as("standard", 0, losses=(5.0, 4.0)), trained_as("standard", 1, losses=(6.0, 5.0)),
    ]  # fmt: skip


def _study(name: str, *chosen: Any) -> int:
    return cli.main(["study", name, *(str(run.directory) for run in chosen)])


def _parents(store: str) -> list[Run]:
    client = MlflowClient(tracking_uri=store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, "tags.`spectral.kind` = 'study'"))


def _children(store: str, parent: Run) -> set[str]:
    client = MlflowClient(tracking_uri=store)
    found = client.search_runs([parent.info.experiment_id], f"tags.`{PARENT}` = '{parent.info.run_id}'")
    return {child.info.run_name for child in found}


def _points(store: str, parent: Run, metric: str) -> list[tuple[int, float]]:
    history = MlflowClient(tracking_uri=store).get_metric_history(parent.info.run_id, metric)
    return [(point.step, point.value) for point in history]


@given(HISTORIES)
def test_mean_is_of_the_steps_that_all_have(histories: list[dict[int, Point]]) -> None:
    """There is a mean where every seed has a value, between the least and the greatest, at the latest time."""
    found = means(histories)
    assert set(found) == set.intersection(*map(set, histories))
    for step, mean in found.items():
        points = [history[step] for history in histories]
        assert mean.value == pytest.approx(math.fsum(point.value for point in points) / len(points))
        assert mean.timestamp == max(point.timestamp for point in points)


@given(HISTORIES, st.integers(0, 20))
def test_means_are_only_added(histories: list[dict[int, Point]], until: int) -> None:
    """What is known while the runs go on stays as it is when they are done."""
    so_far = means([{step: point for step, point in h.items() if step < until} for h in histories])
    whole = means(histories)
    assert so_far == {step: whole[step] for step in so_far}


def test_study_has_the_means_of_its_variants(four: list[Any], store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The parent run has a metric for each loss and variant, the table in its description, and the runs below it."""
    assert _study("wave or standard", *four) == 0
    (parent,) = _parents(store)
    assert (parent.info.run_name, parent.info.status) == ("wave or standard", "FINISHED")
    assert _points(store, parent, "val_loss/wave") == [(10, 3.5), (20, 2.5)]
    assert _points(store, parent, "val_loss/standard") == [(10, 5.5), (20, 4.5)]
    assert _points(store, parent, "loss/wave") == [(10, 4.5), (20, 3.5)]
    assert all(name.count("/") == 1 for name in parent.data.metrics)
    assert _children(store, parent) == {run.name for run in four}
    note = parent.data.tags["mlflow.note.content"]
    assert "| wave | 0, 1 | 1,000 | 2.5000" in note
    assert "| standard | 0, 1 | 1,000 | 4.5000" in note
    again = [
        "spectral study 'wave or standard' \\",
        *(f"  {name} \\" for name in ("standard_0", "standard_1", "wave_0")),
    ]
    assert "\n".join(f"    {line}" for line in [*again, "  wave_1"]) in note
    assert "Wave minus standard over seeds 0, 1" in capsys.readouterr().out
    child = MlflowClient(tracking_uri=store).get_run(four[0].state()["run_id"])
    assert (child.data.tags["spectral.kind"], child.data.tags["spectral.seed"]) == ("train", "0")


def test_same_study_again_changes_nothing(four: list[Any], store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The order of the runs does not matter; the parent stays the one it was."""
    _study("s", *four)
    (before,) = _parents(store)
    capsys.readouterr()
    assert _study("s", *reversed(four)) == 0
    (after,) = _parents(store)
    assert after.to_dictionary() == before.to_dictionary()
    assert _points(store, after, "val_loss/wave") == [(10, 3.5), (20, 2.5)]
    assert "is there already" in capsys.readouterr().out


@pytest.mark.parametrize("last", [0.5, 9.0])
def test_study_of_runs_that_went_on_is_brought_up_to_date(
    four: list[Any], store: str, capsys: pytest.CaptureFixture[str], last: float
) -> None:
    """When runs were resumed, the same command adds their means and tells their new results, whatever they are."""
    chosen = four[:2]
    _study("s", *chosen)
    for run in chosen:
        run.event("resume", step=20, settings={})
        run.lines({"step": 30, "val_loss": last, "best_val_loss": min(last, 2.0)})
        run.end()
    capsys.readouterr()
    assert _study("s", *chosen) == 0
    assert "is there already" not in capsys.readouterr().out
    (parent,) = _parents(store)
    assert _points(store, parent, "val_loss/wave") == [(10, 3.5), (20, 2.5), (30, last)]
    assert f"| wave | 0, 1 | 1,000 | {min(last, 2.0):.4f}" in parent.data.tags["mlflow.note.content"]
    assert _study("s", *chosen) == 0
    assert "is there already" in capsys.readouterr().out


def test_description_of_a_person_stays(four: list[Any], store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What somebody has written of a study in MLflow is not written over, nor taken for one that is out of date."""
    _study("s", *four)
    (parent,) = _parents(store)
    MlflowClient(tracking_uri=store).set_tag(parent.info.run_id, "mlflow.note.content", "mine")
    capsys.readouterr()
    assert _study("s", *four) == 0
    assert "is there already" in capsys.readouterr().out
    (parent,) = _parents(store)
    assert parent.data.tags["mlflow.note.content"] == "mine"


def test_runs_without_a_store_are_refused(
    trained_as: Callable[..., Any], store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was made without a store is sent nowhere, until a sync has named one."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    run = trained_as("wave", 0, stores=[], uri=None)
    line = _refused(capsys, "s", run.name)
    assert "it was made without a store" in line
    assert f"spectral sync {run.name} --tracking-uri URI" in line
    assert MlflowClient(tracking_uri=store).get_experiment_by_name("spectral") is None
    assert cli.main(["sync", run.name, "--tracking-uri", store]) == 0
    assert _study("s", run) == 0


def test_seeds_without_a_common_step_are_told(
    trained_as: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two seeds that were evaluated at different steps have no mean of the validation loss, and the command says so."""
    one, other = trained_as("wave", 0), trained_as("wave", 1, at=(7, 14))
    assert _study("s", one, other) == 0
    assert "wave: its seeds share no step of val_loss" in capsys.readouterr().out


def test_loss_of_a_run_that_blew_up(trained_as: Callable[..., Any], store: str) -> None:
    """A perplexity that no float holds is infinite; the study is made all the same."""
    assert _study("s", trained_as("wave", 0, losses=(900.0, 800.0)), trained_as("wave", 1, losses=(400.0, 500.0))) == 0
    (parent,) = _parents(store)
    assert parent.data.tags["mlflow.note.content"].splitlines()[4].endswith("| inf |")


def test_run_in_the_trash_is_named(four: list[Any], store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that somebody has deleted in MLflow: one line with what restores it, and no parent."""
    cli.main(["sync"])
    MlflowClient(tracking_uri=store).delete_run(four[0].state()["run_id"])
    capsys.readouterr()
    line = _refused(capsys, "s", *(run.name for run in four))
    assert "spectral rebuild wave_0" in line
    assert _parents(store) == []


def test_study_with_other_runs_is_replaced(four: list[Any], store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A new parent takes the place of the old one; a run that is no longer in it is on its own; one seed is told."""
    _study("s", *four)
    (before,) = _parents(store)
    assert _study("s", *four[:3]) == 0
    (after,) = _parents(store)
    assert after.info.run_id != before.info.run_id
    assert _points(store, after, "val_loss/standard") == [(10, 5.0), (20, 4.0)]
    assert _children(store, after) == {run.name for run in four[:3]}
    last = MlflowClient(tracking_uri=store).get_run(four[3].state()["run_id"])
    assert PARENT not in last.data.tags
    assert "standard: one seed" in capsys.readouterr().out


def test_study_that_was_interrupted_is_completed(four: list[Any], store: str) -> None:
    """A parent with half of its means and no children is filled by the next call, not made a second time."""
    _study("s", *four)
    client = MlflowClient(tracking_uri=store)
    (parent,) = _parents(store)
    half = client.create_run(parent.info.experiment_id, tags={
        name: parent.data.tags[name] for name in ("spectral.kind", "spectral.study", "spectral.study_runs")
    })  # fmt: skip
    point = client.get_metric_history(parent.info.run_id, "val_loss/wave")[0]
    client.log_metric(half.info.run_id, point.key, point.value, point.timestamp, point.step)
    client.delete_run(parent.info.run_id)
    assert _study("s", *four) == 0
    (after,) = _parents(store)
    assert (after.info.run_id, after.info.status) == (half.info.run_id, "FINISHED")
    assert _points(store, after, "val_loss/wave") == [(10, 3.5), (20, 2.5)]
    assert _children(store, after) == {run.name for run in four}


def test_means_grow_with_the_runs(four: list[Any], store: str) -> None:
    """Means may be logged while runs go on: later calls add what has come, and repeat nothing."""
    _study("s", *four)
    client = MlflowClient(tracking_uri=store)
    ids = [run.state()["run_id"] for run in four[:2]]
    parent = client.create_run(client.get_run(ids[0]).info.experiment_id)
    variants = [Variant("wave", dict(enumerate(ids)), {})]
    log_means(client, parent.info.run_id, variants)
    for run_id in ids:
        client.log_metric(run_id, "val_loss", 1.0, 10**13, 30)
        log_means(client, parent.info.run_id, variants)
    assert _points(store, parent, "val_loss/wave") == [(10, 3.5), (20, 2.5), (30, 1.0)]


def test_run_stays_below_its_other_parent(four: list[Any], store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """MLflow shows a run below one parent alone: a second study has the means, and says where the runs are."""
    _study("first", *four[:2])
    capsys.readouterr()
    assert _study("second", *four) == 0
    parents = {parent.info.run_name: parent for parent in _parents(store)}
    assert _children(store, parents["first"]) == {run.name for run in four[:2]}
    assert _children(store, parents["second"]) == {run.name for run in four[2:]}
    assert _points(store, parents["second"], "val_loss/wave") == [(10, 3.5), (20, 2.5)]
    assert "wave_0 stays below its other parent" in capsys.readouterr().out


def test_variants_of_one_model_are_told_apart(trained_as: Callable[..., Any], store: str) -> None:
    """What differs between variants of a model is part of their names, in letters that MLflow takes."""
    chosen = [trained_as("wave", seed, name=f"w_{lr}_{seed}", lr=lr) for lr in (0.1, 0.01) for seed in (0, 1)]
    assert _study("rates", *chosen) == 0
    (parent,) = _parents(store)
    assert {"val_loss/wave lr 0.1", "val_loss/wave lr 0.01"} <= set(parent.data.metrics)


def test_repeated_seed_counts_once(
    trained_as: Callable[..., Any], store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two runs with one configuration and seed the later counts, and the other is named."""
    chosen = [trained_as("wave", 0, name="earlier"), trained_as("wave", 0, name="later", losses=(2.0, 1.0))]
    assert _study("s", *chosen) == 0
    (parent,) = _parents(store)
    assert _children(store, parent) == {"later"}
    assert "earlier is left out" in capsys.readouterr().out


def _refused(capsys: pytest.CaptureFixture[str], name: str, *chosen: str) -> str:
    assert cli.main(["study", name, *chosen]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_cannot_be_compared_is_refused(
    trained_as: Callable[..., Any], store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other data, another context length, an automatic batch size: one line that says which setting, and no parent."""
    usual = trained_as("wave", 0)
    others = {
        "dataset.sha256": trained_as("wave", 1, name="other_text", sha="f" * 64),
        "model.block_size": trained_as("wave", 1, name="longer", block=32),
        "training.auto_batch_size": trained_as("wave", 1, name="automatic", auto_batch_size=True),
    }
    for setting, other in others.items():
        assert setting in _refused(capsys, "s", usual.name, other.name)
    assert _parents(store) == []


def test_runs_that_are_not_there_or_not_done_are_refused(
    new_run: Callable[..., Any], trained_as: Callable[..., Any], trainer: Callable[[Path], Any],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """An unknown run, a running one, one that was killed, and a name that would be markup: one line each."""
    done, killed, running = trained_as("wave", 0), new_run("killed"), new_run("running")
    killed.end("KILLED")
    trainer(running.directory)
    assert "no run 'nobody'" in _refused(capsys, "s", done.name, "nobody")
    assert "running is running" in _refused(capsys, "s", done.name, "running")
    assert "spectral resume killed" in _refused(capsys, "s", done.name, "killed")
    assert "NAME: given '<b>'" in _refused(capsys, "<b>", done.name)


def test_runs_of_different_stores_are_refused(
    trained_as: Callable[..., Any], template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names both stores and how to bring the runs together."""
    (tmp_path / "other.db").write_bytes(template.read_bytes())
    one, other = trained_as("wave", 0), trained_as("wave", 1, uri=f"sqlite:///{tmp_path / 'other.db'}")
    line = _refused(capsys, "s", one.name, other.name)
    assert "different stores" in line
    assert "other.db" in line
    assert "spectral sync" in line


def test_run_without_a_result_is_refused(new_run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """A loop of one's own that measures no validation loss cannot be compared."""
    run = new_run("own")
    run.end()
    assert "no seed or no validation loss" in _refused(capsys, "s", "own")


def test_description_shows_names_as_they_are() -> None:
    """Nothing that a label or a fact has in it is markup in the table."""
    study = Study("s", (Variant("a|b", {0: "id"}, {"<b>": "`x`"}),), ("@you",), "spectral study")
    told = describe(study)
    assert "| a&#124;b | 0 | &#96;x&#96; |" in told
    assert "<b>" not in told
    assert "&#64;you" in told


def test_description_of_many_runs_has_the_command() -> None:
    """However many notes there are, the description is one that MLflow takes, with the command in it."""
    runs = " \\\n  ".join(f"wave_seed{n}_20260131_120000_1a2b3c4d" for n in range(60))
    notes = tuple(f"Wave minus standard over seeds {n}, {n}: {'1.2345 ' * 10}" for n in range(100))
    told = describe(Study("s", (Variant("wave", {0: "id"}, {}),), notes, f"spectral study s {runs}"))
    assert len(told) < 8000
    assert "wave_seed59" in told
    whole = told.count("Wave minus")
    assert whole > 30
    assert told.endswith(f"1.2345\n\nAnd {100 - whole} more, which the command tells.")
    assert max(map(len, told[told.index("Make it") : told.index("Wave minus")].splitlines())) < 90


def test_store_that_does_not_answer(
    four: list[Any], store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a failure of the store, not a mistake of the user, and says that the command may be given again."""
    _study("s", *four)
    capsys.readouterr()
    monkeypatch.setattr(sync, "PATIENCE", 0.1)
    Path(store.removeprefix("sqlite:///")).write_bytes(b"no database" * 100)
    assert cli.main(["study", "s", *(run.name for run in four)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "study 's' is not complete" in line
    assert "again later" in line
