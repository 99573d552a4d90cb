"""The Markdown description that the MLflow page of a run shows."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator
from typing import Any

from spectral_mlflow import journal
from spectral_mlflow.journal import Record
from spectral_mlflow.provenance import UNKNOWN
from spectral_mlflow.stores import images
from spectral_mlflow.stores.base import Outcome, RunView
from spectral_mlflow.stores.images import Plot
from spectral_mlflow.stores.markdown import artifact, code, folded, literal

LONGEST_SAMPLE = 600
# Shown in the description, newest step; the others are links.
PICTURES = ("training/dynamics", "wave/frequencies")
LONGEST_REASON = 300
MOST_LINKS = 20
RESULTS = {
    "val_loss": "validation loss {}",
    "perplexity": "perplexity {}",
    "best_val_loss": "best validation loss {}",
    "best_step": "at step {}",
    "total_time_seconds": "{} seconds",
}
ARCHIVE = "code_snapshot/code.tar.gz"


def heading(start: Record) -> str:
    """First line of every description of ours: one that begins otherwise was written by a person."""
    return f"**{literal(start['experiment_id'])}**"


def is_ours(text: str | None, start: Record) -> bool:
    """Whether a description may be written anew: there is none, or it is one of ours, of earlier versions too."""
    return text is None or text.startswith((heading(start), f"**{start['experiment_id']}**"))


def describe(
    run: RunView,
    start: Record,
    run_id: str,
    outcome: Outcome | None = None,
    stored: Callable[[], Collection[str]] = tuple,
) -> str:
    """What came of the run, what it is, how to repeat it, and its plots. MLflow folds all but the first lines.

    Args:
        run: the run directory.
        start: its start event.
        run_id: the run in MLflow, whose files can be fetched.
        outcome: how it ended; None while it goes on.
        stored: names of the files of images that MLflow has.
    """
    config = run.config()
    return "\n".join([
        heading(start),
        "",
        *_result(run.results(), outcome),
        *_what(config),
        *_again(run, start, config, run_id),
        *_plots(run, start, run_id, stored),
        *_sample(run),
    ])  # fmt: skip


def _result(results: Record, outcome: Outcome | None) -> Iterator[str]:
    if outcome is not None and outcome.status != "FINISHED":
        yield f"- ended: {outcome.status}" + (f", {literal(outcome.reason[:LONGEST_REASON])}" if outcome.reason else "")
    final = results.get("final_metrics") or {}
    if told := [text.format(_number(final[key])) for key, text in RESULTS.items() if key in final]:
        yield f"- result: {', '.join(told)}"


def _what(config: Record) -> Iterator[str]:
    model, data = config.get("model") or {}, config.get("dataset") or {}
    training = (config.get("config") or {}).get("training") or {}
    told = {
        "model": (model.get("type"), _count(model.get("num_parameters"), "parameters")),
        "data": (data.get("name"), _count(data.get("num_tokens"), "tokens")),
        "training": (
            _count(training.get("steps"), "steps"),
            training.get("optimizer"),
            None if training.get("loss") is None else f"loss {training['loss']}",
            None if training.get("seed") is None else f"seed {training['seed']}",
        ),
    }
    for name, what in told.items():
        if known := [literal(one) for one in what if one is not None]:
            yield f"- {name}: {', '.join(known)}"


def _count(value: Any, unit: str) -> str | None:
    return None if value is None else f"{value:,} {unit}" if isinstance(value, int) else f"{value} {unit}"


def _again(run: RunView, start: Record, config: Record, run_id: str) -> Iterator[str]:
    commit = (config.get("git") or {}).get("commit") or config.get("git_hash") or UNKNOWN
    at = "" if commit == UNKNOWN else f" (code at commit {literal(commit[:12])})"
    if (start.get("tags") or {}).get("spectral.kind") == "own-loop":
        kept = [f"`{name}`" for name in ("config.json", ARCHIVE) if (run.directory / name).is_file()]
        yield f"\nA loop of its own{at}; among the artifacts: {', '.join(kept)}"
        return
    path = run.directory.absolute() / "config.json"
    yield f"\nRepeat it{at}:\n"
    # In two lines: MLflow breaks none in a block, and a long one pushes the page aside.
    yield from code(f"python -m spectral_mlflow train \\\n  --config {shlex.quote(str(path))}")
    yield ""
    yield f"The same file is the artifact `config.json`: `mlflow artifacts download -r {run_id} -a config.json`"


def _plots(run: RunView, start: Record, run_id: str, stored: Callable[[], Collection[str]]) -> Iterator[str]:
    """The newest plot of each name that is still there: a few to be seen where MLflow has them, the others as links."""
    plots = images.plots_of(run, run_id, journal.milliseconds(start["timestamp"]))
    plots.sort(key=lambda plot: plot.step)  # What was left to draw at the end may be of any step.
    newest = {plot.key: plot for plot in plots}
    there = stored() if plots else ()
    pictures = {plot.key: plot for plot in plots if f"{plot.name}{images.SMALLER}" in there}
    shown = [key for key in PICTURES if key in pictures] or list(pictures)[:1]
    for key in shown:
        address = artifact(f"{images.FOLDER}/{pictures[key].name}{images.SMALLER}", run_id)
        yield f"\n!{_link(pictures[key], address)}"
    others = [_link(plot, artifact(plot.path, run_id)) for key, plot in newest.items() if key not in shown]
    if others:
        more = f" and {len(others) - MOST_LINKS:,} more" if len(others) > MOST_LINKS else ""
        yield f"\nMore plots: {', '.join(others[:MOST_LINKS])}{more}"


def _link(plot: Plot, address: str) -> str:
    return f"[{literal(plot.key)}, step {plot.step}]({address})"


def _sample(run: RunView) -> Iterator[str]:
    samples = run.events("sample")
    if samples:
        yield f"\nSample of step {_known(samples[-1].get('step'))}:\n"
        yield from code(folded(str(samples[-1].get("text", ""))[:LONGEST_SAMPLE]))


def _known(value: Any) -> str:
    return "unknown" if value is None else literal(value)


def _number(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else _known(value)
