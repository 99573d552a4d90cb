"""What a sample should be like for a dataset, and what measures it.

To add one: a class with `measure` and `reference`, and its line in `for_dataset`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from spectral_mlflow.data import tunes
from spectral_mlflow.data.dataset import TEXT_TOKENS, Dataset
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.music import abc
from spectral_mlflow.monitoring.music.quality import MusicQuality
from spectral_mlflow.monitoring.text_quality import TextQuality

MUSIC = tunes.Tunes.name
BEGIN = tunes.BEGIN  # What a tune begins with.
FEWEST_MUSIC_TOKENS = 640  # As long as 99 of 100 tunes.
TUNES = 16  # In a sample, so that the share of valid ones means something.


class SampleQuality(Protocol):
    """Measures samples."""

    @property
    def reference(self) -> Mapping[str, tuple[float, float]]:
        """Mean and deviation of each quality over the training text, by its name without ``quality/``."""

    def measure(self, text: str) -> dict[str, float]:
        """Metrics of a sample, by their names in the journal."""


class MusicAndText:
    """Measures a sample of music both as music and as text."""

    def __init__(self, music: MusicQuality, text: TextQuality) -> None:
        """Take both."""
        self._music, self._text = music, text

    @property
    def reference(self) -> Mapping[str, tuple[float, float]]:
        """Those of the text by their names, those of the music as ``music/NAME``."""
        return {**self._text.reference, **{f"music/{name}": pair for name, pair in self._music.reference.items()}}

    def measure(self, text: str) -> dict[str, float]:
        """See `MusicQuality.measure` and `TextQuality.measure`."""
        return self._text.measure(text) | self._music.measure(text)


def for_dataset(dataset: Dataset, tokens: int) -> SampleQuality:
    """What measures the samples of a run.

    Args:
        dataset: what the model is trained on.
        tokens: of a sample, as the settings have them.

    Raises:
        UserError: there are too few tunes to compare with.
    """
    corpus = dataset.training_text()
    if dataset.config.name == MUSIC:
        characters = TUNES * len(corpus) / max(1, corpus.count(BEGIN))
        return MusicAndText(_music(corpus, dataset.config.train_split), TextQuality.of(corpus, round(characters)))
    return TextQuality.of(corpus, round(len(corpus) / min(len(dataset.train), TEXT_TOKENS) * tokens))


def _music(corpus: str, train_split: float) -> MusicQuality:
    try:
        return MusicQuality.of(corpus)
    except ValueError as failure:
        raise UserError(
            f"dataset.train_split: given {train_split}, which leaves too little to compare samples with ({failure}); "
            "choose a larger one, or monitoring.sample_tokens=0"
        ) from None


def length(dataset_name: str, sample_tokens: int) -> int:
    """Tokens of a text, or the most of a tune, where the settings ask for so many: a tune should be a whole one."""
    return max(sample_tokens, FEWEST_MUSIC_TOKENS) if dataset_name == MUSIC and sample_tokens else sample_tokens


def tune(text: str) -> str:
    """The first tune of what a model has written, which the next one ends too; with an empty line behind it."""
    return "".join(abc.split(text)[:1]) + "\n"
