"""Tokenizers: exact round trips, nothing learned from held-out text, files that are checked."""

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers as library
from hypothesis import given, settings
from hypothesis import strategies as st

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import tokenizers
from spectral_mlflow.data.tokenizers import Tokenizer
from spectral_mlflow.errors import UserError
from spectral_mlflow.settings import all_settings

CHAR = DatasetConfig(name="python-docs", tokenizer="char")
BPE = DatasetConfig(name="python-docs", tokenizer="bpe", bpe_vocab_size=300)
TEXT = "the wave and the particle,\nthe particle and the wave;\n  " * 40
CONFIGS = pytest.mark.parametrize("config", [CHAR, BPE], ids=["char", "bpe"])

awkward = st.text(st.sampled_from("ab'1é \n\r\t\x1c\x85\xa0\u2028\u3000🌊"), max_size=60)


@pytest.fixture(scope="module")
def pairs() -> Tokenizer:
    """A trained byte-pair tokenizer, which has also learned blanks in front of and behind line ends."""
    return tokenizers.train(BPE, TEXT + "a \n\n  \r\n\t\n b\x1c\n\xa0\n" * 40, "")


def test_every_tokenizer_can_be_asked_for() -> None:
    """The names that the settings allow are those of the registry, and each class knows its own."""
    allowed = next(setting.allowed for setting in all_settings() if setting.name == "dataset.tokenizer")
    assert set(allowed.split("|")) == set(tokenizers.TOKENIZERS)
    assert all(kind.kind == name for name, kind in tokenizers.TOKENIZERS.items())


@given(text=st.text(), other=st.text())
def test_characters_are_sorted_and_only_those_of_the_training_text(text: str, other: str) -> None:
    """The vocabulary is the sorted training text; U+FFFD comes behind it only where the rest needs it."""
    tokenizer = tokenizers.train(CHAR, text, other)
    known = sorted(set(text))
    needed = bool(set(other) - set(known)) and "\ufffd" not in known
    assert tokenizer.vocab_size == len(known) + needed
    assert tokenizer.decode(range(tokenizer.vocab_size)) == "".join(known) + "\ufffd" * needed


@given(text=st.text(), other=st.text())
def test_characters_encode_as_the_plain_loop_does(text: str, other: str) -> None:
    """The table look-up gives what a dictionary gives, unknown characters included, and decodes back."""
    tokenizer = tokenizers.train(CHAR, text, other)
    vocabulary = {tokenizer.decode([token]): token for token in range(tokenizer.vocab_size)}
    ids = tokenizer.encode(text + other)
    assert ids.dtype == np.int64
    assert ids.tolist() == [vocabulary.get(character, vocabulary.get("\ufffd")) for character in text + other]
    seen = "".join(character if character in set(text) else "\ufffd" for character in other)
    assert tokenizer.decode(ids) == text + seen


def test_an_unknown_character_is_refused_by_name() -> None:
    """Without an unknown token the error shows the foreign characters and the known ones, in one line."""
    tokenizer = tokenizers.train(CHAR, "abc\n", "cab")
    with pytest.raises(UserError) as failure:
        tokenizer.encode("a😀bé")
    assert "does not know: 'é😀'; it knows the 4 of its training text: '\\nabc'" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_long_vocabularies_are_shown_in_part() -> None:
    """An error about a script of thousands of characters stays readable."""
    tokenizer = tokenizers.train(CHAR, "".join(map(chr, range(0x4E00, 0x4E00 + 3000))), "")
    with pytest.raises(UserError, match="and 2900 more"):
        tokenizer.encode("a")


@given(text=st.text())
def test_byte_pairs_encode_every_text_exactly(pairs: Tokenizer, text: str) -> None:
    """Any text, of whatever script, comes back to the letter."""
    ids = pairs.encode(text)
    assert ids.dtype == np.int64
    assert ids.size == 0 or 0 <= ids.min() <= ids.max() < pairs.vocab_size
    assert pairs.decode(ids) == text


@given(text=awkward, chunk=st.integers(min_value=1, max_value=5))
def test_byte_pairs_in_chunks_are_those_of_the_whole(pairs: Tokenizer, text: str, chunk: int) -> None:
    """A long text, encoded piece by piece, gives the tokens that the library gives for all of it at once."""
    whole = pairs.encode(text).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizers, "CHUNK", chunk)
        assert pairs.encode(text).tolist() == whole


def test_byte_pairs_learn_the_same_from_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the training text is cut for the library leaves no trace, and training twice gives the same file."""
    for name, chunk in (("one", 1 << 16), ("two", 1 << 16), ("three", 7)):
        monkeypatch.setattr(tokenizers, "CHUNK", chunk)
        tokenizers.train(BPE, TEXT, "").save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == (tmp_path / "three").read_bytes()


def test_byte_pairs_have_the_size_asked_for() -> None:
    """A text with enough pairs gives exactly bpe_vocab_size tokens, an empty one the 256 bytes."""
    assert tokenizers.train(BPE, " ".join(f"{i * i:b}" for i in range(500)), "").vocab_size == 300
    assert tokenizers.train(BPE, "", "").vocab_size == 256


def test_byte_pairs_shorten_what_they_were_trained_on(pairs: Tokenizer) -> None:
    """Learned words are single tokens."""
    assert len(pairs.encode(" particle")) == 1


def test_byte_pairs_decode_half_a_character(pairs: Tokenizer) -> None:
    """A model may stop inside a character; the rest of it is shown as U+FFFD."""
    assert pairs.decode(pairs.encode("wave 🌊")[:-1]) == "wave \ufffd"


def test_byte_pairs_refuse_what_is_not_unicode(pairs: Tokenizer) -> None:
    """A lone surrogate, as a terminal with another encoding sends it, is the user's to mend."""
    with pytest.raises(UserError, match=r"not valid Unicode: '\\udce9' at character 3"):
        pairs.encode("caf\udce9")


