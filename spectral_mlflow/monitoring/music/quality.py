"""MusicQuality: how much the tunes of a sample are like those that the model is trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

import numpy as np

from spectral_mlflow.monitoring.music.abc import parse, split
from spectral_mlflow.monitoring.music.metrics import METRICS, Melody
from spectral_mlflow.monitoring.music.tune import Tune

REFERENCE_TUNES = 1000  # Of a larger collection, evenly spaced; more change no quantile that is used.
EDGE = 0.01  # Share of the real tunes that lie beyond a distance of 1, on either side.
RETURNING = ("repetition", "structural_coherence")  # What noise has too little of, whatever order its notes are in.
UNUSUAL = 1.25  # Distance from which on any other metric counts.
MOST_UNUSUAL = 1.0  # That it counts, so that a real tune which is odd in one way stays a tune.
FULL_BARS = 0.75  # Of a valid tune: less than one in a hundred of the real ones has fewer.

Values = dict[str, float]


class MusicQuality:
    """Measures ten qualities of tunes, each by its value and by its distance to the tunes of a collection.

    The distance of a value v is |v - median| / s, where s is what the side of the median that v lies on needs for
    all but the outermost hundredth of the real tunes: robust, and 1 is the edge of what is usual.

    Attributes:
        reference: mean and deviation of each metric over the real tunes.
    """

    def __init__(self, tunes: Sequence[Tune]) -> None:
        """Take real tunes as they are read; those that do not parse are left out.

        Raises:
            ValueError: fewer than two of them parse.
        """
        measured = [values(tune) for tune in tunes if tune.parses]
        if len(measured) < 2:
            raise ValueError(f"{len(measured)} of {len(tunes)} tunes parse; two are needed to compare with")
        columns = {name: [row[name] for row in measured] for name in METRICS}
        self.reference: Mapping[str, tuple[float, float]] = {
            name: (fmean(column), pstdev(column)) for name, column in columns.items()
        } | {"overall": (0.0, 1.0)}
        self._sides = {name: _sides(column) for name, column in columns.items()}
        overall = [self.overall(self.distances(row), row) for row in measured]
        self.reference = {**self.reference, "overall": (fmean(overall), pstdev(overall))}

    @classmethod
    def of(cls, text: str) -> MusicQuality:
        """Compare with the tunes of a text, each of which begins with ``X:``.

        Raises:
            ValueError: fewer than two of them parse.
        """
        tunes = split(text)
        return cls([parse(tune) for tune in tunes[:: -(-len(tunes) // REFERENCE_TUNES) or 1]])

    def distances(self, measured: Mapping[str, float]) -> Values:
        """Of each metric of a tune to those of the real ones."""
        found = {}
        for name, value in measured.items():
            below, median, above = self._sides[name]
            found[name] = abs(value - median) / (below if value < median else above)
        return found

    def overall(self, distances: Mapping[str, float], measured: Mapping[str, float]) -> float:
        """How much one tune is like a real one, from 0 to 1: exp(-D^2 / 2).

        D sums the distances of repetition and structural coherence where they are below the median, and of every
        other metric what its distance exceeds 1.25 by, at most 1.
        """
        total = 0.0
        for name, distance in distances.items():
            if name in RETURNING:
                total += distance if measured[name] < self._sides[name][1] else 0.0
            else:
                total += min(max(distance - UNUSUAL, 0.0), MOST_UNUSUAL)
        return math.exp(-(total**2) / 2)

    def score(self, text: str) -> float:
        """`overall` of one tune; 0 where it does not parse."""
        tune = parse(text)
        if not tune.parses:
            return 0.0
        measured = values(tune)
        return self.overall(self.distances(measured), measured)

    def measure(self, text: str) -> dict[str, float]:
        """What the tunes of a sample are like.

        Args:
            text: any number of tunes, the last one perhaps cut short: it counts only where it is the only one.

        Returns:
            ``music/valid_tunes``: share of the tunes that parse and of whose bars three quarters are full.
            ``music/overall``: mean over all tunes, 0 for those that do not parse.
            ``music/NAME``, ``music_distance/NAME``: means over the tunes that parse; absent where none does.
        """
        tunes = [parse(tune) for tune in complete(text)]
        rows = [values(tune) for tune in tunes if tune.parses]
        distances = [self.distances(row) for row in rows]
        scores = [self.overall(*pair) for pair in zip(distances, rows, strict=True)]
        found = {
            "music/valid_tunes": sum(map(is_valid, tunes)) / max(1, len(tunes)),
            "music/overall": sum(scores) / max(1, len(tunes)),
        }
        if rows:
            found |= {f"music/{name}": fmean(row[name] for row in rows) for name in METRICS}
            found |= {f"music_distance/{name}": fmean(row[name] for row in distances) for name in METRICS}
        return found


def values(tune: Tune) -> Values:
    """The metrics of a tune that parses."""
    melody = Melody.of(tune)
    return {name: metric(melody) for name, metric in METRICS.items()}


def is_valid(tune: Tune) -> bool:
    """Whether a tune parses and keeps its metre: three quarters of the bars that no upbeat excuses are full."""
    return tune.parses and tune.full_bars() >= FULL_BARS


def complete(text: str) -> list[str]:
    """The tunes of a sample, without the last one, which its length may have cut, if there are others."""
    tunes = split(text)
    return tunes[:-1] if len(tunes) > 1 and not text.endswith("\n\n") else tunes


def _sides(column: Sequence[float]) -> tuple[float, float, float]:
    """Spread below, median, spread above; nowhere less than a hundredth, for what is the same in nearly all tunes."""
    low, median, high = np.quantile(column, [EDGE, 0.5, 1 - EDGE]).tolist()
    return max(median - low, 0.01), median, max(high - median, 0.01)
