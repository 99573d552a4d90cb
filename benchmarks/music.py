"""Whether the quality of music can tell tunes from noise: real ones that were held out against ten kinds of fakes.

    python -m benchmarks.music

AUC: how often a real tune scores higher than a fake one (1: always, 0.5: as by chance). Nothing was tuned on these
tunes: limits and quantiles come from the training tunes.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from benchmarks.fake_tunes import makers
from benchmarks.program import Parser, run
from benchmarks.tables import Table
from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import corpora
from spectral_mlflow.monitoring.music.abc import parse
from spectral_mlflow.monitoring.music.metrics import METRICS, Melody
from spectral_mlflow.monitoring.music.quality import MusicQuality, is_valid

TUNES = 200
TOY_TUNES, TOY_TRAIN = 10, 60
OURS = "ours: overall"
WANTED = 0.99

_SCALES = [
    {(root + tone) % 12 for tone in steps}
    for steps in ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))
    for root in range(12)
]
_GRID = 4  # Places of an onset in a quarter note.

Score = Callable[[str], float | None]


def pitch_class_entropy(melody: Melody) -> float:
    """Of how often each of the twelve is played, in bits (as MusPy has it, Dong et al. 2020)."""
    counts = np.bincount([pitch % 12 for pitch in melody.pitches], minlength=12)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def scale_consistency(melody: Melody) -> float:
    """Largest share of the notes that are in one major or minor scale (as MusPy has it)."""
    return max(sum(pitch % 12 in scale for pitch in melody.pitches) for scale in _SCALES) / len(melody.pitches)


def groove_consistency(melody: Melody) -> float:
    """One less the mean share of places that differ between the onsets of neighbouring bars (as MusPy has it)."""
    places = round(_GRID * max(bar.wanted for bar in melody.tune.bars))
    bars = np.zeros((len(melody.by_bar()), places), dtype=bool)
    for row, notes in zip(bars, melody.by_bar(), strict=True):
        row[[min(places - 1, round(_GRID * note.onset)) for note in notes]] = True
    return 1 - float(np.mean([(one ^ other).mean() for one, other in pairwise(bars)])) if len(bars) > 1 else 0.0


OTHERS: Mapping[str, Callable[[Melody], float]] = {
    "pitch-class entropy": pitch_class_entropy,
    "scale consistency": scale_consistency,
    "groove consistency": groove_consistency,
}


def of_melody(metric: Callable[[Melody], float], text: str) -> float | None:
    """A metric of a tune; None where it does not parse."""
    tune = parse(text)
    return metric(Melody.of(tune)) if tune.parses else None


def auc(real: Sequence[float], fake: Sequence[float]) -> float:
    """How often a real one is higher, ties counting half (Mann and Whitney 1947)."""
    one, other = np.array(real)[:, None], np.array(fake)[None]
    return float((one > other).mean() + (one == other).mean() / 2)


def separation(real: Sequence[float | None], fake: Sequence[float | None], *, either_way: bool) -> float:
    """AUC of a score; what does not parse is below all that does. ``either_way``: in the better direction."""
    signs = (1, -1) if either_way else (1,)
    return max(
        auc(*([-math.inf if value is None else sign * value for value in values] for values in (real, fake)))
        for sign in signs
    )


def measure(options: argparse.Namespace) -> list[Table]:
    """The tables."""
    train, held_out = tunes()
    if options.toy:
        train, held_out = train[:TOY_TRAIN], held_out[:TOY_TUNES]
    held_out = held_out[:TUNES]
    quality = MusicQuality([parse(tune) for tune in train])
    fakes = {
        name: [
            make(tune, random.Random(f"{turn} {place}"))  # noqa: S311 - music is no secret
            for turn in range(options.rounds)
            for place, tune in enumerate(held_out)
        ]
        for name, make in makers(train).items()
    }
    others = {name: partial(of_melody, metric) for name, metric in OTHERS.items()}
    ours = {name: partial(of_melody, metric) for name, metric in METRICS.items()}
    return [
        _separations({OURS: quality.score, **others}, held_out, fakes),
        _alone(ours, held_out, fakes),
        _valid(quality, held_out, fakes),
    ]


def tunes() -> tuple[list[str], list[str]]:
    """Those of the training split and those held out, as training has them."""
    source = corpora.find(DatasetConfig(name="oneills"))
    pieces = list(source.read())
    return [p.text for p in pieces if p.split == "train"], [p.text for p in pieces if p.split == "val"]


def _separations(scores: Mapping[str, Score], real: Sequence[str], fakes: Mapping[str, Sequence[str]]) -> Table:
    of_real = {name: [score(tune) for tune in real] for name, score in scores.items()}
    rows = []
    for kind, made in fakes.items():
        found = {
            name: separation(of_real[name], [score(tune) for tune in made], either_way=name != OURS)
            for name, score in scores.items()
        }
        rows.append((kind, *found.values(), "yes" if found[OURS] >= WANTED else "NO"))
    return Table(
        f"{len(real)} held-out tunes against fakes, AUC", ("fakes", *scores, f"at least {WANTED}"), rows,
        (
            "The others in whichever direction serves them better; a fake that does not parse counts as told by all.",
            "In a real rhythm: lengths, bars and repeats are those of a real tune, and only its pitches are a chain's.",
        ),
    )  # fmt: skip


def _alone(scores: Mapping[str, Score], real: Sequence[str], fakes: Mapping[str, Sequence[str]]) -> Table:
    of_real = {name: [score(tune) for tune in real] for name, score in scores.items()}
    rows = [
        (
            kind,
            *(separation(of_real[n], [score(tune) for tune in made], either_way=True) for n, score in scores.items()),
        )
        for kind, made in fakes.items()
    ]
    names = (name.replace("_", " ") for name in scores)
    return Table("Each of our metrics alone, AUC in the better direction", ("fakes", *names), rows)


def _valid(quality: MusicQuality, real: Sequence[str], fakes: Mapping[str, Sequence[str]]) -> Table:
    rows = []
    for kind, made in {"real": real, **fakes}.items():
        read = [parse(tune) for tune in made]
        started = time.perf_counter()
        scores = [quality.score(tune) for tune in made]
        seconds = time.perf_counter() - started
        parsed = sum(tune.parses for tune in read) / len(made)
        valid = sum(map(is_valid, read)) / len(made)
        rows.append((kind, parsed, valid, float(np.median(scores)), 1e3 * seconds / len(made)))
    return Table("What they are like", ("", "parse", "valid", "median overall", "ms a tune"), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = Parser(
        "music",
        "Whether the quality of music can tell tunes from noise.",
        "examples:\n  python -m benchmarks.music --markdown\n  python -m benchmarks.music --toy",
        rounds=3,
    )
    return run(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
