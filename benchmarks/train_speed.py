"""Speed and memory of training beside what a user would pick instead: ``python -m benchmarks.train_speed``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from benchmarks import memory, train_report
from benchmarks.contenders import CONTENDERS, EXTRA, Contender, Sizes, Training
from benchmarks.program import Parser, run, say
from benchmarks.tables import Table
from benchmarks.timing import Times, interleaved
from benchmarks.train_report import LONGER, MATMUL, Measured, Scale
from spectral_mlflow.models.generation import generate

MATMULS = 4  # In a turn, together about as long as a step.
STEPS = 3  # In a turn.
GENERATION_ROUNDS = 5  # At most; a text takes seconds.

TOY = Scale(Sizes(d_model=32, num_layers=1, num_heads=2, block_size=16, batch_size=8), 8, 32)

ABOUT = """\
Trains our models and their rivals in turns, in one process and on the same batches, and prints tokens a second,
achieved FLOP/s over those of a plain matrix product, the memory of their tensors, and the ratios that are wanted of
this package. Leave the machine alone meanwhile: the load average is printed too.
"""
MODELS = "\n".join(f"  {contender.name:16}  {contender.about}" for contender in CONTENDERS.values())
EXAMPLES = f"""\
models:
{MODELS}

examples:
  python -m benchmarks.train_speed                           all tables, in about five minutes
  python -m benchmarks.train_speed --models standard,gpt2    these two, and the ratio between them
  python -m benchmarks.train_speed --markdown > tables.md    to paste
  python -m benchmarks.train_speed --toy --rounds 1          to see whether it runs

The rivals are extra packages: {EXTRA}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = Parser("train_speed", ABOUT, EXAMPLES, rounds=30)
    parser.add_argument(
        "--models", type=chosen, default=list(CONTENDERS), metavar="A,B", help="names from below (default: all)"
    )
    return run(parser, tables, arguments)


def chosen(names: str) -> list[str]:
    """Names of contenders, separated by commas, each once."""
    for name in names.split(","):
        if name not in CONTENDERS:
            raise argparse.ArgumentTypeError(f"given {name!r}; allowed: {', '.join(CONTENDERS)}")
    return list(dict.fromkeys(names.split(",")))


def tables(options: argparse.Namespace) -> list[Table]:
    """Measure, and tell what came out."""
    scale = TOY if options.toy else Scale()
    contenders = [CONTENDERS[name] for name in options.models if is_there(CONTENDERS[name])]
    say("memory")
    peaks = measure_memory(contenders, scale.sizes)
    say(f"training, {options.rounds} rounds of {STEPS} steps of each of {len(contenders)} models")
    times, matmul_rate = measure_speed(contenders, scale.sizes, options.rounds)
    say("generation, with a cache and without")
    generation = measure_generation(contenders, scale, min(options.rounds, GENERATION_ROUNDS))
    return train_report.tables(Measured(scale, times, peaks, generation, matmul_rate), options.models)


def is_there(contender: Contender) -> bool:
    """Whether a contender can take part; says how to install one that cannot."""
    if not contender.is_installed:
        say(f"{contender.name} does not take part: {contender.package} is not installed ({EXTRA})")
    return contender.is_installed


def measure_speed(contenders: Sequence[Contender], sizes: Sizes, rounds: int) -> tuple[dict[str, Times], float]:
    """Times of a step by contender, and the FLOP/s of the matrix product taken in the same rounds."""
    one, other, product = (torch.randn(MATMUL, MATMUL) for _ in range(3))

    def multiply() -> None:
        for _ in range(MATMULS):
            torch.mm(one, other, out=product)

    actions = {contender.name: Training(contender, sizes).step for contender in contenders}
    times = interleaved({**actions, "matmul": multiply}, rounds=rounds, calls=STEPS)
    return times, 2 * MATMUL**3 * MATMULS / times.pop("matmul").median


def measure_memory(contenders: Sequence[Contender], sizes: Sizes) -> dict[str, memory.Memory]:
    """Of each contender, and of our two models as harmonics and blocks grow."""
    cases = {contender.name: (contender, sizes) for contender in contenders}
    for contender in contenders:
        if contender.name == "wave-16":
            for count in (8, 16):
                cases[train_report.harmonics(count)] = (contender.with_model(num_harmonics=count), sizes)
        if contender.name in ("standard", "wave-16"):
            cases[train_report.longer(contender.name)] = (contender, sizes.longer(LONGER))
    return {name: memory.measure(*case) for name, case in cases.items()}


def measure_generation(contenders: Sequence[Contender], scale: Scale, rounds: int) -> dict[str, Times]:
    """Times of a whole text of our two models, from a short prompt and from a long one."""
    sizes = replace(scale.sizes, block_size=scale.generation_block)
    actions = {}
    for contender in contenders:
        if contender.name in ("standard", "wave-16"):
            write = partial(generate, contender.ours(sizes), num_tokens=scale.generated, temperature=0)
            for length in scale.prompts:
                prompt = torch.zeros(length, dtype=torch.int64)
                for cached in (True, False):
                    name = train_report.generation(contender.name, length, cached)
                    actions[name] = partial(write, prompt=prompt, use_cache=cached)
    return interleaved(actions, rounds=rounds)


if __name__ == "__main__":
    sys.exit(main())
