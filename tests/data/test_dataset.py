"""Datasets: disjoint splits of the text, a tokenizer of the training part, lengths that are checked."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import dataset
from spectral_mlflow.errors import UserError


@given(
    text=st.text(min_size=20, max_size=200),
    percents=st.tuples(st.integers(10, 90), st.integers(10, 90)).filter(lambda shares: sum(shares) <= 100),
    tokenizer=st.sampled_from(["char", "bpe"]),
)
def test_splits_are_the_text_cut_in_two(
    text: str, percents: tuple[int, int], tokenizer: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The first share of the characters is train, the next one val; both decode to their own text."""
    path = tmp_path_factory.getbasetemp() / "corpus.txt"
    path.write_bytes(text.encode())
    middle, end = len(text) * percents[0] // 100, len(text) * sum(percents) // 100
    assume(middle >= 4)  # One learned pair makes two tokens of them at least.
    assume(end - middle >= 4)
    config = DatasetConfig(
        path=str(path),
        tokenizer=tokenizer,
        bpe_vocab_size=257,
        train_split=percents[0] / 100,
        val_split=percents[1] / 100,
    )
    prepared = dataset.prepare(config, block_size=1)
    assert prepared.train.dtype == prepared.val.dtype == torch.int64
    assert prepared.tokenizer.decode(prepared.train) == text[:middle]
    held_out = prepared.tokenizer.decode(prepared.val)
    known = set(text[:middle]) if tokenizer == "char" else set(text)
    assert held_out == "".join(letter if letter in known else "\ufffd" for letter in text[middle:end])


@pytest.mark.usefixtures("tinyshakespeare")
def test_tinyshakespeare_is_split_as_everybody_does() -> None:
    """65 characters, 1,003,854 tokens to train on and 111,540 held out, as in nanoGPT."""
    prepared = dataset.prepare(DatasetConfig(name="tinyshakespeare"), block_size=256)
    assert prepared.tokenizer.vocab_size == 65
    assert (len(prepared.train), len(prepared.val)) == (1_003_854, 111_540)


def test_python_docs_is_ready_at_once() -> None:
    """The built-in corpus makes a dataset for a model of the default size."""
    prepared = dataset.prepare(DatasetConfig(name="python-docs"), block_size=128)
    assert int(prepared.train.max()) < prepared.tokenizer.vocab_size
    assert prepared.tokenizer.decode(prepared.train) + prepared.tokenizer.decode(prepared.val) == prepared.corpus.text


def test_info_says_everything_in_plain_json(tmp_path: Path) -> None:
    """The facts for config.json, with the settings they follow from."""
    path = tmp_path / "corpus.txt"
    path.write_text("abcdefghij" * 10)
    prepared = dataset.prepare(DatasetConfig(path=str(path), train_split=0.7, val_split=0.2), block_size=4)
    info = prepared.info()
    assert json.loads(json.dumps(info)) == {
        "name": "text",
        "sha256": prepared.corpus.sha256,
        "source": str(path),
        "licence": "the user's own text, rights not known",
        "files": 1,
        "num_tokens": 90,
        "train_tokens": 70,
        "val_tokens": 20,
        "vocab_size": 10,
        "tokenizer": "char",
        "train_split": 0.7,
        "val_split": 0.2,
    }


def test_a_split_holds_at_least_one_window(tmp_path: Path) -> None:
    """block_size + 1 tokens are enough; with one less the error says how many there are and what helps."""
    path = tmp_path / "corpus.txt"
    path.write_text("a" * 100)
    config = DatasetConfig(path=str(path), train_split=0.9, val_split=0.1)
    assert len(dataset.prepare(config, block_size=9).val) == 10
    with pytest.raises(UserError) as failure:
        dataset.prepare(config, block_size=10)
    assert str(failure.value) == (
        "dataset text: the val split has 10 tokens, needs model.block_size + 1 = 11; "
        "choose a model.block_size of at most 9, a larger corpus or a larger dataset.val_split"
    )


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_a_corpus_of_one_letter_is_refused(tokenizer: str, tmp_path: Path) -> None:
    """Where the training part has nothing in it, that is the error, and no smaller block is offered."""
    path = tmp_path / "corpus.txt"
    path.write_text("a")
    with pytest.raises(UserError, match="the train split has 0 tokens, needs .* choose a larger corpus"):
        dataset.prepare(DatasetConfig(path=str(path), tokenizer=tokenizer), block_size=1)


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    """Nothing to train on is said before anything else."""
    path = tmp_path / "corpus.txt"
    path.touch()
    with pytest.raises(UserError, match="is empty"):
        dataset.prepare(DatasetConfig(path=str(path)), block_size=1)
