"""What a sample should be like for a dataset, and what measures it.

To add one: a class with `measure` and `reference`, and its line in `for_dataset`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from spectral_mlflow.data import tunes
from spectral_mlflow.data.dataset import TEXT_TOKENS, Dataset
from spectral_mlflow.monitoring.music.quality import MusicQuality
from spectral_mlflow.monitoring.text_quality import TextQuality

MUSIC = tunes.Tunes.name
FEWEST_MUSIC_TOKENS = 640  # As long as 99 of 100 tunes.


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
    """
    corpus = dataset.training_text()
    characters = len(corpus) / min(len(dataset.train), TEXT_TOKENS) * length(dataset.config.name, tokens)
    quality = TextQuality.of(corpus, round(characters))
    return MusicAndText(MusicQuality.of(corpus), quality) if dataset.config.name == MUSIC else quality


def prompt(dataset_name: str) -> str | None:
    """The text that a sample should begin with and that is part of it; None: any."""
    return tunes.BEGIN if dataset_name == MUSIC else None


def length(dataset_name: str, sample_tokens: int) -> int:
    """How many tokens to generate where the settings ask for so many; a sample of music should hold a whole tune."""
    return max(sample_tokens, FEWEST_MUSIC_TOKENS) if dataset_name == MUSIC and sample_tokens else sample_tokens
