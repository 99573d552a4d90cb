"""The loss around trained weights: directions, planes, and what is kept of them."""

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from spectral_mlflow.analysis import forward_pass, kept, landscape
from spectral_mlflow.analysis.trained import Missing, Trained
from spectral_mlflow.analysis.weights import filter_normalised, principal_plane
from spectral_mlflow.plots.passage import Passage, Spelling
from spectral_mlflow.plots.surface import Descent, Surface, limits
from spectral_mlflow.settings import build
from spectral_mlflow.training import runner

TINY = {
    "model.d_model": "8", "model.num_layers": "2", "model.num_heads": "2", "model.block_size": "8",
    "training.steps": "3", "training.batch_size": "2", "dataset.name": "text", "runtime.device": "cpu",
    "runtime.threads": "1", "monitoring.checkpoint_interval": "1", "monitoring.keep_every": "1",
    "monitoring.viz_interval": "0", "monitoring.system_interval": "0", "monitoring.stores": "none",
    "monitoring.code_snapshot": "false",
}  # fmt: skip
SHAPES = st.lists(st.sampled_from([(3,), (), (2, 4), (3, 2, 2), (1, 1)]), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps with a checkpoint of each; nobody writes to it."""
    folder = tmp_path_factory.mktemp("landscape")
    (folder / "text.txt").write_text("the cat sat on the mat, and the dog did not. " * 20)
    places = {"dataset.path": str(folder / "text.txt"), "monitoring.experiments_dir": str(folder / "experiments")}
    return runner.start(build({**TINY, **places})).run_dir


@given(shapes=SHAPES, seed=st.integers(0, 99))
def test_directions_are_as_long_as_the_filters(shapes: list[tuple[int, ...]], seed: int) -> None:
    """Row by row a direction is the literal d_i ||w_i|| / ||d_i||, and nothing where there are no rows."""
    weights = [np.random.default_rng(seed).normal(size=shape) * 3 for shape in shapes]
    found = filter_normalised(weights, np.random.default_rng(seed + 1))
    generator = np.random.default_rng(seed + 1)
    for part, direction in zip(weights, found, strict=True):
        wanted = np.zeros_like(part)
        if part.ndim > 1:
            drawn = generator.standard_normal(part.shape)
            for row in range(len(part)):
                length = np.sqrt((part[row] ** 2).sum()) / np.sqrt((drawn[row] ** 2).sum())
                wanted[row] = drawn[row] * length
        np.testing.assert_allclose(direction, wanted, rtol=1e-12)


@given(seed=st.integers(0, 99), steps=st.integers(3, 6))
def test_the_plane_is_that_of_the_principal_components(seed: int, steps: int) -> None:
    """Directions, shares and coordinates are those of the eigenvectors of the distances' second moments."""
    path = np.random.default_rng(seed).normal(size=(steps, 9)).cumsum(0)
    plane = principal_plane(path)
    distances = path - path[-1]
    values, vectors = np.linalg.eigh(distances.T @ distances)
    np.testing.assert_allclose(plane.explained, values[::-1][:2] / values.sum(), rtol=1e-8)
    np.testing.assert_allclose(np.abs(plane.coordinates), np.abs(distances @ vectors[:, ::-1][:, :2]), atol=1e-8)
    np.testing.assert_allclose(plane.directions @ plane.directions.T, np.eye(2), atol=1e-12)
    assert (plane.coordinates[0] >= 0).all()
    assert plane.coordinates[-1].tolist() == [0, 0]


def test_a_path_that_does_not_move_has_a_plane() -> None:
    """Weights that never change lie at the origin, and nothing is explained."""
    plane = principal_plane(np.ones((3, 5)))
    assert not plane.coordinates.any()
    assert plane.explained.tolist() == [0, 0]


def test_the_middle_of_a_surface_is_the_loss_of_the_checkpoint(run: Path) -> None:
    """It is the cross-entropy of the newest checkpoint on the windows, which are all tokens where all are taken."""
    found = landscape.surface(run, size=3, windows=1000)
    assert isinstance(found, Surface)
    trained = Trained(run)
    model, (inputs, targets) = trained.model(trained.newest()), trained.windows(1000)
    with torch.no_grad():
        wanted = float(F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()))
    assert found.losses[1, 1] == found.center == pytest.approx(wanted, abs=1e-6)
    assert found.tokens == targets.numel() == (len(trained.dataset.val) - 1) // 8 * 8
    assert len(np.unique(found.losses)) == 9


def test_a_surface_is_the_same_every_time(run: Path) -> None:
    """Twice the same arrays, other ones for another seed of the directions, and progress is told to its end."""
    told: list[tuple[int, int]] = []
    first = landscape.surface(run, size=3, windows=2, told=lambda done, total: told.append((done, total)))
    second, other = (landscape.surface(run, size=3, windows=2, seed=seed) for seed in (0, 1))
    assert isinstance(first, Surface)
    assert isinstance(second, Surface)
    assert isinstance(other, Surface)
    np.testing.assert_array_equal(first.losses, second.losses)
    assert (first.losses != other.losses).any()
    assert told == [(done, 9) for done in range(1, 10)]


def test_a_descent_goes_from_the_first_weights_to_the_last(run: Path) -> None:
    """Its steps are 0 and those of the checkpoints, the plane holds the path, and ends with the checkpoint's loss."""
    found = landscape.descent(run, size=3, windows=2)
    assert isinstance(found, Descent)
    assert list(found.steps) == [0, 1, 2, 3]
    assert found.losses[-1] == found.surface.center
    assert found.path[-1].tolist() == [0, 0]
    assert 0 < sum(found.explained) <= 1 + 1e-12
    across, along = found.path.T
    assert found.surface.across[0] < across.min() < across.max() < found.surface.across[-1]
    assert found.surface.along[0] < along.min() < along.max() < found.surface.along[-1]


