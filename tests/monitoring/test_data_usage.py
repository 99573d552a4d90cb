"""DataUsage: each file and document once, in time that does not grow with the corpus."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow.data.batches import window_starts
from spectral_mlflow.monitoring.data_usage import DataUsage

LENGTH = 8


def corpus(lengths: list[int], files: list[int], augmented: list[bool]) -> tuple[DataUsage, list[int]]:
    """What counts it, and the document of each of its tokens."""
    starts = np.cumsum([0, *lengths[:-1]])
    owners = [document for document, length in enumerate(lengths) for _ in range(length)]
    usage = DataUsage(starts, np.array(files), np.array(augmented), num_tokens=len(owners), cache_hits=2)
    return usage, owners


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[int], list[int], list[bool]]:
    """Documents of a few tokens each, of a few files."""
    count = draw(st.integers(1, 12))
    lengths = draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    lengths[-1] += LENGTH
    files = sorted(draw(st.lists(st.integers(0, 4), min_size=count, max_size=count)))
    return lengths, files, draw(st.lists(st.booleans(), min_size=count, max_size=count))


@given(made=corpora(), seed=st.integers(0, 5), steps=st.integers(0, 6))
def test_counts_are_those_of_looking_at_every_token(
    made: tuple[list[int], list[int], list[bool]], seed: int, steps: int
) -> None:
    """Against a twin that walks over the tokens of each window and keeps sets, every count is the same."""
    usage, owners = corpus(*made)
    _, files, augmented = made
    seen: set[int] = set()
    samples = 0
    for step in range(1, steps + 1):
        starts = window_starts(len(owners), seed=seed, step=step, batch_size=3, block_size=LENGTH - 1)
        usage.windows(starts, LENGTH - 1)
        for start in starts:
            seen |= set(owners[start : start + LENGTH - 1])
            samples += augmented[owners[start]]
    assert usage.documents == len(seen)
    assert usage.files == len({files[document] for document in seen})
    assert usage.augmented_files == len({files[document] for document in seen if augmented[document]})
    assert (usage.augmented, usage.tokens) == (samples, steps * 3 * (LENGTH - 1))


@given(made=corpora(), cut=st.integers(0, 5))
def test_a_continued_count_is_the_same(made: tuple[list[int], list[int], list[bool]], cut: int) -> None:
    """Stopped after any batch and continued from its state, everything is as in one go."""
    whole, owners = corpus(*made)
    first, _ = corpus(*made)

    def count(usage: DataUsage, steps: range) -> None:
        for step in steps:
            usage.windows(window_starts(len(owners), seed=0, step=step, batch_size=2, block_size=4), 4)

    count(whole, range(6))
    count(first, range(cut))
    second, _ = corpus(*made)
    second.load_state_dict(first.state_dict())
    count(second, range(cut, 6))
    assert second.metrics() == whole.metrics()
    assert plain(second.state_dict()) == plain(whole.state_dict())


def plain(state: dict[str, Any]) -> dict[str, Any]:
    """A state that can be compared."""
    return {**state, "seen": {name: bits.tolist() for name, bits in state["seen"].items()}}


def test_memory_is_that_of_the_corpus() -> None:
    """The state of 16,000 files is a few kilobytes, however many batches were counted."""
    starts = np.arange(16_000) * 100
    usage = DataUsage(starts, np.arange(16_000), np.zeros(16_000, bool), num_tokens=1_600_000)
    sizes = []
    for step in range(200):
        usage.windows(window_starts(1_600_000, seed=0, step=step, batch_size=16, block_size=128), 128)
        sizes.append(sum(bits.numel() for bits in usage.state_dict()["seen"].values()))
    assert set(sizes) == {3 * 2000}
    assert 200 < usage.files == usage.documents < 16_000


def test_a_loop_of_its_own_says_what_it_has_seen() -> None:
    """Without documents only what was added counts; what is not known has no metric."""
    usage = DataUsage()
    assert usage.metrics() == {"data/tokens": 0.0}
    usage.add(files=8, tokens=100, augmented=3)
    usage.add(files=2, documents=4, tokens=50, cache_hits=1)
    assert usage.metrics() == {
        "data/tokens": 150.0, "data/files": 10.0, "data/documents": 4.0, "data/augmented": 3.0, "data/cache_hits": 1.0,
    }  # fmt: skip
    assert (usage.files, usage.augmented_files) == (10, 3)


def test_a_corpus_without_documents_counts_tokens_and_epochs() -> None:
    """Of a corpus on disk no documents are known."""
    usage = DataUsage(num_tokens=400)
    usage.windows(np.array([0, 5]), 100)
    assert usage.metrics() == {"data/tokens": 200.0, "data/epochs": 0.5}
