"""Texts and parquet files for the tests of large corpora."""

import random
from collections.abc import Callable
from pathlib import Path

WriteParquet = Callable[..., Path]


def words(generator: random.Random, count: int) -> str:
    """A text with some order in it."""
    return " ".join(generator.choice(["wave", "phase", "beat", "tone", "näher", "interference"]) for _ in range(count))
