"""The loss around trained weights, and in the plane of a training's own path (Li et al. 2018).

Li, Xu, Taylor, Studer and Goldstein: Visualizing the loss landscape of neural nets, NeurIPS 2018. All losses are plain
cross-entropy over the same few windows of the validation split, so that they can be compared with each other; with
all windows they are validation losses.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from spectral_mlflow.analysis.trained import Losses, Missing, MissingError, Trained, attempt, weights_of
from spectral_mlflow.analysis.weights import Array, filter_normalised, flat, principal_plane
from spectral_mlflow.plots.surface import Descent, Surface

SIZE = 21  # Points along each side of a grid.
WINDOWS = 16
REACH = 1.0  # How far a surface goes, in lengths of the weights' filters.
MARGIN = 0.2  # Around a path, as a share of its extent.
FEWEST = 3  # Weights that a plane takes, the first and the last among them.

Told = Callable[[int, int], None]


def surface(
    run_dir: str | Path,
    *,
    size: int = SIZE,
    windows: int = WINDOWS,
    reach: float = REACH,
    seed: int = 0,
    told: Told | None = None,
) -> Surface | Missing:
    """Losses around the newest checkpoint of a run, on a plane of two filter-normalised random directions.

    Args:
        run_dir: directory of the run.
        size: points along each side, odd, so that the weights themselves are one of them.
        windows: windows of the validation split that a loss is a mean over.
        reach: how far to go from the weights, to either side; 1: as long as they are.
        seed: of the directions.
        told: how many points are done, and of how many, after each.

    Returns:
        The surface, or what is missing for it.

    Raises:
        ValueError: a size that is even or below 3.
    """
    if size < 3 or size % 2 == 0:
        raise ValueError(f"a grid has an odd number of points from 3 on along each side, given {size}")
    return attempt(lambda: _surface(Trained(run_dir), size, windows, reach, seed, told or _silent))


def descent(
    run_dir: str | Path, *, size: int = SIZE, windows: int = WINDOWS, told: Told | None = None
) -> Descent | Missing:
    """The path of a training from its initial weights over its checkpoints, in the plane of its principal directions.

    Args:
        run_dir: directory of the run.
        size: points along each side of the grid of losses.
        windows: windows of the validation split that a loss is a mean over.
        told: how many points are done, and of how many, after each.

    Returns:
        The path with the losses around it, or what is missing for it.
    """
    return attempt(lambda: _descent(Trained(run_dir), size, windows, told or _silent))


def _silent(done: int, total: int) -> None:
    """Tell nobody."""


def _surface(run: Trained, size: int, windows: int, reach: float, seed: int, told: Told) -> Surface:
    model = run.model(run.newest())
    weights = weights_of(model)
    generator = np.random.default_rng(seed)
    directions = np.stack([flat(filter_normalised(weights, generator)) for _ in range(2)])
    losses = Losses(model, run.windows(windows))
    axis = np.linspace(-reach, reach, size)
    axis[size // 2] = 0.0
    return _grid(losses, flat(weights), directions, (axis, axis), told)


def _descent(run: Trained, size: int, windows: int, told: Told) -> Descent:
    checkpoints = [checkpoint for checkpoint in run.checkpoints if checkpoint.step > 0]
    if len(checkpoints) + 1 < FEWEST:
        raise MissingError(
            f"run {run.run_dir.name} has {len(checkpoints)} checkpoints, its path takes {FEWEST - 1} or more; "
            "train with monitoring.keep_every"
        )
    models = [run.initial(), *map(run.model, checkpoints)]
    path = np.stack([flat(weights_of(model)) for model in models])
    plane = principal_plane(path)
    losses = Losses(models[-1], run.windows(windows))
    own = np.array([losses(weights) for weights in path])
    axes = _axis(plane.coordinates[:, 0], size), _axis(plane.coordinates[:, 1], size)
    found = _grid(losses, path[-1], plane.directions, axes, told)
    steps = [0, *(checkpoint.step for checkpoint in checkpoints)]
    return Descent(found, plane.coordinates, steps, tuple(plane.explained.tolist()), own)


def _axis(coordinates: Array, size: int) -> Array:
    """Places along a direction that hold the path with some room around it."""
    low, high = float(coordinates.min()), float(coordinates.max())
    room = MARGIN * (high - low) or 1.0
    return np.linspace(low - room, high + room, size)


def _grid(losses: Losses, origin: Array, directions: Array, axes: tuple[Array, Array], told: Told) -> Surface:
    """Losses at ``origin + a d_1 + b d_2`` for all places a (n,) and b (m,)."""
    across, along = axes
    found = np.empty((along.size, across.size))
    for done, (row, column) in enumerate(np.ndindex(found.shape), 1):
        found[row, column] = losses(origin + across[column] * directions[0] + along[row] * directions[1])
        told(done, found.size)
    return Surface(across, along, found, losses(origin), losses.tokens)
