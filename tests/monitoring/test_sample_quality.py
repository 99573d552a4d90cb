"""What measures the samples of a dataset, and what they should be like."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import dataset
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import sample_quality


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_text_is_measured_as_text(tmp_path: Path, tokenizer: str) -> None:
    """Against pieces of the training text that are as long as a sample."""
    path = tmp_path / "text.txt"
    path.write_text("".join(f"the {n} small cats of {n * n} houses sleep. " for n in range(400)))
    prepared = dataset.prepare(DatasetConfig(path=str(path), tokenizer=tokenizer, bpe_vocab_size=300), block_size=8)
    quality = sample_quality.for_dataset(prepared, 100)
    found = quality.measure(prepared.tokenizer.decode(prepared.train[400:500]))
    assert found["quality_distance/overall"] < 3
    assert set(quality.reference) == {name.removeprefix("quality/") for name in found if name.startswith("quality/")}
    assert not any(name.startswith("music") for name in found)


@pytest.mark.skipif(find_spec("music21") is None, reason="music21 is not installed")
def test_tunes_are_measured_as_music_and_text() -> None:
    """Held-out tunes are valid and near, by both."""
    prepared = dataset.prepare(DatasetConfig(name="oneills"), block_size=8)
    quality = sample_quality.for_dataset(prepared, 300)
    found = quality.measure(prepared.tokenizer.decode(prepared.val[:3000]))
    assert found["music/valid_tunes"] > 0.8
    assert found["music/overall"] > 0.7
    assert found["quality_distance/overall"] < 6
    assert "music/repetition" in quality.reference
    assert "repetition" in quality.reference


@pytest.mark.skipif(find_spec("music21") is None, reason="music21 is not installed")
def test_one_tune_is_too_few_to_compare_with() -> None:
    """The error names the setting, in one line."""
    prepared = dataset.prepare(DatasetConfig(name="oneills", train_split=0.0005), block_size=8)
    with pytest.raises(UserError, match=r"^dataset\.train_split: given 0\.0005, .*; choose a larger one") as failure:
        sample_quality.for_dataset(prepared, 300)
    assert "\n" not in str(failure.value)


def test_prompts_and_lengths() -> None:
    """A tune may be as long as nearly all tunes and ends where its lines end; a text is as long as asked for."""
    assert sample_quality.tune(f"{sample_quality.BEGIN}K:G\nGAB|]\n\nX:1\nK:D\n") == "X:1\nK:G\nGAB|]\n\n"
    assert sample_quality.tune("X:1\nK:G\nGA") == "X:1\nK:G\nGA\n\n"
    assert sample_quality.tune("X:1\nK:G\nGA|\nX:2\nK:D\nDE|") == "X:1\nK:G\nGA|\n\n"
    assert sample_quality.tune("X:1\n\n") == sample_quality.tune("X:1\nX:1\n \n") == "X:1\n\n"
    assert sample_quality.length("oneills", 300) >= 600
    assert [sample_quality.length(*asked) for asked in (("oneills", 0), ("oneills", 2000), ("text", 300))] == [
        0,
        2000,
        300,
    ]
