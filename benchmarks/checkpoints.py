"""What a checkpoint costs training, beside what you would pick instead: ``python -m benchmarks.checkpoints``."""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.program import Parser, run, say
from benchmarks.savers import DCP, DCP_CACHED, OURS, SAVERS, TORCH, State, memory
from benchmarks.tables import Cell, Table
from benchmarks.timing import Times
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.compression import SUFFIX, compress_checkpoint, decompress_checkpoint

MB = 1e6

ABOUT = """\
Saves a model and its AdamW state of 500 MB in turns: how long training has to wait, how long until all is on the disk,
and how much memory it takes, each in a process of its own. Then how small a checkpoint of a trained model gets.
Leave the machine alone meanwhile: the load average is printed too.
"""
EXAMPLES = """\
examples:
  python -m benchmarks.checkpoints                         all tables, in about five minutes
  python -m benchmarks.checkpoints --checkpoint FILE       compress this one, instead of training a model first
  python -m benchmarks.checkpoints --folder /mnt/disk      on another disk
  python -m benchmarks.checkpoints --toy --rounds 1        to see whether it runs
"""


@dataclass(frozen=True)
class Scale:
    """Sizes: of the state that is saved, and of the training for the one that is compressed."""

    width: int = 1024
    layers: int = 40
    train: tuple[str, ...] = ("--steps", "300")


