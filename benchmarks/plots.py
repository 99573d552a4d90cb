"""What plots cost: ``python -m benchmarks.plots``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.program import Parser, run, say
from benchmarks.tables import Table
from benchmarks.tracking import JUDGED, judged
from spectral_mlflow.config import ModelConfig
from spectral_mlflow.models import gpt
from spectral_mlflow.monitoring.visualizations import VisualizationManager

WHOLE_RUN = 1 / 0.97  # Limit of the time with plots over that without.
MODEL_PLOTS = 5.0  # Limit in seconds.
INTERVAL, STEPS = 250, 1000
TOY_INTERVAL, TOY_STEPS = 4, 8
TOY_MODEL = ("--model.d_model", "16", "--model.num_layers", "1", "--model.num_heads", "2", "--model.block_size", "16")
VOCABULARY = 4352  # With the width below: ten million parameters.
LARGE = ModelConfig(type="wave", d_model=320, num_layers=6, num_heads=8, block_size=256)

# What a run differs in: nothing is shown of it, plots are drawn, texts are sampled too.
ARMS: Mapping[str, Mapping[str, str]] = {
    "no plots": {"viz_interval": "0"},
    "plots": {"sample_tokens": "0"},
    "plots and samples": {},
}

ABOUT = """\
Times whole runs, from the start of the process to its end, with a set of plots every 250 of 1,000 steps beside runs
without, in turns: means, not medians, since what is drawn at the end is a part of the run. Then the plots of a model of
ten million parameters, drawn by generate_model_plots in a process of its own. Leave the machine alone meanwhile.
"""
EXAMPLES = """\
examples:
  python -m benchmarks.plots                           both tables, in about half an hour
  python -m benchmarks.plots --rounds 1                in ten minutes
  python -m benchmarks.plots --toy --rounds 1          to see whether it runs
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run(Parser("plots", ABOUT, EXAMPLES, rounds=3), tables, arguments)


def tables(options: argparse.Namespace) -> list[Table]:
    """Measure, and tell what came out."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = model_plots(Path(folder), toy=options.toy)
        return [whole_runs(Path(folder), options.rounds, options.threads, toy=options.toy), drawn]


def whole_runs(folder: Path, rounds: int, threads: int, *, toy: bool) -> Table:
    """Seconds of whole runs, and their ratios."""
    corpus = folder / "corpus.txt"
    corpus.write_text(" ".join(f"{word} of {word % 97}" for word in range(20_000)))
    interval, steps = (TOY_INTERVAL, TOY_STEPS) if toy else (INTERVAL, STEPS)
    usual = {
        "viz_interval": str(interval), "eval_interval": str(steps // 2), "checkpoint_interval": str(steps // 2),
        "stores": "none", "code_snapshot": "false",
    }  # fmt: skip
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    generator = np.random.default_rng(0)
    for turn in range(rounds):
        for arm in (list(ARMS)[place] for place in generator.permutation(len(ARMS))):
            say(f"round {turn + 1} of {rounds}: a run of {steps} steps, {arm}")
            settings = {f"--monitoring.{name}": value for name, value in (usual | ARMS[arm]).items()}
            settings |= {"--dataset.path": str(corpus), "--steps": str(steps), "--runtime.threads": str(threads)}
            seconds[arm].append(_seconds(folder, [*(TOY_MODEL if toy else ()), *_flat(settings)]))
    means = {arm: float(np.mean(taken)) for arm, taken in seconds.items()}
    first = means["no plots"]
    rows = [
        [arm, mean, float(np.min(seconds[arm])), float(np.max(seconds[arm])),
         *(judged(mean / first, WHOLE_RUN) if arm == "plots" else [mean / first, None, None])]
        for arm, mean in means.items()
    ]  # fmt: skip
    drawn = len(list(folder.glob("experiments/*/visualizations/*.png")))
    note = f"{rounds} runs of each, a set of plots every {interval} of {steps} steps, {drawn} plots drawn in all."
    return Table("a whole run", ("", "mean s", "least", "most", *JUDGED), rows, [note])


def _flat(settings: Mapping[str, str]) -> list[str]:
    return [part for pair in settings.items() for part in pair]


def _seconds(folder: Path, arguments: Sequence[str]) -> float:
    """Of a training as a user starts it."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "spectral_mlflow", "train", *arguments],
        env={**os.environ, "SPECTRAL_HOME": str(folder)}, check=True, capture_output=True,
    )  # fmt: skip
    return time.perf_counter() - began


DRAW = "import sys; from benchmarks.plots import draw; draw(sys.argv[1], toy=sys.argv[2] == 'toy')"


def model_plots(folder: Path, *, toy: bool) -> Table:
    """Seconds of the plots of a model: the first ones, which import matplotlib, and the next."""
    say("plots of a model")
    done = subprocess.run(
        [sys.executable, "-c", DRAW, str(folder / "plots"), "toy" if toy else "whole"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    parameters, plots, *seconds = json.loads(done.stdout)
    rows = [
        [name, plots, taken, f"{MODEL_PLOTS:g}", "yes" if taken < MODEL_PLOTS else "NO"]
        for name, taken in zip(("first, with matplotlib's import", "next"), seconds, strict=True)
    ]
    title = f"generate_model_plots of a model of {parameters:,} parameters"
    return Table(title, ("", "plots", "seconds", "under", "reached"), rows)


def draw(folder: str, *, toy: bool) -> None:
    """Draw the plots of a new model twice; prints its parameters, the plots, and the seconds of each time."""
    torch.set_num_threads(1)
    config = replace(LARGE, d_model=16, num_layers=1, num_heads=2, block_size=16) if toy else LARGE
    model = gpt.build(config, 64 if toy else VOCABULARY, seed=0)
    manager, passage = VisualizationManager(folder), torch.arange(16)
    seconds, plots = [], 0
    for step in (1, 2):
        began = time.perf_counter()
        plots = max(plots, len(manager.generate_model_plots(step, model, passage=passage)))
        seconds.append(time.perf_counter() - began)
    print(json.dumps([model.num_parameters(), plots, *seconds]))


if __name__ == "__main__":
    sys.exit(main())
