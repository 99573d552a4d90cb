"""What tracking costs: ``python -m benchmarks.tracking``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.program import Parser, run, say
from benchmarks.tables import Cell, Table
from benchmarks.timing import interleaved
from spectral_mlflow import journal
from spectral_mlflow.data import dataset as datasets
from spectral_mlflow.monitoring.metrics import MetricsLogger
from spectral_mlflow.monitoring.profiler import TRACKING
from spectral_mlflow.monitoring.progress import Progress
from spectral_mlflow.monitoring.structured_log import StructuredLog
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.settings import build
from spectral_mlflow.training import devices, runner
from spectral_mlflow.training.gallery import Gallery
from spectral_mlflow.training.learner import Learner
from spectral_mlflow.training.loop import Trainer
from spectral_mlflow.training.speed import Speed
from spectral_mlflow.training.watching import attach

NAMES = (
    "loss", "objective", "perplexity", "learning_rate", "grad/norm", "wave_ratio", "tokens_per_sec", "epoch",
    "system/rss_mb",
)  # fmt: skip
LINES = 200  # For each round of steps.
ALONE, WITH_LOG, WHOLE_RUN, MONITORS = 1.5, 3.0, 1.02, 1.01  # Limits of the ratios.
WATCHING_SHARE = 0.01  # Limit of what watching takes of a step, by the profile of the run itself.
TOY_STEPS, TOY_SAVES = 4, 2

ABOUT = """\
Times a line of nine metrics beside a bare json.dumps and a line-buffered write of the same line, and a training step
with everything on (a line at each step, a checkpoint every 200, the companion sending to MLflow) beside one without
monitors (of anomalies and of the system) and one that nothing watches, in turns in one process. Leave the machine
alone meanwhile: the load average is printed too.
"""
EXAMPLES = """\
examples:
  python -m benchmarks.tracking                        all tables, in about a quarter of an hour
  python -m benchmarks.tracking --rounds 2             in three minutes
  python -m benchmarks.tracking --markdown > tables.md to paste
  python -m benchmarks.tracking --toy --rounds 1       to see whether it runs
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run(Parser("tracking", ABOUT, EXAMPLES, rounds=10), tables, arguments)


def tables(options: argparse.Namespace) -> list[Table]:
    """Measure, and tell what came out."""
    with tempfile.TemporaryDirectory() as folder, home(Path(folder)):
        say(f"lines, {options.rounds} rounds of {LINES} each")
        lines = measure_lines(Path(folder), options.rounds)
        scale = TOY if options.toy else Scale()
        say(f"steps, {options.rounds} rounds of {scale.steps} with tracking, as many without monitors and without all")
        steps = measure_steps(Path(folder), scale, options.rounds, options.threads)
    return [lines, *steps]


# Lines


def measure_lines(folder: Path, rounds: int) -> Table:
    """Microseconds of a line, and their ratios."""
    values = {name: 1 / (3 + place) for place, name in enumerate(NAMES)}
    with ExitStack() as stack:
        bare = stack.enter_context((folder / "bare.jsonl").open("w", buffering=1))
        log = stack.enter_context(StructuredLog(folder / "other.log"))
        alone = stack.enter_context(MetricsLogger(str(folder / "alone"), log=log))
        with_log = stack.enter_context(MetricsLogger(str(folder / "with_log")))

        def write() -> None:
            bare.write(json.dumps({"step": 1, "timestamp": time.time(), **values}) + "\n")

        actions: dict[str, Callable[[], object]] = {
            "json.dumps and a write": write,
            "log_metrics, the journal alone": lambda: alone.log_metrics(1, values),
            "log_metrics, with its training.log": lambda: with_log.log_metrics(1, values),
        }
        times = interleaved(actions, rounds=rounds * LINES)  # As amid training: each call finds the caches of others.
    first = times["json.dumps and a write"]
    limits = (None, ALONE, WITH_LOG)
    rows = [
        [name, 1e6 * taken.median, 1e6 * float(np.mean(taken.seconds)), *judged(taken.median / first.median, limit)]
        for (name, taken), limit in zip(times.items(), limits, strict=True)
    ]
    return Table(f"a line of {len(values)} metrics", ("", "median us", "mean us", *JUDGED), rows)


JUDGED = ("of the first", "at most", "reached")


def judged(ratio: float, limit: float | None) -> list[Cell]:
    """A ratio beside what is wanted of it."""
    if limit is None:
        return [None, None, None]
    return [ratio, f"{limit:g}", "yes" if ratio <= limit else "NO"]


# Steps


@dataclass(frozen=True)
class Scale:
    """Sizes of the run whose steps are timed.

    Attributes:
        settings: that differ from the defaults.
        steps: in a turn.
        checkpoint_interval: of the run that is tracked.
    """

    settings: tuple[tuple[str, str], ...] = ()
    steps: int = 50
    checkpoint_interval: int = 200


TOY = Scale(
    (("model.d_model", "16"), ("model.num_layers", "1"), ("model.num_heads", "2"), ("model.block_size", "16"),
     ("batch_size", "4"), ("monitoring.stores", "none")),
    TOY_STEPS, TOY_SAVES,
)  # fmt: skip

NO_MONITORS = {"monitoring.anomalies": "false", "monitoring.system_interval": "0"}


