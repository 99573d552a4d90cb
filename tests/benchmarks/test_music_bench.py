"""The program that asks whether the quality of music tells tunes from noise, at toy sizes."""

import json
import math
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import music
from benchmarks.fake_tunes import makers, parts
from spectral_mlflow.monitoring.music.abc import parse
from spectral_mlflow.monitoring.music.metrics import Melody

ROOT = Path(__file__).parent.parent.parent
TUNE = "X:1\nM:4/4\nL:1/8\nK:C\nCDEF GABc | c4 G4 | CDEF GABc | c4 C4 |]\n"


@pytest.mark.skipif(find_spec("music21") is None, reason="music21 is not installed")
def test_the_program_at_toy_sizes(tmp_path: Path) -> None:
    """Every kind of fake has a row in each table, and an AUC for ours and for what others use."""
    found = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.music", "--toy", "--rounds", "1", "--threads", "1", "--json", str(found)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    separations, alone, valid = json.loads(found.read_text())["tables"]
    kinds = list(makers([TUNE] * 2))
    assert [row[0] for row in separations["rows"]] == [row[0] for row in alone["rows"]] == kinds
    assert [row[0] for row in valid["rows"]] == ["real", *kinds]
    for _, *values, reached in separations["rows"]:
        assert all(0 <= value <= 1 for value in values)
        assert reached == ("yes" if values[0] >= music.WANTED else "NO")


def test_fakes_keep_what_they_promise() -> None:
    """The header always; rhythm and bars where only pitches are changed; and the same one from the same chance."""
    for name, make in makers([TUNE] * 40).items():
        fake = make(TUNE, random.Random(1))
        assert fake == make(TUNE, random.Random(1))
        assert parts(fake)[0] == parts(TUNE)[0]
        if "rhythm" in name or name == "its pitches shuffled":
            assert [note.length for note in parse(fake).notes] == [note.length for note in parse(TUNE).notes]
    shuffled = makers([TUNE])["its pitches shuffled"](TUNE, random.Random(1))
    assert sorted(shuffled) == sorted(TUNE)
    assert shuffled != TUNE


def test_auc() -> None:
    """1 where all are higher, a half where all are equal; what does not parse is below everything."""
    assert music.auc([2, 3], [0, 1]) == 1
    assert music.auc([1, 1], [1, 1]) == 0.5
    assert music.separation([0.0, 1.0], [2.0, 3.0], either_way=True) == 1
    assert music.separation([0.0, 1.0], [2.0, 3.0], either_way=False) == 0
    assert music.separation([0.0, 1.0], [None, None], either_way=True) == 1


def test_what_others_measure() -> None:
    """Their definitions, by hand."""
    melody = Melody.of(parse(TUNE))
    shares = [count / 20 for count in (7, 2, 2, 2, 3, 2, 2)]
    assert music.pitch_class_entropy(melody) == pytest.approx(-sum(share * math.log2(share) for share in shares))
    assert music.scale_consistency(melody) == 1
    assert music.groove_consistency(melody) == pytest.approx(1 - 6 / 16)
