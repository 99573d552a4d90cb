"""Variants side by side, and what is said of them."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from tracking_store import TrackingStore, falling

from spectral_mlflow.analysis import report, wording
from spectral_mlflow.analysis.convergence import common_target, converge
from spectral_mlflow.analysis.runs import load_histories, load_runs
from spectral_mlflow.analysis.side_by_side import HISTORIES, SideBySide, side_by_side

SHA = "cd" * 32


def compared(store: TrackingStore, target: float | None = None) -> SideBySide:
    """All training runs of a store."""
    runs = load_runs(store.uri)
    return side_by_side(runs, load_histories(store.uri, runs["run_id"], HISTORIES), target)


def test_the_standard_model_is_the_reference(store: TrackingStore) -> None:
    """Whatever the losses, the others are held against it, as one family, and it comes first."""
    for seed in range(3):
        noise = (0.0, 0.0004, -0.0003)[seed]
        store.train("wave", seed, falling(2.30 + 0.01 * seed + noise))
        store.train("standard", seed, falling(2.40 + 0.01 * seed))
        store.train("wave", seed, falling(2.40 + 0.01 * seed - noise), settings={"training.lr": "0.001"})
    (group,) = compared(store).groups
    assert [entry.variant.model for entry in group.entries] == ["standard", "wave", "wave"]
    assert [test.outcome for test in group.tests] == ["lower", "equivalent"]
    assert [test.seeds for test in group.tests] == [(0, 1, 2)] * 2
    assert wording.line(group.tests[0]).startswith("wave, lr 0.002 against standard: lower by 0.1000 nats a token [")
    assert "equivalent within 0.01" in wording.line(group.tests[1])


def test_the_reference_is_not_the_luckiest(store: TrackingStore) -> None:
    """Without a standard model the variant with the most seeds is the reference, the first of several."""
    for place, loss in enumerate((2.5, 2.3, 2.2)):
        for seed in range(2 if place < 2 else 1):
            store.train("wave", seed, falling(loss), settings={"training.lr": str(0.001 * (place + 1))})
    (group,) = compared(store).groups
    assert [entry.label for entry in group.entries] == ["wave, lr 0.001", "wave, lr 0.003", "wave, lr 0.002"]
    assert "(one seed, no uncertainty)" in wording.line(group.tests[0])


def test_cells_of_a_study_are_their_names(store: TrackingStore) -> None:
    """A variant is called as its cell is, and the cell none is the reference."""
    for cell, model in (("all", "wave"), ("none", "standard")):
        run = store.train(model, 0, falling(2.4))
        store.client.set_tag(run, "spectral.cell", cell)
    (group,) = compared(store).groups
    assert [entry.label for entry in group.entries] == ["none", "all"]


@pytest.mark.parametrize(
    ("setting", "fact", "word"),
    [
        ({"model.block_size": "64"}, {}, "model.block_size differs: 128, 64"),
        ({}, {"dataset.sha256": SHA}, "dataset.sha256 differs"),
        ({}, {"model.vocab_size": "99"}, "model.vocab_size differs: 65, 99"),
    ],
    ids=["context", "data", "vocabulary"],
)
def test_losses_of_other_questions_are_shown_apart(
    store: TrackingStore, setting: dict[str, str], fact: dict[str, str], word: str
) -> None:
    """No verdict joins them, and what differs is said."""
    store.train("standard", 0, falling(2.4))
    store.train("wave", 0, falling(2.3), settings=setting, facts=fact)
    found = compared(store)
    assert len(found.groups) == 2
    assert [group.tests for group in found.groups] == [(), ()]
    assert word in found.notes[0]


def test_other_budgets_get_no_verdict(store: TrackingStore) -> None:
    """They stand in one table, but more steps are no property of a model."""
    store.train("standard", 0, falling(2.4))
    store.train("wave", 0, falling(2.3), settings={"training.steps": "77"})
    (group,) = compared(store).groups
    assert group.tests == ()
    assert group.notes == ("wave has no verdict against standard: training.steps is 77 and 1000",)


def test_runs_that_are_left_out_are_named(store: TrackingStore) -> None:
    """Failed, diverged and repeated runs are told with the reason."""
    store.train("wave", 0, falling(2.4), name="first")
    store.train("wave", 0, falling(2.4), name="second")
    store.train("wave", 1, falling(2.4), name="broken", status="FAILED")
    store.train("wave", 2, {100: math.inf}, name="diverged")
    found = compared(store)
    assert [note.split(" ", 1)[0] for note in found.notes] == ["first", "broken", "diverged"]
    assert "a later run" in found.notes[0]
    assert "FAILED" in found.notes[1]
    assert "finite" in found.notes[2]
    assert found.groups[0].notes == ("wave: seeds 1, 2 without a result, which count nowhere",)


def test_no_runs(store: TrackingStore) -> None:
    """Nothing in, nothing out."""
    assert compared(store) == SideBySide((), ())


def test_when_a_loss_is_reached() -> None:
    """The first measurement at or below the target counts; without one in each seed there is no mean to speak of."""
    start = pd.Timestamp("2026-01-01", tz="UTC")
    points = [("a", 10, 3.0), ("a", 20, 2.0), ("a", 30, 2.5), ("a", 40, 1.0), ("b", 10, math.nan), ("b", 20, 2.6)]
    histories = pd.DataFrame(
        [(run, "val_loss", step, start + pd.Timedelta(seconds=step / 2), value) for run, step, value in points],
        columns=["run_id", "key", "step", "timestamp", "value"],
    )
    rows = {0: {"run_id": "a", "start_time": start}, 1: {"run_id": "b", "start_time": start}}
    found = converge(rows, histories, common_target([{0: 1.0}, {1: 2.6}]))
    assert found.steps == {0: 20.0, 1: 20.0}
    assert found.seconds == {0: 10.0, 1: 10.0}
    later = converge(rows, histories, 2.5)
    assert (later.steps, later.reached, later.runs) == ({0: 20.0}, 1, 2)
    assert later.estimate(later.steps) is None


def test_a_report_escapes_what_users_supply(store: TrackingStore) -> None:
    """A cell's name is text in Markdown and HTML, and no formula in a table."""
    name = '=<script>alert("1")</script>|[x](http://y)'
    store.client.set_tag(store.train("wave", 0, falling(2.4)), "spectral.cell", name)
    made = report.tables(compared(store))
    page, text = report.page("<b>", made, ["a & b"]), report.markdown("*t*", made, [])
    assert "<script>" not in page + text
    assert "<h1>&lt;b&gt;</h1>" in page
    assert "a &amp; b" in page
    assert "](http" not in text
    assert sorted(line.count("|") for line in text.split("\n") if "script" in line and line.startswith("|")) == [
        5,
        5,
        6,
    ]
