"""Losses of many settings: a study is a list of cells, and a cell is a training run of the product.

``python -m benchmarks.quality STUDY`` trains what the store does not have yet and prints a table; call it again
after a stop and it goes on. Every cell is a process with one thread, as many at a time as ``--lanes`` says: two
processes with several threads each slow each other down many times over on a small machine.
"""

from __future__ import annotations

import argparse
import math
import re
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cells import Cell, command, is_finished, log_path, results, stored, train
from spectral_mlflow.analysis.statistics import estimate
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.run_lock import is_running
from spectral_mlflow.monitoring.structured_log import duration
from spectral_mlflow.settings import full_name

Overrides = Mapping[str, object]


@dataclass(frozen=True)
class Study:
    """Settings to compare: each of ``rows``, on top of what they share, with each seed."""

    rows: Sequence[tuple[str, Overrides]]  # What the table calls them, and their settings.
    shared: Overrides = field(default_factory=dict)
    seeds: Sequence[int] = (0,)


WAVE = {"model": "wave"}
STANDARD = {"model": "standard"}

# What all studies share; a study's own settings come on top. Nothing is drawn or sampled: only losses count.
SHARED: Overrides = {
    "dataset": "tinyshakespeare",
    "steps": 1000,
    "device": "cpu",
    "monitoring.eval_interval": 250,
    "monitoring.log_interval": 10,
    "monitoring.checkpoint_interval": 1_000_000,
    "monitoring.keep_last_n": 1,
    "monitoring.viz_interval": 1_000_000,
    "monitoring.sample_tokens": 0,
    "monitoring.code_snapshot": False,
}

SMOKE: Overrides = {
    "model.d_model": 16, "model.num_layers": 1, "model.num_heads": 2, "model.block_size": 16,
    "dataset": "python-docs", "steps": 5, "batch_size": 4, "training.warmup_steps": 2,
}  # fmt: skip


def both(label: str, overrides: Overrides) -> list[tuple[str, Overrides]]:
    """One change in each of the two models."""
    return [
        (f"standard, {label}", {**STANDARD, **overrides}),
        (f"wave, {label}", {**WAVE, **overrides}),
    ]


STUDIES: dict[str, Study] = {
    # One seed at a fixed number of tokens: where is each model at its best? Each row changes one setting of the start,
    # the last ones two.
    "sweep": Study(
        shared={"steps": 500, "monitoring.eval_interval": 500, "lr": 1e-3, "model.embedding_std": 0.02},
        rows=[
            *both("start", {}),
            *(row for lr in (5e-4, 2e-3, 4e-3) for row in both(f"lr {lr:g}", {"lr": lr})),
            *(row for gain in (0.226, 0.5, 2.0) for row in both(f"init_gain {gain:g}", {"model.init_gain": gain})),
            *((f"wave, packet_spread {s:g}", {**WAVE, "model.packet_spread": s}) for s in (0.0, 0.03, 0.3, 1.0)),
            *(row for std in (0.01, 0.05) for row in both(f"embedding_std {std:g}", {"model.embedding_std": std})),
            *((f"wave, tau {tau:g}", {**WAVE, "model.tau": tau}) for tau in (2.83, 11.3)),
            *((f"wave, wave_ratio {r:g}", {**WAVE, "model.wave_ratio": r}) for r in (0.2, 0.8)),
            *((f"wave, harmonic_decay {d:g}", {**WAVE, "model.harmonic_decay": d}) for d in (0.0, 2.0)),
            *((f"wave, max_phase_speed {v:g}", {**WAVE, "model.max_phase_speed": v}) for v in (0.3, 1.0)),
            ("wave, embedding_std 0.05, lr 2e-3", {**WAVE, "model.embedding_std": 0.05, "lr": 2e-3}),
            ("wave, embedding_std 0.1", {**WAVE, "model.embedding_std": 0.1}),
        ],
    ),
    # Both models at their best settings: is the difference larger than that between seeds?
    "seeds": Study(
        shared={"steps": 500, "monitoring.eval_interval": 100},
        seeds=range(5),
        rows=[
            ("standard", {**STANDARD, "lr": 2e-3}),
            ("wave", {**WAVE, "lr": 1e-3}),
        ],
    ),
    # Seconds, without a download: does all of it work here?
    "smoke": Study(
        shared=SMOKE,
        rows=[
            ("standard", STANDARD),
            ("wave", WAVE),
        ],
    ),
}


def cells(name: str, threads: int) -> list[Cell]:
    """The cells of a study, all rows of one seed before the next seed, so that an unfinished table is fair."""
    study = STUDIES[name]
    shared = {**SHARED, **study.shared, "runtime.threads": threads, "monitoring.mlflow_experiment": f"quality-{name}"}
    found = []
    for seed in study.seeds:
        for label, row in study.rows:
            run_name = re.sub(r"[^A-Za-z0-9.]+", "_", f"{label}_seed{seed}")
            given = {**_by_full_name(shared), **_by_full_name(row), "training.seed": seed, "name": run_name}
            found.append(Cell(label, seed, {key: _text(value) for key, value in given.items()}))
    return found


