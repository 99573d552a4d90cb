"""The Markdown description that the MLflow page of a run shows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from spectral_mlflow import journal
from spectral_mlflow.journal import Record
from spectral_mlflow.provenance import UNKNOWN
from spectral_mlflow.stores import images
from spectral_mlflow.stores.base import Outcome, RunView
from spectral_mlflow.stores.markdown import artifact, code, literal

LONGEST_SAMPLE = 600
# Shown in the description, newest step; the others are links.
PICTURES = ("training/dynamics", "wave/frequencies")
LONGEST_REASON = 300
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


def describe(run: RunView, start: Record, run_id: str, outcome: Outcome | None = None) -> str:
    """What came of the run, what it is, how to repeat it, and its plots. MLflow folds all but the first lines.

    Args:
        run: the run directory.
        start: its start event.
        run_id: the run in MLflow, whose files can be fetched.
        outcome: how it ended; None while it goes on.
    """
    config = run.config()
    return "\n".join([
        heading(start),
        "",
        *_result(run.results(), outcome),
        *_what(config),
        *_again(run, start, config, run_id),
        *_plots(run, start, run_id),
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
    yield f"- model: {_known(model.get('type'))}, {_number(model.get('num_parameters'))} parameters"
    yield f"- data: {_known(data.get('name'))}, {_number(data.get('num_tokens'))} tokens"
    if training:
        steps, optimizer, loss, seed = (_known(training.get(n)) for n in ("steps", "optimizer", "loss", "seed"))
        yield f"- training: {steps} steps, {optimizer}, loss {loss}, seed {seed}"


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


def _plots(run: RunView, start: Record, run_id: str) -> Iterator[str]:
    """The newest plot of each name that is still there: a few to be seen, the others as links."""
    plots = [event for event in run.events("artifact") if images.is_plot(event)]
    there = [event for event in plots if (run.directory / event["path"]).is_file()]
    # Not in the order of the journal: what was left to draw at the end may be of any step.
    newest = {images.key_of(event): event for event in sorted(there, key=lambda event: event.get("step") or 0)}
    shown = [key for key in PICTURES if key in newest] or list(newest)[:1]
    for key in shown:
        name = images.name_of(newest[key], run_id, journal.milliseconds(start["timestamp"]))
        yield f"\n!{_link(key, newest[key], artifact(f'{images.FOLDER}/{name}{images.SMALLER}', run_id))}"
    others = [_link(key, newest[key], artifact(newest[key]["path"], run_id)) for key in newest if key not in shown]
    if others:
        yield f"\nMore plots: {', '.join(others)}"


def _link(key: str, event: Record, address: str) -> str:
    return f"[{literal(key)}, step {_known(event.get('step'))}]({address})"


def _sample(run: RunView) -> Iterator[str]:
    samples = run.events("sample")
    if samples:
        yield f"\nSample of step {_known(samples[-1].get('step'))}:\n"
        yield from code(str(samples[-1].get("text", ""))[:LONGEST_SAMPLE])


def _known(value: Any) -> str:
    return "unknown" if value is None else literal(value)


def _number(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else _known(value)
