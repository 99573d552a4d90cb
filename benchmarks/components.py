"""Fast forms against their literal references, and how cost grows: ``python -m benchmarks.components``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.contenders import Sizes
from benchmarks.pairs import DROPOUT, PAIRS, Pair, Point, whole_step
from benchmarks.program import Parser, run, say
from benchmarks.tables import Cell, Table
from benchmarks.timing import Action, interleaved

LADDER_ROUNDS = 5  # At most; the largest literal forms take seconds.
WHOLE = ("standard", "wave")

ABOUT = """\
Times each fast form of this package against the formula as it is written, forward and backward, in turns in one
process; shows by how much their results differ; and shows how the cost of each grows with block length T, vocabulary V,
waves W and harmonics H. Leave the machine alone meanwhile.
"""
EXAMPLES = """\
examples:
  python -m benchmarks.components                          all tables, in about three minutes
  python -m benchmarks.components --markdown > tables.md   to paste
  python -m benchmarks.components --toy --rounds 1         to see whether it runs
"""


@dataclass(frozen=True)
class Ladder:
    """One size that grows while the others stay.

    Attributes:
        symbol: what grows.
        points: the rungs, by what they are called.
        pairs: the forms whose cost may grow with it.
        whole: the models whose step may.
    """

    symbol: str
    points: Mapping[str, Point]
    pairs: Sequence[str]
    whole: Sequence[str]


def ladders(base: Point, rungs: int) -> list[Ladder]:
    """Those of T, V, W and H, each with so many rungs."""
    sizes = base.sizes
    blocks = [sizes.longer(2**rung) for rung in range(rungs)]
    vocabularies = [65 if rung == 0 else 64 * 4**rung for rung in range(rungs)]
    waves = [8 * 2**rung for rung in range(rungs)]
    harmonics = [4 * 2**rung for rung in range(rungs)]
    return [
        Ladder(
            "T (tokens in a step stay)", {str(block.block_size): replace(base, sizes=block) for block in blocks},
            ("wave embedding", "interference attention", "QFE"), WHOLE,
        ),
        Ladder(
            "V", {str(count): replace(base, sizes=replace(sizes, vocab_size=count)) for count in vocabularies},
            ("wave embedding", "RGD", "QFE"), WHOLE,
        ),
        Ladder(
            "W", {str(count): replace(base, num_waves=count) for count in waves},
            ("wave embedding", "interference attention", "phases to [cos, sin]", "RGD"), WHOLE[1:],
        ),
        Ladder(
            "H", {str(count): replace(base, num_harmonics=count) for count in harmonics},
            ("wave embedding", "RGD"), WHOLE[1:],
        ),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run(Parser("components", ABOUT, EXAMPLES, rounds=20), tables, arguments)


def tables(options: argparse.Namespace) -> list[Table]:
    """Measure, and tell what came out."""
    torch.manual_seed(0)
    toy = Point(Sizes(d_model=32, num_layers=1, num_heads=2, block_size=16, batch_size=8))
    base = toy if options.toy else Point()
    say(f"each form against its reference, {options.rounds} rounds")
    found = [pair_table(base, options.rounds)]
    for ladder in ladders(base, rungs=2 if options.toy else 4):
        say(f"growth with {ladder.symbol}")
        found.append(ladder_table(ladder, min(options.rounds, LADDER_ROUNDS)))
    return found


def pair_table(base: Point, rounds: int) -> Table:
    """Each form against its reference, at the usual sizes."""
    pairs = {name: make(base) for name, make in PAIRS.items()}
    differences = {name: pair.compare() for name, pair in pairs.items()}
    times = interleaved(forms(pairs), rounds=rounds, calls=3)
    rows: list[Sequence[Cell]] = []
    for name, difference in differences.items():
        fast, literal = times[f"{name}, fast"].median, times[f"{name}, literal"].median
        rows.append((name, 1e3 * fast, 1e3 * literal, literal / fast, difference.values, difference.gradients))
    sizes = base.sizes
    notes = (
        "Differences are the largest one over the largest value of the reference. Attention includes its projections; "
        f"RGD is a step on all parameters of the wave model; dropout ({DROPOUT}) is timed against torch's, and its "
        "differences are those from its formula under its own mask.",
        f"B {sizes.batch_size}, T {sizes.block_size}, V {sizes.vocab_size}, d_model {sizes.d_model}, "
        f"{sizes.num_heads} heads, {sizes.num_layers} layers, W {base.num_waves}, H {base.num_harmonics}, float32.",
    )
    columns = ("forward and backward", "fast, ms", "literal, ms", "speed-up", "values differ by", "gradients by")
    return Table("Fast forms against the formulas as written", columns, rows, notes)


def ladder_table(ladder: Ladder, rounds: int) -> Table:
    """Times at every rung, and the last over the first."""
    actions: dict[tuple[str, str], Action] = {}
    for rung, point in ladder.points.items():
        found = forms({name: PAIRS[name](point) for name in ladder.pairs})
        found |= {f"training step, {kind}": whole_step(kind, point) for kind in ladder.whole}
        actions |= {(form, rung): action for form, action in found.items()}
    times = interleaved(actions, rounds=rounds)
    rows: list[Sequence[Cell]] = []
    for form in dict.fromkeys(form for form, _ in actions):
        cost = [1e3 * times[form, rung].median for rung in ladder.points]
        rows.append((form, *cost, cost[-1] / cost[0]))
    return Table(f"ms as {ladder.symbol} grows", ("", *ladder.points, "last / first"), rows)


def forms(pairs: Mapping[str, Pair]) -> dict[str, Action]:
    """Both forms of each pair."""
    return {
        f"{name}, {form}": action
        for name, pair in pairs.items()
        for form, action in (("fast", pair.fast), ("literal", pair.reference))
    }


if __name__ == "__main__":
    sys.exit(main())