def _by_full_name(settings: Overrides) -> dict[str, object]:
    return {full_name(name): value for name, value in settings.items()}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# What is printed


class Reporter:
    """Prints a line for every cell that ends, and remembers which have failed."""

    def __init__(self, store: Path, done: int, total: int, lanes: int) -> None:
        self.store = store
        self.done = done
        self.total = total
        self.lanes = lanes
        self.failed: list[Cell] = []
        self._seconds: list[float] = []

    def __call__(self, cell: Cell, exit_code: int, seconds: float) -> None:
        """Say how a cell ended, and when all of them will have."""
        self.done += 1
        self._seconds.append(seconds)
        run_dir = stored(self.store).get(cell.hash)
        if exit_code or run_dir is None or not is_finished(run_dir):
            self.failed.append(cell)
            outcome = f"FAILED with exit code {exit_code}: {_last_line(log_path(cell, self.store))}"
        else:
            outcome = f"val loss {results(run_dir)['val_loss']:.4f}"
        mean = math.fsum(self._seconds) / len(self._seconds)
        left = mean * (self.total - self.done) / self.lanes
        eta = f", {duration(left)} to go" if self.done < self.total else ""
        print(f"[{self.done}/{self.total}] {cell}: {outcome} ({duration(seconds)}{eta})", flush=True)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


# The table


def table(study: Iterable[Cell], store: Path) -> str:
    """Markdown: one row a label that has finished runs, the lowest final loss first."""
    known = stored(store)
    rows: dict[str, list[tuple[Cell, dict[str, Any]]]] = {}
    for cell in study:
        if (run_dir := known.get(cell.hash)) and is_finished(run_dir):
            rows.setdefault(cell.label, []).append((cell, results(run_dir)))
    lines = ["| settings | parameters | lr | seeds | val loss | best val loss | seconds |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    return "\n".join([*lines, *(_row(label, rows[label]) for label in sorted(rows, key=lambda x: _order(rows[x])))])


def _order(row: Sequence[tuple[Cell, Mapping[str, Any]]]) -> float:
    mean = sum(result["val_loss"] for _, result in row) / len(row)
    return mean if math.isfinite(mean) else math.inf


def _row(label: str, row: Sequence[tuple[Cell, Mapping[str, Any]]]) -> str:
    cell, first = row[0]
    final, best = ([result[key] for _, result in row] for key in ("val_loss", "best_val_loss"))
    seconds = math.fsum(result["total_time_seconds"] for _, result in row) / len(row)
    return (
        f"| {label} | {first['num_parameters']:,} | {cell.config.training.lr:g} | {len(row)} "
        f"| {mean_and_interval(final)} | {mean_and_interval(best)} | {seconds:.0f} |"
    )


def mean_and_interval(values: Sequence[float]) -> str:
    """Mean and 95 % t interval over seeds; of one seed, its value."""
    if not all(math.isfinite(value) for value in values):
        return "not finite"
    return estimate(values).text() if len(values) > 1 else f"{values[0]:.4f}"


def main() -> int:
    """Train what is missing and print the table; 1 if a cell failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--store", type=Path, default=Path("benchmarks-store"), help="SPECTRAL_HOME of the runs")
    parser.add_argument("--lanes", type=int, default=2, help="processes at a time [2]")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each [1]")
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    parser.add_argument("--dry", action="store_true", help="only print what would be run")
    options = parser.parse_args()
    store = options.store.absolute()
    try:
        return _study(cells(options.study, options.threads), store, options)
    except UserError as mistake:
        print(f"{parser.prog}: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130


def _study(study: Sequence[Cell], store: Path, options: argparse.Namespace) -> int:
    known = stored(store)
    every = {cell.hash: cell for cell in reversed(study)}  # Two labels of the same settings are one run.
    missing = [cell for cell in study if every[cell.hash] is cell and not _has(known, cell)]
    if options.dry:
        for cell in missing:
            print(" ".join(command(cell, known.get(cell.hash))[1:]))
        return 0
    report = Reporter(store, len(every) - len(missing), len(every), options.lanes)
    if not options.table:
        _check_idle(missing, known)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        print(f"{len(missing)} of {len(every)} runs to do in {store}", flush=True)
        train(missing, store, options.lanes, report)
    print(table(study, store))
    for cell in report.failed:
        print(f"failed: {cell} (see {log_path(cell, store)})", file=sys.stderr)
    return 1 if report.failed else 0


def _check_idle(missing: Iterable[Cell], known: Mapping[str, Path]) -> None:
    for cell in missing:
        if cell.hash in known and is_running(known[cell.hash]):
            raise UserError(f"{cell}: {known[cell.hash]} is being trained; wait until that process ends, or stop it")


def _has(known: Mapping[str, Path], cell: Cell) -> bool:
    return cell.hash in known and is_finished(known[cell.hash])


if __name__ == "__main__":
    sys.exit(main())