def test_byte_pairs_are_readable_by_the_library(pairs: Tokenizer, tmp_path: Path) -> None:
    """The file needs nothing of ours."""
    pairs.save(tmp_path / "tokenizer.json")
    foreign = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert foreign.encode(TEXT).ids == pairs.encode(TEXT).tolist()


@CONFIGS
def test_documents_can_be_separated(config: DatasetConfig, tmp_path: Path) -> None:
    """The token between documents is in the vocabulary, survives the file, and no text has it by accident."""
    tokenizer = tokenizers.train(config, "wave<|endoftext|>\n", None, separated=True)
    tokenizer.save(tmp_path / "tokenizer.json")
    for one in (tokenizer, tokenizers.load(tmp_path / "tokenizer.json")):
        separator = one.separator
        assert separator is not None
        assert one.decode([separator]) == {"char": "\n", "bpe": "<|endoftext|>"}[one.kind]
        ids = one.encode("wave<|endoftext|>wave").tolist()
        assert separator not in ids
        assert one.decode(ids) == "wave<|endoftext|>wave"


def test_a_single_text_needs_no_end_of_text(pairs: Tokenizer) -> None:
    """Its byte pairs are as they would be without documents."""
    assert pairs.separator is None
    assert tokenizers.train(CHAR, "wave", "").separator is None


def test_characters_of_a_part_leave_room_for_others() -> None:
    """Where the rest is not known, U+FFFD stands for whatever may come."""
    tokenizer = tokenizers.train(CHAR, "wave", None)
    assert tokenizer.decode(tokenizer.encode("wave 🌊")) == "wave\ufffd\ufffd"


@CONFIGS
def test_nothing_is_learned_from_the_rest(config: DatasetConfig, tmp_path: Path) -> None:
    """Two different rests without new characters give the same tokenizer."""
    tokenizers.train(config, TEXT, "wave wave").save(tmp_path / "one")
    tokenizers.train(config, TEXT, "particle").save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@CONFIGS
@pytest.mark.parametrize("unseen", ["", "é"])
def test_load_knows_the_kind(config: DatasetConfig, unseen: str, tmp_path: Path) -> None:
    """A saved tokenizer comes back as it was, whichever it is."""
    tokenizer = tokenizers.train(config, TEXT, unseen)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = tokenizers.load(tmp_path / "tokenizer.json")
    assert (again.kind, again.vocab_size) == (config.tokenizer, tokenizer.vocab_size)
    assert again.encode(TEXT + unseen).tolist() == tokenizer.encode(TEXT + unseen).tolist()


@CONFIGS
def test_ids_outside_the_vocabulary_are_refused(config: DatasetConfig) -> None:
    """Neither a negative id nor one too large decodes to something."""
    tokenizer = tokenizers.train(config, TEXT, "")
    assert tokenizer.decode([]) == ""
    for wrong in (-1, tokenizer.vocab_size):
        with pytest.raises(ValueError, match="token ids must be in 0"):
            tokenizer.decode([0, wrong])


@settings(max_examples=30)
@given(config=st.sampled_from([CHAR, BPE]), share=st.floats(min_value=0, max_value=0.99))
def test_a_torn_file_is_refused(config: DatasetConfig, share: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    """However much of the file is left, the error is one line that names it."""
    path = tmp_path_factory.getbasetemp() / "torn.json"
    tokenizers.train(config, TEXT, "").save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"torn.json is damaged or not a tokenizer: .*; restore the file") as failure:
        tokenizers.load(path)
    assert "\n" not in str(failure.value)


FOREIGN = {
    "no object": [1, 2],
    "nothing in it": {},
    "unknown kind": {"kind": "syllables"},
    "no characters": {"kind": "char", "unknown": False},
    "a character twice": {"kind": "char", "characters": "aab", "unknown": False},
    "not in order": {"kind": "char", "characters": "ba", "unknown": False},
    "no unknown token": {"kind": "char", "characters": "ab", "unknown": True},
    "another model": {"model": {"type": "WordLevel", "vocab": {"a": 0}}, "pre_tokenizer": {"type": "ByteLevel"}},
    "another split": {"model": {"type": "BPE", "vocab": {}, "merges": []}, "pre_tokenizer": {"type": "Whitespace"}},
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_file_of_something_else_is_refused(case: str, tmp_path: Path) -> None:
    """Valid JSON that is not one of our tokenizers is named as such."""
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(FOREIGN[case]))
    with pytest.raises(UserError, match=r"tokenizer.json is damaged or not a tokenizer"):
        tokenizers.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The error says which file is not there."""
    with pytest.raises(UserError, match=r"cannot read the tokenizer .*tokenizer.json: No such file"):
        tokenizers.load(tmp_path / "tokenizer.json")
