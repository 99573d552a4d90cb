"""Text in, text out, and the folder of a model."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from spectral_mlflow import model_folder
from spectral_mlflow.config import DatasetConfig, ModelConfig
from spectral_mlflow.data.tokenizers import CharTokenizer, Tokenizer, train
from spectral_mlflow.errors import UserError
from spectral_mlflow.model_folder import ModelFacts
from spectral_mlflow.models.generation import generate, stream
from spectral_mlflow.models.gpt import build
from spectral_mlflow.sampling import Sampling
from spectral_mlflow.text_model import TextModel, until

LETTERS = "\n abcdef"
SIZES = ModelConfig(d_model=16, num_layers=1, num_heads=2, block_size=8)


def model_of(tokenizer: Tokenizer, seed: int = 5) -> TextModel:
    """A model whose distributions are far from uniform."""
    model = build(SIZES, tokenizer.vocab_size, seed).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return TextModel(model, tokenizer)


def facts(text_model: TextModel, step: int = 3) -> ModelFacts:
    """What a run would say of the model."""
    return ModelFacts(
        vars(text_model.model.config), text_model.tokenizer.vocab_size, "wave_1", step, val_loss=1.5, commit="0" * 40
    )


@pytest.fixture
def letters() -> TextModel:
    """A model of a few characters."""
    return model_of(CharTokenizer(LETTERS))


@pytest.fixture(scope="module")
def pairs() -> TextModel:
    """A model of byte pairs: its tokens are parts of characters."""
    text = "wävé ∿ φάση 波 🌊 " * 20
    return model_of(train(DatasetConfig(tokenizer="bpe", bpe_vocab_size=300), text, ""))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**63 - 1), max_tokens=st.integers(0, 40), prompt=st.text("wävé波🌊 ", min_size=1))
def test_pieces_are_the_text_of_all_tokens(pairs: TextModel, seed: int, max_tokens: int, prompt: str) -> None:
    """However the bytes of a character are spread over tokens, the pieces add up to the text of all tokens."""
    options = Sampling(max_tokens=max_tokens, temperature=1.5, seed=seed)
    ids = torch.from_numpy(pairs.tokenizer.encode(prompt))
    tokens = list(stream(pairs.model, ids, options, torch.Generator().manual_seed(seed)))
    assert pairs.complete(prompt, options) == prompt + pairs.tokenizer.decode(tokens)


STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3).map(tuple)


@given(pieces=st.lists(st.text("ab\n", max_size=5)), stop=STOPS)
def test_a_text_ends_before_its_first_stop_string(pieces: list[str], stop: tuple[str, ...]) -> None:
    """What comes out has no stop string, and is all of the text or ends where one begins."""
    text, out = "".join(pieces), "".join(until(stop, pieces))
    assert not any(end in out for end in stop)
    assert text.startswith(out)
    assert out == text or any(text.startswith(end, len(out)) for end in stop)


def test_nothing_is_asked_for_behind_a_stop_string() -> None:
    """The model really stops: the piece that completes the stop string is the last one it makes."""
    made = []

    def pieces() -> Iterator[str]:
        for piece in ("one\n", "\ntwo", "three"):
            made.append(piece)
            yield piece

    assert list(until(("\n\n",), pieces())) == ["one", ""]
    assert made == ["one\n", "\ntwo"]


def test_pieces_come_as_soon_as_they_are_certain() -> None:
    """Only what may be the beginning of a stop string is held back."""
    assert list(until(("END",), ["aE", "Nb", "cEND", "d"])) == ["a", "ENb", "c"]
    assert list(until((), ["a", "b"])) == ["a", "b", ""]


def test_stopping_does_not_change_what_is_written(letters: TextModel) -> None:
    """With a stop string the text is the beginning of the one without."""
    whole = letters.complete("a", Sampling(max_tokens=60, seed=1))
    for stop in sorted(set(whole[1:])):
        assert letters.complete("a", Sampling(max_tokens=60, seed=1, stop=(stop,))) == whole[: whole.index(stop, 1)]


def test_the_end_of_a_document_ends_the_text() -> None:
    """The token that byte pairs learn between documents stops the model."""
    config = DatasetConfig(tokenizer="bpe", bpe_vocab_size=260)
    text_model = model_of(train(config, "wave " * 20, "", separated=True))
    end = text_model.tokenizer.separator
    assert end is not None
    with torch.no_grad():
        text_model.model.head.weight.zero_()
        text_model.model.head.weight[end] = text_model.model.norm.weight
    options = Sampling(max_tokens=200, temperature=0)
    ids = torch.from_numpy(text_model.tokenizer.encode("wave"))
    written = generate(text_model.model, ids, 200, temperature=0)[len(ids) :].tolist()
    text = text_model.complete("wave", options)
    assert text == "wave" + text_model.tokenizer.decode(written[: written.index(end)])


def test_the_prompt_comes_back_as_it_was_given() -> None:
    """Characters that the model reads as unknown stand in the text all the same."""
    text_model = model_of(CharTokenizer(LETTERS + "\N{REPLACEMENT CHARACTER}", unknown=True))
    assert text_model.complete("é", Sampling(max_tokens=3)).startswith("é")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_tokens": -1}, "max_tokens: given -1"),
        ({"seed": -1}, "seed: given -1"),
        ({"seed": 2**63}, "seed: given"),
        ({"stop": ("a", "")}, "stop: given an empty text"),
        ({"temperature": -0.5}, "temperature: given -0.5"),
    ],
    ids=str,
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object], words: str) -> None:
    """Each in one line that names it."""
    with pytest.raises(UserError, match=words):
        Sampling(**options)  # type: ignore[arg-type]


def test_a_model_comes_back_from_its_folder(letters: TextModel, tmp_path: Path) -> None:
    """Weights, texts and facts are the same to the last bit, and nothing in the folder is a pickle."""
    folder = tmp_path / "model"
    letters.save(folder, facts(letters))
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert load_file(folder / "model.safetensors").keys() == letters.model.state_dict().keys()
    loaded = TextModel.load(folder)
    assert model_folder.read(folder) == facts(letters)
    assert not loaded.model.training
    state = loaded.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in letters.model.state_dict().items())
    options = Sampling(max_tokens=30, seed=2)
    assert loaded.complete("ab", options) == letters.complete("ab", options)


def test_the_same_model_is_the_same_folder(letters: TextModel, tmp_path: Path) -> None:
    """Saving twice, also with a later version of the package, gives the same digest; another step another one."""
    for name, step in (("one", 3), ("two", 3), ("later", 4)):
        letters.save(tmp_path / name, facts(letters, step))
    one, two, later = (model_folder.digest(tmp_path / name) for name in ("one", "two", "later"))
    assert one == two
    assert one != later
    config = tmp_path / "two" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model": {"a setting of tomorrow": 1}}))
    assert model_folder.digest(tmp_path / "two") == one


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "bit"])
def test_a_damaged_folder_is_refused(letters: TextModel, tmp_path: Path, name: str, damage: str) -> None:
    """Whatever happened to a file, it is never taken for a model, and the line says how to mend it."""
    folder = tmp_path / "model"
    letters.save(folder, facts(letters))
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[0] ^= 1
        path.write_bytes(content)
    with pytest.raises(UserError, match="spectral register RUN makes it again"):
        TextModel.load(folder)


def test_an_interrupted_replacement_is_noticed(letters: TextModel, tmp_path: Path) -> None:
    """New weights beside the old config.json, as a crash would leave them, are no model."""
    letters.save(tmp_path / "model", facts(letters))
    other = model_of(letters.tokenizer, seed=6)
    other.save(tmp_path / "other", facts(other))
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "model" / "model.safetensors")
    with pytest.raises(UserError, match="model.safetensors changed since"):
        TextModel.load(tmp_path / "model")


def test_a_folder_of_another_version_is_refused(letters: TextModel, tmp_path: Path) -> None:
    """Another format, and settings that this version does not have, are one line each."""
    letters.save(tmp_path / "model", facts(letters))
    path = tmp_path / "model" / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"format_version": 99}))
    with pytest.raises(UserError, match="has format 99"):
        TextModel.load(tmp_path / "model")
    path.write_text(json.dumps(content | {"model": content["model"] | {"d_model": 32}}))
    with pytest.raises(UserError, match="does not fit this version"):
        TextModel.load(tmp_path / "model")
    path.write_text(json.dumps(content | {"model": content["model"] | {"flux": 1}}))
    with pytest.raises(UserError, match="does not fit this version"):
        TextModel.load(tmp_path / "model")