@pytest.mark.parametrize("size", [1, 4])
def test_a_grid_has_a_middle(run: Path, size: int) -> None:
    """A surface without a point for the weights themselves is refused."""
    with pytest.raises(ValueError, match="odd number"):
        landscape.surface(run, size=size)


def test_what_is_missing_is_said(run: Path, tmp_path: Path) -> None:
    """No run, no checkpoint, too few, or a damaged one: a sentence, and no error."""
    poor = Path(shutil.copytree(run, tmp_path / "poor", symlinks=True))
    assert isinstance(landscape.surface(tmp_path / "gone"), Missing)
    for path in sorted((poor / "checkpoints").glob("checkpoint_step_*.pt"))[1:]:
        path.unlink()
    lacking = landscape.descent(poor)
    assert isinstance(lacking, Missing)
    assert "monitoring.keep_every" in lacking.what
    last = next((poor / "checkpoints").glob("checkpoint_step_*.pt"))
    content = bytearray(last.read_bytes())
    content[1000] ^= 1
    last.write_bytes(content)
    damaged = landscape.surface(poor)
    assert isinstance(damaged, Missing)
    assert last.name in damaged.what
    last.unlink()
    without = landscape.surface(poor)
    assert isinstance(without, Missing)
    assert "no checkpoint" in without.what


def test_what_is_kept_needs_no_checkpoint(run: Path, tmp_path: Path) -> None:
    """The same arrays again where the checkpoints, or the whole run, are gone; other options are computed anew."""
    copy = Path(shutil.copytree(run, tmp_path / run.name, symlinks=True))
    surface, descent = (find(copy, tmp_path, size=3, windows=2) for find in (kept.surface, kept.descent))
    passage, spelling = kept.passage(copy, tmp_path, tokens=6), kept.spelling(copy, tmp_path, "cat")
    shutil.rmtree(copy)
    for before, again in (
        (surface, kept.surface(copy, tmp_path, size=3, windows=2)),
        (descent, kept.descent(copy, tmp_path, size=3, windows=2)),
        (passage, kept.passage(copy, tmp_path, tokens=6)),
        (spelling, kept.spelling(copy, tmp_path, "cat")),
    ):
        assert not isinstance(before, Missing)
        assert not isinstance(again, Missing)
        np.testing.assert_equal(asdict(before), asdict(again))
    assert isinstance(kept.surface(copy, tmp_path, size=5, windows=2), Missing)


def test_what_is_kept_of_other_checkpoints_is_computed_again(run: Path, tmp_path: Path) -> None:
    """A run with another newest checkpoint gets a surface of its own; so does one whose file is damaged."""
    copy = Path(shutil.copytree(run, tmp_path / run.name, symlinks=True))
    first = kept.surface(copy, tmp_path, size=3, windows=2)
    (copy / "checkpoints" / "checkpoint_step_3.pt").unlink()
    second = kept.surface(copy, tmp_path, size=3, windows=2)
    assert isinstance(first, Surface)
    assert isinstance(second, Surface)
    assert first.center != second.center
    (tmp_path / f"surface_{run.name}.npz").write_bytes(b"no archive")
    again = kept.surface(copy, tmp_path, size=3, windows=2)
    assert isinstance(again, Surface)
    np.testing.assert_equal(asdict(again), asdict(second))


def test_a_passage_is_what_the_model_does(run: Path) -> None:
    """Guesses and loss are those of the model, weights sum to one, and the last stream gives the logits."""
    found = forward_pass.follow(run, text="the cat")
    assert isinstance(found, Passage)
    trained = Trained(run)
    model = trained.model(trained.newest())
    ids = torch.from_numpy(trained.dataset.tokenizer.encode("the cat")).long()
    with torch.no_grad():
        logits = model(ids[None])[0]
        again = model.head(model.norm(torch.from_numpy(found.stream[-1]).float()))
    assert "".join(found.tokens) == "the cat"
    assert found.loss == pytest.approx(float(F.cross_entropy(logits[:-1], ids[1:])), abs=1e-6)
    np.testing.assert_allclose(again, logits, atol=1e-5)
    np.testing.assert_allclose(found.attention.sum(-1), 1, atol=1e-6)
    assert found.guesses[0] == trained.dataset.tokenizer.decode([int(logits[-1].argmax())])
    assert found.chances[0] == pytest.approx(float(logits[-1].softmax(-1).max()), abs=1e-6)


def test_a_word_is_spelt_in_its_own_rows(run: Path) -> None:
    """The rows of the tables are those of the word's tokens; unknown letters and single ones to follow are said."""
    found = forward_pass.spell(run, "tat")
    assert isinstance(found, Spelling)
    assert list(found.tokens) == ["t", "a", "t"]
    np.testing.assert_array_equal(found.frequencies[0], found.frequencies[2])
    assert (found.lookup[0] != found.lookup[1]).any()
    assert isinstance(forward_pass.spell(run, "☃"), Missing)
    assert isinstance(forward_pass.follow(run, text="t"), Missing)


def test_the_scale_leaves_out_what_is_not_finite() -> None:
    """Infinite losses do not move the scale, and a flat surface has one too."""
    low, high = limits([np.array([1.0, 2.0, np.inf]), np.array([np.nan])])
    assert (low, round(high, 2)) == (1.0, 1.97)
    assert limits([]) == (0.0, 1.0)
    assert limits([np.ones(3)])[1] > 1
