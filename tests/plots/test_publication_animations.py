"""Animations: the same bytes every time, and every frame in them."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots import animation, forward_pass, two_waves
from spectral_mlflow.plots.passage import Passage


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    """Written twice, an animation is the same file; it has all frames and does not end."""
    first, second = (animation.write(two_waves.frames(3), tmp_path / f"{n}.gif", hold=500) for n in range(2))
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as picture:
        assert picture.n_frames == 3
        assert picture.info["loop"] == 0
        picture.seek(2)
        assert picture.info["duration"] == 580


@pytest.mark.parametrize(("name", "count"), [("a.png", 1), ("a.gif", 0)])
def test_what_cannot_be_written_is_refused(tmp_path: Path, name: str, count: int) -> None:
    """Another suffix, or no frame at all, is an error that says what is allowed; nothing is written."""
    with pytest.raises(UserError, match="allowed"):
        animation.write([Figure((1, 1))] * count, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_models_of_different_depth_walk_together() -> None:
    """There is a frame for each stage that all models have, tokens and the next token among them."""

    def passage(layers: int) -> Passage:
        weights = np.tril(np.ones((layers, 1, 2, 2)))
        return Passage(
            ["a", "b"], np.ones((layers + 1, 2, 4)), weights, np.ones((layers, 2, 8)), ["a"], np.ones(1), 1.0
        )

    frames = list(forward_pass.frames({"standard": passage(1), "wave": passage(2)}))
    assert len(frames) == 5
    assert not list(forward_pass.frames({}))
