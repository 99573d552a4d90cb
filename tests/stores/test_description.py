"""The description of a run in MLflow: what it says first, and that no text of others is markup in it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from PIL import Image

from spectral_mlflow.stores.base import Outcome, RunView
from spectral_mlflow.stores.companion import Companion, Pace
from spectral_mlflow.stores.description import describe, is_ours
from spectral_mlflow.stores.markdown import artifact, code, folded, literal
from spectral_mlflow.stores.mlflow import MlflowStore

EVIL = (
    "<img src=x onerror=alert(1)>", "](javascript:alert(1))", "![x](https://evil.example/x.png)", "a | b", "`x`",
    "**x**", "@somebody", "https://evil.example", "www.evil.example", "me@evil.example", "~~x~~", "<script>x</script>",
)  # fmt: skip


@given(st.text() | st.sampled_from(EVIL))
def test_text_of_others_stays_text(text: str) -> None:
    """A reader sees exactly the text, in one line, and Markdown nothing that begins markup, a link or a mention."""
    shown = literal(text)
    assert html.unescape(shown) == " ".join(text.replace("\0", "").split())
    assert not re.search(r'[<>\[\]`|*~@\\"]|://|www\.', re.sub(r"&#\d+;", "", shown), re.IGNORECASE)


@given(st.text() | st.sampled_from(EVIL))
def test_every_line_of_code_is_indented(text: str) -> None:
    """No line end of any kind leads out of a block of code."""
    lines = code(text)
    assert all(line.startswith("    ") and len(line.splitlines()) == 1 for line in lines)


@given(st.text())
def test_address_of_an_artifact_has_its_path(path: str) -> None:
    """Whatever a path is, MLflow reads it back from the address, which has no space or bracket to end it."""
    address = artifact(path, "abc")
    assert parse_qs(urlsplit(address).query, keep_blank_values=True) == {"path": [path], "run_uuid": ["abc"]}
    assert not re.search(r"[\s()<>\[\]]", address)


@pytest.mark.parametrize("evil", EVIL)
def test_names_with_markup_are_escaped(new_run: Callable[..., Any], evil: str) -> None:
    """Names that a loop of one's own may give to run, model, data, plots and samples are no markup."""
    run = new_run("own", experiment_id=evil)
    config = {"model": {"type": evil}, "dataset": {"name": evil}, "config": {"training": {"optimizer": evil}}}
    run.file("config.json", json.dumps(config))
    run.file("plot.png")
    run.event("artifact", kind="plot", path="plot.png", step=1, key=evil)
    run.event("sample", step=2, text=evil)
    view = RunView(run.directory)
    start = view.start()
    assert start is not None
    told = describe(view, start, "id", Outcome("FAILED", evil, 0))
    assert is_ours(told, start)
    text, _, sample = told.partition("Sample of step 2:\n\n")
    assert sample == f"    {evil}"
    assert evil not in re.sub(r"\(get-artifact\S+\)", "", text)  # An address is escaped in its own way.
    assert text.count(literal(evil)) == 6


def test_what_came_out_is_said_first(new_run: Callable[..., Any]) -> None:
    """How the run ended and its result come before what it was: MLflow folds all but the first lines."""
    run = new_run()
    run.file("results.json", json.dumps({"final_metrics": {"val_loss": 1.25, "best_val_loss": 1.2, "best_step": 200}}))
    view = RunView(run.directory)
    start = view.start()
    assert start is not None
    told = describe(view, start, "id", Outcome("KILLED", "signal 15", 0)).splitlines()
    assert told[2:4] == [
        "- ended: KILLED, signal 15",
        "- result: validation loss 1.2500, best validation loss 1.2000, at step 200",
    ]
    told = describe(view, start, "id", Outcome("FINISHED", None, 0)).splitlines()
    assert told[2].startswith("- result:")


def test_what_is_not_known_is_left_out(new_run: Callable[..., Any]) -> None:
    """A loop of one's own that tells its data alone has no line of what it does not tell."""
    run = new_run("own")
    run.file("config.json", json.dumps({"dataset": {"name": "text"}, "config": {"training": {"steps": 1000}}}))
    view = RunView(run.directory)
    start = view.start()
    assert start is not None
    assert describe(view, start, "id").splitlines()[2:4] == ["- data: text", "- training: 1,000 steps"]


def test_no_line_pushes_the_page_aside(new_run: Callable[..., Any]) -> None:
    """A long sample is folded with every character, and of many plots the first are linked and the others counted."""
    run = new_run()
    for number in range(30):
        run.file(f"p{number}.svg")
        run.event("artifact", kind="plot", path=f"p{number}.svg", step=1)
    sample = "the wave  and the beat " * 20 + "\n  x" * 3
    run.event("sample", step=3, text=sample)
    view = RunView(run.directory)
    start = view.start()
    assert start is not None
    told, _, block = describe(view, start, "id").partition("Sample of step 3:\n\n")
    assert max(map(len, block.splitlines())) <= 94
    assert "".join(line[4:] for line in block.splitlines()) == sample.replace("\n", "")
    assert told.count("step 1](get-artifact") == 20
    assert told.rstrip().endswith(" and 10 more")


@given(st.text())
def test_folding_loses_nothing(text: str) -> None:
    """Each line is cut into pieces of at most 90 characters, which together are the line."""
    cut = folded(text)
    assert re.sub(r"\s", "", cut) == re.sub(r"\s", "", text)
    assert all(len(line) <= 90 for line in cut.split("\n"))


def test_newest_plots_are_shown(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """The plot of the highest step is in the description, at the address of an image that is there; others are links.

    What was left to draw at the end of a run may come in any order.
    """
    run = new_run()
    for step, key in ((20, "training/dynamics"), (10, "training/dynamics"), (20, "wave/phases")):
        run.file(f"visualizations/{key.split('/')[1]}_step_{step}.png")
        Image.new("RGB", (9, 9)).save(run.directory / f"visualizations/{key.split('/')[1]}_step_{step}.png")
        run.event(
            "artifact", kind="plot", path=f"visualizations/{key.split('/')[1]}_step_{step}.png", step=step, key=key
        )
    run.event("artifact", kind="plot", path="visualizations/gone_step_30.png", step=30, key="wave/gone")
    run.end()
    Companion(RunView(run.directory), MlflowStore(store), pace=fast).catch_up()
    client, run_id = MlflowClient(tracking_uri=store), run.state()["run_id"]
    note = client.get_run(run_id).data.tags["mlflow.note.content"]
    ((step, address),) = re.findall(r"!\[training/dynamics, step (\d+)\]\((\S+)\)", note)
    assert step == "20"
    asked = parse_qs(urlsplit(address).query)
    assert asked["run_uuid"] == [run_id]
    assert asked["path"][0] in {entry.path for entry in client.list_artifacts(run_id, "images")}
    assert "[wave/phases, step 20](get-artifact?path=visualizations%2Fphases_step_20.png&" in note
    assert "gone" not in note


def test_description_of_an_earlier_version_is_ours(new_run: Callable[..., Any]) -> None:
    """A name that was once written without escaping is known again; what a person wrote is not."""
    start = new_run("_odd_name_").start
    assert is_ours("**_odd_name_**\n\n- model", start)
    assert is_ours(None, start)
    assert not is_ours("My notes", start)