@contextmanager
def home(folder: Path) -> Iterator[None]:
    """Runs and store in a folder of their own."""
    before = os.environ.get("SPECTRAL_HOME")
    os.environ["SPECTRAL_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SPECTRAL_HOME"]
        else:
            os.environ["SPECTRAL_HOME"] = before


class Steps:
    """A run that can be taken step by step, watched or not."""

    def __init__(
        self, folder: Path, scale: Scale, *, steps: int, threads: int, settings: Mapping[str, str] | None = None
    ) -> None:
        corpus = folder / "corpus.txt"
        corpus.write_text(" ".join(f"{word} of {word % 97}" for word in range(20_000)))
        config = build({
            "dataset.path": str(corpus), "runtime.threads": str(threads), "steps": str(steps + 1),
            "monitoring.checkpoint_interval": str(scale.checkpoint_interval), "monitoring.code_snapshot": "false",
            "monitoring.viz_interval": "0",  # Plots and samples are work of their own.
            **dict(scale.settings), **(settings or {}),
        })  # fmt: skip
        machine = devices.choose(config.runtime)
        dataset = datasets.prepare(config.dataset, config.model.block_size)
        self.state = runner.new_state(config, dataset, machine)
        self.watching = attach(config, dataset, self.state, machine)
        self.learner = Learner(
            config, dataset, self.state, machine, Speed(self.state.model.flops_per_token(), 1e11),
            profiler=self.watching.profiler,
        )  # fmt: skip
        self.config, self.dataset, self.machine = config, dataset, machine

    def bare(self) -> None:
        """A step that nobody hears of."""
        self.learner.step()

    @contextmanager
    def tracked(self) -> Iterator[Callable[[], None]]:
        """A step as a run takes it, with journal, checkpoints and companion."""
        tracker = ExperimentTracker(self.config)
        tracker.start_experiment(self.state.model, self.dataset.info(), self.machine.facts())
        with ExitStack() as stack:
            nowhere = stack.enter_context(Path(os.devnull).open("w"))
            progress = stack.enter_context(Progress(self.config.training.steps, stream=nowhere))
            watch = stack.enter_context(self.watching.watch(tracker, progress))
            gallery = Gallery(self.config, self.dataset, self.state, watch, None)
            trainer = Trainer(self.config, self.learner, watch, gallery)

            def step() -> None:
                result, metrics = self.learner.step()
                trainer.count(result)
                trainer.record(result, metrics)

            tracker.checkpoints.prepare(self.state.model, self.state.optimizer)
            yield step
        tracker.end_experiment("completed", step=self.state.step)
        tracker.wait_for_stores(60.0)
        tracker.close()


def measure_steps(folder: Path, scale: Scale, rounds: int, threads: int) -> list[Table]:
    """Milliseconds of a step, watched and not, and the ratios; and what each part of watching takes."""
    total = 2 * scale.steps * rounds + 2
    watched, free = (Steps(folder, scale, steps=total, threads=threads) for _ in range(2))
    blind = Steps(folder, scale, steps=total, threads=threads, settings=NO_MONITORS)
    with blind.tracked() as unmonitored, watched.tracked() as step:
        if watched.config.monitoring.stores:
            wait_for_companion(folder)
        actions = {"nothing": free.bare, "no monitors": unmonitored, "everything": step}
        times = interleaved(actions, rounds=rounds, calls=scale.steps)
        lines = [len(journal.records(path)) for path in folder.glob("experiments/*/logs/metrics.jsonl")]
        saved = len(list(folder.glob("experiments/*/checkpoints/*_step_*.pt")))
    off, some, on = times["nothing"], times["no monitors"], times["everything"]
    means = [float(np.mean(taken.seconds)) for taken in (off, some, on)]
    rows = [
        ["nothing watches", 1e3 * off.median, 1e3 * means[0], None, None, None],
        ["median, everything on", 1e3 * on.median, None, *judged(on.median / off.median, WHOLE_RUN)],
        ["mean, everything on", None, 1e3 * means[2], *judged(means[2] / means[0], WHOLE_RUN)],
        ["monitors: median, of that without them", 1e3 * some.median, None, *judged(on.median / some.median, MONITORS)],
    ]
    note = f"{len(on.seconds)} steps of each, {max(lines)} lines, {saved} checkpoints kept."
    steps = Table("a training step", ("", "median ms", "mean ms", *JUDGED), rows, [note])
    return [steps, parts(watched, sum(on.seconds))]


def parts(watched: Steps, seconds: float) -> Table:
    """What watching took by the profile of the run, of so many seconds of steps."""
    rows: list[list[Cell]] = [
        [row.name, 1e3 * row.own / watched.state.step, row.own / seconds, None, None]
        for row in watched.watching.profiler.rows()
        if row.name in TRACKING
    ]
    share = watched.watching.profiler.seconds(*TRACKING) / seconds
    reached = "yes" if share <= WATCHING_SHARE else "NO"
    rows.append(["all", 1e3 * share * seconds / watched.state.step, share, f"{WATCHING_SHARE:g}", reached])
    return Table("what watching takes of a step", ("", "mean ms", "share", "at most", "reached"), rows)


def wait_for_companion(folder: Path) -> None:
    """Until it has sent something: its start takes seconds of CPU, once in a run of hours."""
    deadline = time.monotonic() + 120
    while not any(folder.glob("experiments/*/stores/mlflow.json")) and time.monotonic() < deadline:
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
