"""How long a store of a thousand runs takes to read: ``python -m benchmarks.store_size``."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import pandas as pd
from mlflow import MlflowClient
from sqlalchemy import Connection, create_engine, text

from benchmarks.program import Parser, positive, run, say
from benchmarks.tables import Table
from benchmarks.timing import Times, interleaved
from spectral_mlflow.analysis import sql
from spectral_mlflow.analysis.fingerprint import fingerprint
from spectral_mlflow.analysis.runs import load_histories, load_runs
from spectral_mlflow.settings import build, flatten

ABOUT = """\
Fills a store with runs and reads all of them: settings, latest metrics, three histories of each, and the digest that
tells whether anything has changed. By SQL, as it is done, and through MLflow's client; the frames must be equal.
"""
EXAMPLES = """\
examples:
  python -m benchmarks.store_size                                a sqlite store with 1,000 runs, in about five minutes
  python -m benchmarks.store_size --runs 100 --steps 1000        fewer runs with longer histories
  python -m benchmarks.store_size --store postgresql://HOST/DB   fill this empty store instead
  python -m benchmarks.store_size --toy --rounds 1               to see whether it runs
"""
KEYS = ("loss", "val_loss", "tokens_per_sec")
OTHERS = 17  # Further metrics, as a run has them.
STARTED = 1_760_000_000_000  # Milliseconds since the epoch.
SQL, API = "SQL", "MLflow"
PROGRAM = """\
from spectral_mlflow.analysis.fingerprint import fingerprint
print(fingerprint({uri!r}, keys={keys!r}))
"""


@dataclass(frozen=True)
class Size:
    """Of a store.

    Attributes:
        runs: in it.
        steps: logged steps of each.
    """

    runs: int
    steps: int

    @property
    def points(self) -> int:
        """Metric points in all."""
        return self.runs * self.steps * (len(KEYS) + OTHERS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = Parser("store_size", ABOUT, EXAMPLES, rounds=3)
    parser.add_argument("--runs", type=positive, default=1000, metavar="N", help="in the store (default: %(default)s)")
    parser.add_argument("--steps", type=positive, default=100, metavar="N",
                        help="that each run has logged (default: %(default)s)")  # fmt: skip
    parser.add_argument("--store", metavar="URI", help="an empty store to fill (default: a sqlite file, removed after)")
    return run(parser, tables, arguments)


def tables(options: argparse.Namespace) -> list[Table]:
    """Measure, and tell what came out."""
    size = Size(5, 4) if options.toy else Size(options.runs, options.steps)
    with tempfile.TemporaryDirectory() as folder:
        uri = options.store or f"sqlite:///{folder}/mlflow.db"
        say(f"writing {size.points:,} points of {size.runs:,} runs")
        fill(uri, size)
        say(f"reading, {options.rounds} rounds")
        return [measured(uri, size, options.rounds)]


def fill(uri: str, size: Size) -> None:
    """Write runs into an empty store, which MLflow makes: its own client would take hours."""
    experiment = MlflowClient(tracking_uri=uri).create_experiment("spectral")
    with create_engine(uri).begin() as database:
        for number in range(size.runs):
            _write(database, int(experiment), number, size.steps)


def _write(database: Connection, experiment: int, number: int, steps: int) -> None:
    run_id, start = f"{number:032x}", STARTED + 60_000 * number
    _insert(database, "runs", [{
        "run_uuid": run_id, "name": f"run_{number}", "status": "FINISHED", "start_time": start,
        "end_time": start + 50_000, "lifecycle_stage": "active", "experiment_id": experiment,
        "source_type": "LOCAL", "artifact_uri": "", "user_id": "",
    }])  # fmt: skip
    model = ("wave", "standard")[number % 2]
    settings = flatten(build({"model": model, "seed": str(number // 2)}).to_dict())
    facts = {"dataset.sha256": "ab" * 32, "model.num_parameters": 800_000, "model.vocab_size": 65}
    tags = {"spectral.kind": "train", "spectral.key": f"run_{number}", "spectral.seed": number // 2}
    for table, pairs in (("params", settings | facts), ("tags", tags)):
        _insert(database, table, [{"run_uuid": run_id, "key": key, "value": str(v)} for key, v in pairs.items()])
    keys = [*KEYS, *(f"group/metric_{other}" for other in range(OTHERS))]
    points = [
        {"run_uuid": run_id, "key": key, "value": 2 + math.sin(step + number), "step": step, "timestamp": start + step,
         "is_nan": False}
        for key in keys for step in range(1, steps + 1)
    ]  # fmt: skip
    _insert(database, "metrics", points)
    _insert(database, "latest_metrics", points[steps - 1 :: steps])


def _insert(database: Connection, table: str, rows: Sequence[Mapping[str, object]]) -> None:
    names = list(rows[0])
    columns = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(f":{name}" for name in names)
    database.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), rows)  # noqa: S608 - our own names


def measured(uri: str, size: Size, rounds: int) -> Table:
    """Seconds of each way to read, and what they are to each other."""
    ids = load_runs(uri)["run_id"].tolist()
    reads: dict[str, Callable[[], object]] = {
        "settings and latest metrics": lambda: load_runs(uri),
        f"histories of {len(KEYS)} metrics": lambda: load_histories(uri, ids, KEYS),
        "digest of all that": lambda: fingerprint(uri, keys=KEYS),
    }
    _check_equal(uri, ids)
    actions = {(name, way): _by(way, read) for name, read in reads.items() for way in (SQL, API)}
    found = interleaved(actions, rounds=rounds)
    program = PROGRAM.format(uri=uri, keys=KEYS)
    alone = interleaved({"": lambda: subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)},
                        rounds=rounds)  # fmt: skip
    rows = [_row(name, found[name, SQL], found[name, API]) for name in reads]
    return Table(
        f"Reading a store with {size.runs:,} runs and {size.points:,} metric points (median seconds)",
        ("what is read", SQL, API, "times as fast"),
        [*rows, ("digest, in a process of its own", alone[""].median, None, None)],
        ["Both ways give equal frames. MLflow's own import is not counted."],
    )


def _row(name: str, fast: Times, slow: Times) -> tuple[str, float, float, float]:
    return name, fast.median, slow.median, slow.median / fast.median


def _check_equal(uri: str, ids: Sequence[str]) -> None:
    by_sql = load_runs(uri), load_histories(uri, ids, KEYS)
    with through_mlflow():
        pd.testing.assert_frame_equal(by_sql[0], load_runs(uri))
        pd.testing.assert_frame_equal(by_sql[1], load_histories(uri, ids, KEYS))


def _by(way: str, read: Callable[[], object]) -> Callable[[], object]:
    def slow() -> object:
        with through_mlflow():
            return read()

    return read if way == SQL else slow


@contextmanager
def through_mlflow() -> Iterator[None]:
    """No schema is known meanwhile, which is what a store of another version is read through MLflow for."""
    with patch.object(sql, "SCHEMAS", frozenset()), patch.object(sql._log, "disabled", True):
        yield


if __name__ == "__main__":
    sys.exit(main())
