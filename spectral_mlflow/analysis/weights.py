"""Directions in the space of a model's weights: random ones as long as its filters, and those of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Plane(NamedTuple):
    """Two orthonormal directions through the last of several weights.

    Attributes:
        directions: (2, N).
        coordinates: (S, 2), the weights projected onto the plane; the last are (0, 0).
        explained: share of the squared distances from the last weights along each direction (2,).
    """

    directions: Array
    coordinates: Array
    explained: Array


def flat(weights: Sequence[Array]) -> Array:
    """Weights of any shapes as one vector (N,)."""
    return np.concatenate([part.ravel() for part in weights])


def filter_normalised(weights: Sequence[Array], generator: np.random.Generator) -> list[Array]:
    """A random direction with, in every filter, the norm that the weights have there.

    ``d_i <- d_i ||w_i|| / ||d_i||`` for each row i of a matrix (of a table: a token; of a tensor with more dimensions:
    all that shares its first index). Weights with fewer than two dimensions, as those of norms, get none (Li et al.,
    Visualizing the loss landscape of neural nets, 2018, section 4).

    Args:
        weights: the tensors of a model.
        generator: of normal numbers, drawn in the order of the weights.
    """
    return [_normalised(part, generator) if part.ndim > 1 else np.zeros_like(part) for part in weights]


def _normalised(part: Array, generator: np.random.Generator) -> Array:
    direction = generator.standard_normal(part.shape)
    rows = direction.reshape(len(part), -1)
    wanted = np.linalg.norm(part.reshape(rows.shape), axis=1, keepdims=True)
    rows *= wanted / np.linalg.norm(rows, axis=1, keepdims=True)
    return direction


def principal_plane(path: Array) -> Plane:
    """The plane through the last weights that the others are nearest to.

    Principal components of ``w_s - w_S`` without subtracting their mean, so that the plane goes through the last
    weights (Li et al. 2018, section 7). The first weights have no negative coordinates.

    Args:
        path: (S, N), the weights of S >= 3 steps.
    """
    distances = path - path[-1]
    _, sizes, directions = np.linalg.svd(distances, full_matrices=False)
    directions = directions[:2]
    signs = np.where(distances[0] @ directions.T < 0, -1.0, 1.0)
    directions = directions * signs[:, None]
    total = float((sizes**2).sum()) or 1.0
    return Plane(directions, distances @ directions.T, sizes[:2] ** 2 / total)
