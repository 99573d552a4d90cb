"""``python -m benchmarks.servers``: a training while its tracking server is stopped, answers 500, hangs, refuses."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from mlflow import MlflowClient

from benchmarks.program import Parser, positive, run, say
from benchmarks.tables import Table
from benchmarks.tracking_server import Mode, Proxy, TrackingServer
from spectral_mlflow import journal
from spectral_mlflow.monitoring.runs import run_directories
from spectral_mlflow.stores import sync
from spectral_mlflow.stores.points import points

ABOUT = "Step time with a faulty tracking server beside that with a healthy one, and whether all points arrive."
EXAMPLES = """examples:
  python -m benchmarks.servers                 each fault for 60 s, twice, in about twelve minutes
  python -m benchmarks.servers --threads 2     the trainer takes both cores, and the server its share of them
"""

MODES: Mapping[str, Mode] = {"answers 500": "500", "hangs": "hang", "refuses": "refuse"}
FAULTS = ("stopped", *MODES)
WARM_UP = 15.0
SEND_SECONDS = 120.0

# Begin, end, and what was wrong: empty for nothing.
Phase = tuple[float, float, str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = Parser("servers", ABOUT, EXAMPLES, rounds=2)
    parser.set_defaults(threads=1)
    parser.add_argument(
        "--seconds", type=positive, default=60, metavar="N", help="length of a fault (default: %(default)s)"
    )
    return run(parser, tables, arguments)


def tables(options: argparse.Namespace) -> list[Table]:
    """One row for each fault."""
    seconds = 5.0 if options.toy else float(options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        server = TrackingServer(home)
        server.start()
        try:
            with Proxy(server.port) as proxy:
                trainer = _train(home, proxy.uri, options.threads)
                phases = _phases(server, proxy, options.rounds, seconds, trainer)
                trainer.send_signal(signal.SIGTERM)
                trainer.wait()
                (run_dir,) = run_directories(home / "experiments")
                arrived = _arrived(run_dir, proxy.uri)
        finally:
            server.stop()
        times = _step_times(run_dir, phases)
    return [_table(times, arrived, seconds)]


def _train(home: Path, uri: str, threads: int) -> subprocess.Popen[bytes]:
    corpus = home / "corpus.txt"
    corpus.write_text("the wave and the phase and the beat of one and another\n" * 2000)
    settings = {
        "model": "standard", "model.d_model": "64", "model.num_layers": "2", "model.num_heads": "4",
        "model.block_size": "64", "steps": "10000000", "batch_size": "8", "dataset": "text",
        "dataset.path": str(corpus), "runtime.threads": str(threads), "monitoring.tracking_uri": uri,
        "monitoring.viz_interval": "0", "monitoring.eval_interval": "10000000",
        "monitoring.checkpoint_interval": "1000", "monitoring.sample_tokens": "0", "monitoring.code_snapshot": "false",
    }  # fmt: skip
    command = [sys.executable, "-m", "spectral_mlflow", "train"]
    environment = {**os.environ, "SPECTRAL_HOME": str(home), "OMP_NUM_THREADS": str(threads)}
    with (home / "trainer.log").open("wb") as log:
        return subprocess.Popen(
            command + [word for name, value in settings.items() for word in (f"--{name}", value)],
            env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def _phases(
    server: TrackingServer, proxy: Proxy, rounds: int, seconds: float, trainer: subprocess.Popen[bytes]
) -> list[Phase]:
    """Health and faults in turn, so that what else the machine does meets both."""
    say(f"training for {rounds * len(FAULTS) * 2 * seconds:.0f} s")
    time.sleep(min(WARM_UP, 3 * seconds))
    phases = []
    for number in range(rounds):
        for fault in FAULTS:
            start, stop = _switches(server, proxy, fault)
            phases.append(_phase("", seconds, trainer))
            start()
            phases.append(_phase(fault, seconds, trainer))
            stop()
            say(f"round {number + 1}: {fault}")
            time.sleep(
                min(5.0, seconds)
            )  # A server that has just been started takes processor time that no fault does.
    return phases


def _switches(server: TrackingServer, proxy: Proxy, fault: str) -> tuple[Callable[[], None], Callable[[], None]]:
    if fault == "stopped":
        return server.stop, server.start
    return lambda: proxy.become(MODES[fault]), lambda: proxy.become("pass")


def _phase(fault: str, seconds: float, trainer: subprocess.Popen[bytes]) -> Phase:
    begin = time.time()
    with suppress(subprocess.TimeoutExpired):
        raise RuntimeError(f"the trainer ended with {trainer.wait(seconds)}")
    return begin, time.time(), fault


def _step_times(run_dir: Path, phases: Sequence[Phase]) -> dict[str, list[float]]:
    """Mean milliseconds a step of each phase, by fault; the phases before the faults under their names with a dash."""
    steps = [journal.milliseconds(line["timestamp"]) / 1000 for line in _lines(run_dir) if "loss" in line]
    times: dict[str, list[float]] = {}
    for (begin, end, _), (fault_begin, fault_end, fault) in pairwise(phases):
        if fault:
            times.setdefault(f"{fault}-", []).append(_mean(steps, begin, end))
            times.setdefault(fault, []).append(_mean(steps, fault_begin, fault_end))
    return times


def _mean(steps: Sequence[float], begin: float, end: float) -> float:
    inside = [step for step in steps if begin <= step <= end]
    return 1000 * (inside[-1] - inside[0]) / (len(inside) - 1)


def _lines(run_dir: Path) -> list[journal.Record]:
    return journal.records(run_dir / "logs" / "metrics.jsonl")


def _arrived(run_dir: Path, uri: str) -> tuple[int, int, int]:
    """Points of the journal, how many of them the store lacks, and how many it has besides, after a sync."""
    deadline = time.monotonic() + SEND_SECONDS
    while sync.is_behind(run_dir) and time.monotonic() < deadline:
        sync.sync([run_dir])
        time.sleep(0.5)
    client = MlflowClient(tracking_uri=uri)
    run_id = client.search_runs(["1"])[0].info.run_id
    wanted = sorted((p.key, p.step, p.timestamp, p.value) for line in _lines(run_dir) for p in points(line))
    stored = sorted(
        (p.key, p.step, p.timestamp, p.value)
        for key in client.get_run(run_id).data.metrics
        for p in client.get_metric_history(run_id, key)
    )
    return len(wanted), len(set(wanted) - set(stored)), len(stored) - len(set(wanted))


def _table(times: Mapping[str, list[float]], arrived: tuple[int, int, int], seconds: float) -> Table:
    rows = []
    for fault in FAULTS:
        healthy, faulty = statistics.fmean(times[f"{fault}-"]), statistics.fmean(times[fault])
        rows.append((f"{fault}, {seconds:.0f} s", healthy, faulty, faulty / healthy))
    points_text = f"{arrived[0]:,} points in the journal: {arrived[1]:,} lacking and {arrived[2]:,} twice in the store."
    return Table(
        "Training while the tracking server fails",
        ("server", "healthy, ms a step", "faulty, ms a step", "faulty / healthy"),
        rows,
        (points_text, "Each fault comes right after as long a time with a healthy server in the same run."),
    )


if __name__ == "__main__":
    sys.exit(main())
