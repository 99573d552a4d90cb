"""One preloaded Python for all trials of a worker."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.faults.bench import Bench, NotHereError, Trial

Run = Callable[[Trial, int], dict[str, Any]]


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    """What trials share."""
    if sys.platform != "linux":
        pytest.skip("the preloaded Python waits for its forks as only Linux can")
    with Bench() as made:
        yield made


@pytest.fixture
def run(bench: Bench, tmp_path: Path) -> Run:
    """Does one trial of a fault, as the long form does it; what it asserts is the test."""

    def do(trial: Trial, seed: int) -> dict[str, Any]:
        folder = tmp_path / f"{trial.__name__}-{seed}"
        folder.mkdir()
        try:
            return trial(bench, Random(seed), folder)
        except NotHereError as reason:
            pytest.skip(str(reason))

    return do
