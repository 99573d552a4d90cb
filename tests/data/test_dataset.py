"""Datasets: disjoint splits of the text, a tokenizer of the training part, lengths that are checked."""

import json
from bisect import bisect_left
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import dataset
from spectral_mlflow.data.batches import windows
from spectral_mlflow.errors import UserError
from spectral_mlflow.provenance import sha256


@given(
    text=st.text(min_size=20, max_size=200),
    percents=st.tuples(st.integers(10, 90), st.integers(10, 90)).filter(lambda shares: sum(shares) <= 100),
    tokenizer=st.sampled_from(["char", "bpe"]),
)
def test_splits_are_the_text_cut_in_two(
    text: str, percents: tuple[int, int], tokenizer: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The first share of the bytes is train, the next one val, whole characters both; they decode to their own text."""
    path = tmp_path_factory.getbasetemp() / "corpus.txt"
    path.write_bytes(text.encode())
    ends = list(accumulate(len(letter.encode()) for letter in text))
    middle, end = (bisect_left(ends, ends[-1] * share // 100) + 1 for share in (percents[0], sum(percents)))
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
    assert prepared.tokenizer.decode(prepared.train[:]) == text[:middle]
    held_out = prepared.tokenizer.decode(prepared.val[:])
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
    assert int(prepared.train[:].max()) < prepared.tokenizer.vocab_size
    whole = prepared.tokenizer.decode(prepared.train[:]) + prepared.tokenizer.decode(prepared.val[:])
    assert sha256(whole.encode()) == prepared.corpus.sha256


def test_info_says_everything_in_plain_json(tmp_path: Path) -> None:
    """The facts for config.json, with the settings they follow from."""
    path = tmp_path / "corpus.txt"
    path.write_text("abcdefghij" * 10)
    prepared = dataset.prepare(DatasetConfig(path=str(path), train_split=0.7, val_split=0.2), block_size=4)
    info = prepared.info()
    assert json.loads(json.dumps(info)) == {
        "name": "text",
        "sha256": sha256(path.read_bytes()),
        "source": str(path),
        "licence": "the user's own text, rights not known",
        "files": 1,
        "num_documents": 1,
        "augmented_documents": 0,
        "num_tokens": 90,
        "train_tokens": 70,
        "val_tokens": 20,
        "num_val_windows": 5,
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


def test_validation_can_be_on_a_fixed_number_of_windows(tmp_path: Path) -> None:
    """So many whole windows from the start of the held-out text, fewer where it has no more; info says how many."""
    path = tmp_path / "corpus.txt"
    path.write_text("abcdefghij" * 100)
    whole = dataset.prepare(DatasetConfig(path=str(path)), block_size=8)
    fixed = dataset.prepare(DatasetConfig(path=str(path), val_windows=5), block_size=8)
    generous = dataset.prepare(DatasetConfig(path=str(path), val_windows=5000), block_size=8)
    assert fixed.val[:].tolist() == whole.val[:41].tolist()
    assert (fixed.info()["num_val_windows"], fixed.info()["val_tokens"]) == (5, 41)
    assert whole.info()["num_val_windows"] == generous.info()["num_val_windows"] == 13
    assert len(list(windows(whole.val, block_size=8, batch_size=1))) == 13


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_a_folder_is_split_by_documents(tokenizer: str, tmp_path: Path) -> None:
    """Every file is wholly in one split, with a token between it and the next, and none is lost."""
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(
            f"document {number} {'<|endoftext|> ' * (number % 3)}" * (number % 7 + 1)
        )
    config = DatasetConfig(path=str(tmp_path), tokenizer=tokenizer, bpe_vocab_size=300)
    prepared = dataset.prepare(config, block_size=4)
    assert prepared.corpus.documents == prepared.corpus.files == 40
    separator = prepared.tokenizer.separator
    found = []
    for tokens in (prepared.train[:].tolist(), prepared.val[:].tolist()):
        cuts = [-1, *(place for place, token in enumerate(tokens) if token == separator), len(tokens)]
        found += [prepared.tokenizer.decode(tokens[a + 1 : b]) for a, b in pairwise(cuts)]
    assert sorted(found) == sorted(path.read_text() for path in tmp_path.iterdir())
    assert 0.02 < len(prepared.val) / len(prepared.train) < 0.2


def test_settings_of_one_corpus_are_refused_for_another() -> None:
    """What has no effect is an error, and what is left out is filled in."""
    with pytest.raises(ValueError, match="subset: given 'sample-10BT' with dataset auto; only dataset fineweb-edu"):
        DatasetConfig(subset="sample-10BT")
    with pytest.raises(ValueError, match="max_tokens: given 5 with dataset python-docs"):
        DatasetConfig(name="python-docs", max_tokens=5)
    with pytest.raises(ValueError, match="subset"):
        DatasetConfig(name="fineweb-edu", subset="everything")
    config = DatasetConfig(name="fineweb-edu")
    assert (config.subset, config.max_tokens, config.tokenizer) == ("sample-10BT", 100_000_000, "bpe")
    assert (DatasetConfig().tokenizer, DatasetConfig().val_windows, config.val_windows) == ("char", 0, 1024)