TOY = Scale(
    32, 3,
    ("--steps", "2", "--model.d_model", "16", "--model.num_layers", "1", "--model.num_heads", "2",
     "--model.block_size", "16", "--batch_size", "2"),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = Parser("checkpoints", ABOUT, EXAMPLES, rounds=7)
    parser.add_argument("--folder", type=folder, metavar="FOLDER", help="where to save (default: for temporary files)")
    parser.add_argument("--checkpoint", type=file, metavar="FILE", help="what to compress (default: of a new run)")
    return run(parser, tables, arguments)


def folder(text: str) -> Path:
    """A folder that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"given {text!r}; allowed: a folder that exists")
    return Path(text)


def file(text: str) -> Path:
    """A file that is there."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"given {text!r}; allowed: a checkpoint file")
    return Path(text)


def tables(options: argparse.Namespace) -> list[Table]:
    """Measure, and tell what came out."""
    scale = TOY if options.toy else Scale()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        place = Path(name)
        say("memory, each way to save in a process of its own")
        peaks = memory(scale.width, scale.layers, place / "memory", options.threads)
        say(f"times, {options.rounds} rounds")
        state = State(scale.width, scale.layers)
        stalls, totals = times(state, place / "times", options.rounds)
        say("compression")
        smaller = compression(options.checkpoint or trained(scale, place), place)
    return [ratios(stalls, peaks, state.bytes), costs(stalls, totals, peaks, state.bytes), smaller]


def times(state: State, place: Path, rounds: int) -> tuple[dict[str, Times], dict[str, Times]]:
    """Seconds that training waits, and until all is on the disk; the first save of each is not counted."""
    savers = {name: make(state, place / name) for name, make in SAVERS.items()}
    generator = np.random.default_rng(0)
    stalls: dict[str, list[float]] = {name: [] for name in savers}
    totals: dict[str, list[float]] = {name: [] for name in savers}
    for turn in range(rounds + 1):
        for name in (list(savers)[index] for index in generator.permutation(len(savers))):
            started = time.perf_counter()
            savers[name].save()
            stalled = time.perf_counter() - started
            savers[name].finish()
            if turn:
                stalls[name].append(stalled)
                totals[name].append(time.perf_counter() - started)
    return (
        {name: Times(tuple(seconds)) for name, seconds in stalls.items()},
        {name: Times(tuple(seconds)) for name, seconds in totals.items()},
    )


def ratios(stalls: Mapping[str, Times], peaks: Mapping[str, int], size: int) -> Table:
    """What is wanted, and what was reached."""
    rival = min((DCP, DCP_CACHED), key=lambda name: stalls[name].median)
    stall = stalls[OURS].median
    found = [
        (f"stall, {OURS} / {TORCH}", stall / stalls[TORCH].median, 0.25),
        (f"stall, {OURS} / {rival}", stall / stalls[rival].median, 1.0),
        (f"memory beyond the state, {OURS} / size of the state", peaks[OURS] / size, 1.1),
    ]
    rows = [(label, value, f"at most {most:.2f}", "yes" if value <= most else "NO") for label, value, most in found]
    return Table("Ratios of medians", ("", "measured", "wanted", "reached"), rows)


def costs(stalls: Mapping[str, Times], totals: Mapping[str, Times], peaks: Mapping[str, int], size: int) -> Table:
    """Each way to save."""
    columns = ("", "training waits, ms", "quartiles", "on the disk after, ms", "memory beyond the state, MB")
    rows: list[tuple[Cell, ...]] = []
    for name in SAVERS:
        low, high = stalls[name].spread
        quartiles = f"{1e3 * low:.1f} to {1e3 * high:.1f}"
        rows.append((name, 1e3 * stalls[name].median, quartiles, 1e3 * totals[name].median, peaks[name] / MB))
    return Table(f"Saving a model and its AdamW, {size / MB:,.1f} MB", columns, rows, (
        "Training waits until it may change the state again. Ours also computes a digest, and replaces a file only by "
        "one that is whole; torch.save writes over the one before.",
    ))  # fmt: skip


def trained(scale: Scale, place: Path) -> Path:
    """A checkpoint of a run of ours."""
    command = ["train", *scale.train, "--monitoring.stores", "none", "--monitoring.sample_tokens", "0"]
    where = ["--monitoring.experiments_dir", str(place)]
    done = subprocess.run(
        [sys.executable, "-m", "spectral_mlflow", *command, *where], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"no run to compress a checkpoint of: {done.stderr.strip()}")
    return next(iter(place.glob("*/checkpoints/checkpoint_latest.pt"))).resolve()


def compression(checkpoint: Path, place: Path) -> Table:
    """Size and seconds of the ways to make a file smaller and to get it back."""
    try:
        import zstandard
    except ImportError:
        raise UserError("compression takes the package zstandard; pip install -e '.[checkpoints]'") from None
    content = checkpoint.read_bytes()
    packed, unpacked = place / f"packed{SUFFIX}", place / "unpacked.pt"
    ways: dict[str, tuple[Callable[[], int], Callable[[], object]]] = {
        "gzip, level 6": _in_memory(partial(gzip.compress, content, 6), gzip.decompress),
        "ours: shuffled, zstd 1": (
            lambda: compress_checkpoint(checkpoint, packed),
            lambda: decompress_checkpoint(packed, unpacked),
        ),
    }
    for level in (1, 3):
        ways[f"zstd, level {level}"] = _in_memory(
            partial(zstandard.compress, content, level), lambda packed: zstandard.decompress(packed)
        )
    rows = [(name, *_tried(len(content), *way)) for name, way in ways.items()]
    if unpacked.read_bytes() != content:
        raise AssertionError("what was decompressed is not what was compressed")
    return Table(
        f"Compressing the checkpoint of a trained model, {len(content) / MB:,.1f} MB",
        ("", "size / original", "compress, MB/s", "decompress, MB/s"), rows,
        ("Ours reads and writes files, with fsync, and verifies the digest; the others work in memory.",),
    )  # fmt: skip


def _in_memory(
    compress: Callable[[], bytes], decompress: Callable[[bytes], bytes]
) -> tuple[Callable[[], int], Callable[[], object]]:
    kept: list[bytes] = []

    def pack() -> int:
        kept[:] = [compress()]
        return len(kept[0])

    return pack, lambda: decompress(kept[0])


def _tried(size: int, compress: Callable[[], int], decompress: Callable[[], object]) -> tuple[float, float, float]:
    started = time.perf_counter()
    packed = compress()
    between = time.perf_counter()
    decompress()
    return packed / size, size / MB / (between - started), size / MB / (time.perf_counter() - between)


if __name__ == "__main__":
    sys.exit(main())
