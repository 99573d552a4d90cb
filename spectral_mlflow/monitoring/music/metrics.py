"""What can be measured of one tune. Each value alone says little: what counts is its distance to those of real tunes.

Below, a tune is its melody of N notes: pitch p_i in semitones, length d_i in quarter notes, onset o_i in its bar.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spectral_mlflow.monitoring.music.tune import Note, Tune, melody

MOST_BARS = 256  # That are compared with each other; no tune of the collection has half as many.
GRAM = 4  # Intervals, that is five notes: long enough that chance seldom repeats them.
STEP, LEAP = 2, 7  # Semitones: at most a whole tone is a step, more than a fifth a wide leap.
TRIADS = ((0, 4, 7), (0, 3, 7), (0, 3, 6))  # Major, minor and diminished, in semitones above their root.
_IN_TRIAD = np.array([[(tone - root) % 12 in triad for tone in range(12)] for root in range(12) for triad in TRIADS])


@dataclass(frozen=True)
class Melody:
    """A tune and what several of its metrics need.

    Attributes:
        tune: as it was read.
        notes: of its highest voice.
    """

    tune: Tune
    notes: Sequence[Note]

    @classmethod
    def of(cls, tune: Tune) -> Melody:
        """The melody of a tune that has notes."""
        return cls(tune, list(melody(tune)))

    @property
    def pitches(self) -> list[int]:
        """Of the notes, in semitones."""
        return [note.pitches[0] for note in self.notes]

    @property
    def intervals(self) -> list[int]:
        """From each note to the next one, in semitones."""
        return [after - before for before, after in pairwise(self.pitches)]

    def by_bar(self) -> list[list[Note]]:
        """The notes of each bar that has some."""
        bars: dict[int, list[Note]] = defaultdict(list)
        for note in self.notes:
            bars[note.bar].append(note)
        return list(bars.values())


def rhythm_consistency(melody: Melody) -> float:
    """Share of the bars whose notes fill their metre, of those that no upbeat excuses."""
    return melody.tune.full_bars()


def rhythm_diversity(melody: Melody) -> float:
    """Entropy of the lengths given the length before, in bits: H(d_i, d_{i+1}) - H(d_i)."""
    lengths = [round(note.length, 3) for note in melody.notes]
    return _entropy(Counter(pairwise(lengths))) - _entropy(Counter(lengths[:-1]))


def harmonic_coherence(melody: Melody) -> float:
    """Share of the sounding time of a bar that the best triad for it covers, over all bars.

    sum_b max_T sum_{i in b, p_i in T} d_i / sum_i d_i, with T the 36 major, minor and diminished triads.
    """
    covered = 0.0
    for notes in melody.by_bar():
        time = np.zeros(12)
        for note in notes:
            time[note.pitches[0] % 12] += note.length
        covered += float((_IN_TRIAD @ time).max())
    return covered / sum(note.length for note in melody.notes)


def melodic_contour(melody: Melody) -> float:
    """Share of steps less share of wide leaps among the moves: (#{0 < |m| <= 2} - #{|m| > 7}) / #{m != 0}."""
    moves = [abs(interval) for interval in melody.intervals if interval]
    return sum((move <= STEP) - (move > LEAP) for move in moves) / max(1, len(moves))


def dynamic_range(melody: Melody) -> float:
    """Contrast of accents, since ABC notes have no loudness: how much longer notes on the beat are than the others.

    log2 of the mean length of the notes whose onset is a whole number of beats, over that of all others;
    a beat is a quarter note, or three eighths where the metre is one of 3n/8.
    """
    beat = _beat(melody.tune)
    strong: list[float] = []
    weak: list[float] = []
    for note in melody.notes:
        beats = note.onset / beat
        (strong if abs(beats - round(beats)) < 1e-3 else weak).append(note.length)
    return math.log2(_mean(strong) / _mean(weak)) if strong and weak else 0.0


def note_density(melody: Melody) -> float:
    """Notes per beat: N over the number of beats that all of them last."""
    return len(melody.notes) * _beat(melody.tune) / sum(note.length for note in melody.notes)


def pitch_range(melody: Melody) -> float:
    """Semitones from the lowest to the highest note."""
    return float(max(melody.pitches) - min(melody.pitches))


def repetition(melody: Melody) -> float:
    """Share of the runs of five notes, as intervals and lengths, that the tune has more than once."""
    steps = list(zip(melody.intervals, (round(note.length, 3) for note in melody.notes), strict=False))
    grams = Counter(tuple(steps[place : place + GRAM]) for place in range(len(steps) - GRAM + 1))
    return sum(count for count in grams.values() if count > 1) / max(1, sum(grams.values()))


def structural_coherence(melody: Melody) -> float:
    """How much bars come back: mean likeness to the most alike other bar, over the half of the bars where it is most.

    The likeness of two bars is the share of onsets, of those that either has, at which both have the same pitch.
    Half of the bars, because a tune may have one part that returns and one that does not. Of a longer tune the first
    256 bars count.
    """
    bars = [{(round(note.onset, 3), note.pitches[0]) for note in notes} for notes in melody.by_bar()[:MOST_BARS]]
    onsets = [{onset for onset, _ in bar} for bar in bars]
    best = [0.0] * len(bars)
    for one in range(len(bars)):
        for other in range(one):
            alike = len(bars[one] & bars[other]) / len(onsets[one] | onsets[other])
            best[one], best[other] = max(best[one], alike), max(best[other], alike)
    return _mean(sorted(best)[len(best) // 2 :])


METRICS: Mapping[str, Callable[[Melody], float]] = {
    metric.__name__: metric
    for metric in (
        rhythm_consistency,
        rhythm_diversity,
        harmonic_coherence,
        melodic_contour,
        dynamic_range,
        note_density,
        pitch_range,
        repetition,
        structural_coherence,
    )
}


def _beat(tune: Tune) -> float:
    beats, unit = tune.metre or (4, 4)
    return 1.5 if unit == 8 and beats % 3 == 0 else 1.0


def _entropy(counts: Counter[object]) -> float:
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values()) if total else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
