"""The Markdown description that the MLflow page of a run shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spectral_mlflow.journal import Record
from spectral_mlflow.provenance import UNKNOWN
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.reader import encodable

LONGEST_SAMPLE = 600
ARCHIVE = "code_snapshot/code.tar.gz"


def heading(start: Record) -> str:
    """First line of every description of ours: one that begins otherwise was written by a person."""
    return f"**{start['experiment_id']}**"


def describe(run: RunView, start: Record, run_id: str) -> str:
    """What the run is, how to repeat it, and its result once there is one.

    Args:
        run: the run directory.
        start: its start event.
        run_id: the run in MLflow, whose files can be fetched.
    """
    config = run.config()
    return "\n".join([
        heading(start),
        "",
        *_what(config),
        *_again(run, start, config, run_id),
        *_result(run.results()),
        *_sample(run),
    ])  # fmt: skip


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
    at = "" if commit == UNKNOWN else f" (code at commit `{commit[:12]}`)"
    if (start.get("tags") or {}).get("spectral.kind") == "own-loop":
        kept = [f"`{name}`" for name in ("config.json", ARCHIVE) if (run.directory / name).is_file()]
        yield f"\nA loop of its own{at}; among the artifacts: {', '.join(kept)}"
        return
    path = run.directory.absolute() / "config.json"
    yield f"\nRepeat it{at}:\n"
    yield f"    python -m spectral_mlflow train --config {path}\n"
    yield f"The same file is the artifact `config.json`: `mlflow artifacts download -r {run_id} -a config.json`"


def _result(results: Record) -> Iterator[str]:
    final = results.get("final_metrics") or {}
    if not final:
        return
    yield "\n| result | |\n| --- | --- |"
    for name in ("val_loss", "perplexity", "best_val_loss", "best_step", "total_time_seconds"):
        if name in final:
            yield f"| {name.replace('_', ' ')} | {_number(final[name])} |"


def _sample(run: RunView) -> Iterator[str]:
    samples = run.events("sample")
    if samples:
        text = encodable(str(samples[-1].get("text", "")))[:LONGEST_SAMPLE].replace("\r", "")
        yield f"\nSample of step {samples[-1].get('step')}:\n"
        yield from (f"    {line}" for line in text.split("\n"))


def _known(value: Any) -> str:
    return "unknown" if value is None else str(value)


def _number(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else _known(value)
