"""O'Neill's tunes: read from music21, cleaned, split by tune, and in other keys as counted augmentation."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import corpora, dataset, tunes
from spectral_mlflow.data.documents import Piece
from spectral_mlflow.errors import UserError
from spectral_mlflow.provenance import sha256

needs_music21 = pytest.mark.skipif(find_spec("music21") is None, reason="music21 is not installed")


def pieces(transpositions: int = 0, val_split: float = 0.1) -> list[Piece]:
    """The tunes, with a share held out."""
    config = DatasetConfig(name="oneills", transpositions=transpositions, val_split=val_split)
    return list(corpora.find(config).read())


@needs_music21
def test_the_collection_is_whole() -> None:
    """2,009 tunes with 67 characters, each once and in one split, from all files."""
    prepared = dataset.prepare(DatasetConfig(name="oneills"), block_size=64)
    info, documents = prepared.info(), prepared.train_documents
    assert (info["num_documents"], info["augmented_documents"], info["vocab_size"]) == (2009, 0, 67)
    assert info["files"] == 39
    assert info["source"].startswith("music21 ")
    assert "public domain" in info["licence"]
    assert documents is not None
    assert documents.number_of_files == 39
    text = prepared.training_text()
    assert len(documents) == text.count(tunes.BEGIN)
    assert text.startswith(tunes.BEGIN)
    assert all(text[start : start + 5] == "\n" + tunes.BEGIN for start in documents.starts[1:])
    assert len(documents) + prepared.tokenizer.decode(prepared.val[:]).count(tunes.BEGIN) == 2009
    assert 0.09 < info["val_tokens"] / info["num_tokens"] < 0.11


@needs_music21
def test_the_characters_are_those_of_music() -> None:
    """67 of them, and every tune begins with number, metre and key."""
    found = pieces()
    assert len(set("".join(piece.text for piece in found))) == 67
    for piece in found:
        fields = [line[:2] for line in piece.text.splitlines()[:4]]
        assert fields[0] == "X:"
        assert {"M:", "K:"} <= set(fields)
        assert '"' not in piece.text


@needs_music21
def test_the_split_of_a_tune_depends_on_its_number_alone() -> None:
    """Two transcriptions of a tune are both held out or both trained on; a larger share keeps what is held out."""
    source = corpora.find(DatasetConfig(name="oneills"))
    assert isinstance(source, tunes.Tunes)
    splits: dict[str, set[str | None]] = {}
    for tune in source.tunes:
        splits.setdefault(tune.number, set()).add(tune.split)
    assert len(splits) < 2009
    assert all(len(found) == 1 for found in splits.values())
    few = {piece.digest for piece in pieces(val_split=0.05) if piece.split == "val"}
    assert few < {piece.digest for piece in pieces(val_split=0.1) if piece.split == "val"}


@needs_music21
def test_reading_goes_on_where_it_was_left() -> None:
    """The position behind a piece leads to the next one."""
    source = corpora.find(DatasetConfig(name="oneills"))
    whole = list(source.read())
    assert list(source.read(whole[999].after)) == whole[1000:]


@needs_music21
def test_tunes_in_other_keys_are_counted_apart() -> None:
    """They come behind the tunes, are flagged, and change neither the corpus nor what is held out nor the letters."""
    plain, more = (
        dataset.prepare(DatasetConfig(name="oneills", transpositions=count), block_size=64) for count in (0, 1)
    )
    assert plain.train_documents is not None
    assert more.train_documents is not None
    number = len(plain.train_documents)
    augmented = more.train_documents.augmented
    assert not augmented[:number].any()
    assert augmented[number:].all()
    assert augmented.sum() > 0.99 * number
    assert more.info()["augmented_documents"] == augmented.sum()
    assert (more.corpus.sha256, more.corpus.documents) == (plain.corpus.sha256, plain.corpus.documents)
    assert np.array_equal(more.val[:], plain.val[:])
    assert more.tokenizer.vocab_size == plain.tokenizer.vocab_size
    assert np.array_equal(more.train[: len(plain.train)], plain.train[:])


def test_cleaning_leaves_music() -> None:
    """Titles, books and quoted words go; metre, unit, key and notes stay; old signs become today's."""
    tune = (
        "T:The Title\nM: 6/8\nL:1/8\nB:\"O'Neill's 7\"\nK: G \n% a remark\n"
        '"Slow"G2A  +B2d2+ !D.C.!|\\\n c*!d\te ||\nG:|\nK:D\nZ:me\n'
    )
    assert tunes.clean(tune) == "X:1\nM:6/8\nL:1/8\nK:G\nG2A [B2d2] |\ncd e ||\nG:|\nK:D\n"


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to install."""
    monkeypatch.delitem(sys.modules, "music21", raising=False)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError, match=r"oneills needs packages .*spectral-mlflow\[music\]"):
        corpora.find(DatasetConfig(name="oneills"))


def test_without_the_corpus_of_the_package_there_is_a_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Some distributions leave it out."""
    (tmp_path / "music21").mkdir()
    (tmp_path / "music21" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "music21", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UserError, match="without its corpus"):
        corpora.find(DatasetConfig(name="oneills"))


@needs_music21
def test_music21_is_found_without_importing_it() -> None:
    """Importing it takes seconds."""
    code = (
        "import sys; from spectral_mlflow.config import DatasetConfig; from spectral_mlflow.data.tunes import Tunes;"
        "Tunes(DatasetConfig(name='oneills'), ''); print('music21' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@needs_music21
def test_the_corpus_has_one_hash() -> None:
    """It is that of the documents in their order."""
    hashes = {dataset.prepare(DatasetConfig(name="oneills"), block_size=64).corpus.sha256 for _ in range(2)}
    assert len(hashes) == 1
    assert len(hashes.pop()) == len(sha256(b""))


@pytest.mark.parametrize(
    "settings", [{"name": "python-docs", "transpositions": 1}, {"name": "oneills", "transpositions": 7}]
)
def test_only_tunes_have_keys(settings: dict[str, object]) -> None:
    """Another dataset has none, and a tune only so many."""
    with pytest.raises(ValueError, match="transpositions"):
        DatasetConfig(**settings)
