"""Which documents the training tokens are from, and whether tokens came from the cache."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import batches, dataset, encoding
from spectral_mlflow.data.batches import window_starts


def folder(tmp_path: Path, files: int = 20) -> Path:
    """A folder of texts, each of one letter, one of them empty."""
    path = tmp_path / "texts"
    path.mkdir()
    for number in range(files):
        (path / f"{number:02}.txt").write_text(chr(97 + number) * (10 + number))
    (path / "empty.txt").touch()
    return path


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_documents_of_a_folder(tmp_path: Path, tokenizer: str) -> None:
    """Each begins with its separator, but for the first; files are told apart; an empty one has no token."""
    config = DatasetConfig(path=str(folder(tmp_path)), tokenizer=tokenizer, bpe_vocab_size=300)
    prepared = dataset.prepare(config, block_size=4)
    documents = prepared.train_documents
    assert documents is not None
    ends = [*documents.starts[1:], len(prepared.train)]
    parts = [
        prepared.tokenizer.decode(prepared.train[start:end]) for start, end in zip(documents.starts, ends, strict=True)
    ]
    separator = "\n" if tokenizer == "char" else "<|endoftext|>"
    letters = [part.removeprefix(separator) for part in parts if part.removeprefix(separator)]
    assert all(len(set(part)) == 1 for part in letters)
    assert len({part[0] for part in letters}) == len(letters)
    assert documents.number_of_files == len(documents) == len(set(documents.files))
    assert not documents.augmented.any()


def test_one_text_is_one_document(tmp_path: Path) -> None:
    """It begins with its first token."""
    path = tmp_path / "poem.txt"
    path.write_text("to be or not to be " * 20)
    documents = dataset.prepare(DatasetConfig(path=str(path)), block_size=4).train_documents
    assert documents is not None
    assert (list(documents.starts), list(documents.files)) == ([0], [0])


def test_a_corpus_on_disk_has_its_table_and_hits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both splits are made once and come from the cache from then on; the table is that of a corpus in memory."""
    config = DatasetConfig(path=str(folder(tmp_path)))
    wanted = dataset.prepare(config, block_size=4).train_documents
    monkeypatch.setattr(encoding, "SMALL", 100)
    first, second = (dataset.prepare(config, block_size=4) for _ in range(2))
    for found in (first.train_documents, second.train_documents):
        assert wanted is not None
        assert found is not None
        assert all(np.array_equal(column, getattr(wanted, name)) for name, column in vars(found).items())
    assert (first.cache_hits, second.cache_hits) == (0, 2)
    assert np.array_equal(first.train[:], second.train[:])


def test_window_starts_are_those_of_the_batch() -> None:
    """They say where each row of a batch begins."""
    tokens = torch.arange(1000)
    arguments = {"seed": 3, "step": 5, "batch_size": 7, "block_size": 11}
    inputs, _ = batches.batch(tokens, **arguments)
    assert np.array_equal(window_starts(1000, **arguments), inputs[:, 0].numpy())


def test_a_long_text_is_looked_at_in_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training text is whole where it is short; else evenly spaced pieces of it, from the first to the last one."""
    path = tmp_path / "numbers.txt"
    path.write_text(" ".join(map(str, range(5000))))
    prepared = dataset.prepare(DatasetConfig(path=str(path)), block_size=4)
    whole = prepared.training_text()
    assert whole == prepared.tokenizer.decode(prepared.train[:])
    monkeypatch.setattr(dataset, "TEXT_TOKENS", 6400)
    parts = prepared.training_text().split("\n")
    assert [len(part) for part in parts] == [100] * 64
    assert all(part in whole for part in parts)
    assert whole.startswith(parts[0])
    assert whole.endswith(parts[-1])
