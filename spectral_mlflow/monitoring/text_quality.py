"""TextQuality: how varied and how correct a sample is, beside pieces of the corpus of the same length."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from statistics import fmean, pstdev

PIECES = 200  # Of the corpus, evenly spaced.
RUN = 10  # Characters that count as repeated when they come again.
HELD_OUT = 0.1  # Largest share of the corpus that a piece may be, to be compared with the rest as if it were new.
LEAST_DEVIATION = 0.01  # As fine as a sample of some hundred words can tell.

_TOKEN = re.compile(r"\w+|[^\w\s]")
_WORD = re.compile(r"[^\W\d_]+")

Values = dict[str, float]


class TextQuality:
    """Measures a text by its value in each quality, and by its distance to the corpus: |value - mean| / deviation.

    Mean and deviation are those of pieces of the corpus that are as long as a sample, since all of the qualities
    depend on length. A corpus that is shorter than a sample is taken again and again, as a model that knows it by heart
    would write it.

    Attributes:
        reference: mean and deviation of each quality over the pieces; a deviation is at least 0.01.
    """

    def __init__(self, words: Counter[str], reference: Mapping[str, tuple[float, float]]) -> None:
        """Take what is known of a corpus; see `of`."""
        self._words = words
        self.reference = dict(reference)

    @classmethod
    def of(cls, corpus: str, length: int) -> TextQuality:
        """Know a corpus.

        Args:
            corpus: all of it, or a fair part; its words are those that are valid.
            length: of a sample, in characters.

        Raises:
            ValueError: the corpus has no text.
        """
        if not corpus:
            raise ValueError("an empty corpus: nothing to compare with")
        length = max(1, length)
        words, held_out = Counter(_words(corpus)), length <= HELD_OUT * len(corpus)
        if length > len(corpus):
            corpus = "\n".join([corpus] * (length // len(corpus) + 2))
        places = sorted({number * (len(corpus) - length) // (PIECES - 1) for number in range(PIECES)})
        rows = [_measure(corpus[place : place + length], words, held_out=held_out) for place in places]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        return cls(words, {n: (fmean(c), max(pstdev(c), LEAST_DEVIATION)) for n, c in columns.items()})

    def measure(self, text: str) -> dict[str, float]:
        """The qualities of a sample.

        Returns:
            ``quality/NAME`` and ``quality_distance/NAME`` of each, and ``quality_distance/overall``, their mean:

            - ``distinct_1``, ``_2``, ``_3``: different runs of n words and signs over all of them (Li et al. 2016).
            - ``repetition``: share of the runs of ten characters that stood in the text before.
            - ``word_validity``: share of the words that the corpus has; 0 without a word.
            - ``entropy``: of the characters, in bits, -sum p(c) log2 p(c).
        """
        found = _measure(text, self._words, held_out=False)
        distances = {name: abs(found[name] - mean) / deviation for name, (mean, deviation) in self.reference.items()}
        distances["overall"] = fmean(distances.values())
        return {f"quality/{n}": v for n, v in found.items()} | {
            f"quality_distance/{n}": v for n, v in distances.items()
        }


def _measure(text: str, words: Counter[str], *, held_out: bool) -> Values:
    tokens = _TOKEN.findall(text.lower())
    return {
        **{f"distinct_{size}": _distinct(tokens, size) for size in (1, 2, 3)},
        "repetition": _repetition(text),
        "word_validity": _validity(text, words, held_out=held_out),
        "entropy": _entropy(text),
    }


def _distinct(tokens: list[str], size: int) -> float:
    runs = [tuple(tokens[place : place + size]) for place in range(len(tokens) - size + 1)]
    return len(set(runs)) / len(runs) if runs else 0.0


def _repetition(text: str) -> float:
    runs = [text[place : place + RUN] for place in range(len(text) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def _validity(text: str, words: Counter[str], *, held_out: bool) -> float:
    """Share of valid words; those of a small piece of the corpus must stand elsewhere in it too.

    The first and the last word are left out, since a cut may have gone through them.
    """
    own = Counter(_words(text)[1:-1])
    inside = Counter(_words(text)) if held_out else Counter[str]()
    valid = sum(count for word, count in own.items() if words[word] > inside[word])
    return valid / own.total() if own else 0.0


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _entropy(text: str) -> float:
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())
