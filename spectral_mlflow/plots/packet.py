"""The mathematics of wave packets: their single waves, their sums, and how two of them interfere."""

from __future__ import annotations

import numpy as np

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots.series import Array

TURN = 2 * np.pi
FINE = 8  # Points of a curve between two positions.


def fine(positions: int) -> Array:
    """Positions, and points between them for a smooth curve."""
    return np.arange(max(1, positions - 1) * FINE + 1) / FINE


def single_waves(f: Array, phi: Array, A: Array, gamma: Array, p: Array) -> Array:
    """Every wave of every token over positions p: (N, W, P), by the sum over harmonics S and C.

    Raises:
        UserError: shapes that do not go together.
    """
    if not (f.shape == phi.shape == A.shape[:2] and f.shape[1:] == gamma.shape):
        given = f"f {f.shape}, phi {phi.shape}, A {A.shape}, gamma {gamma.shape}"
        raise UserError(f"wave packets: given {given}; allowed: (N, W), (N, W), (N, W, H), (W,)")
    with np.errstate(invalid="ignore"):
        theta = TURN * f[..., None] * np.arange(1, A.shape[2] + 1) + phi[..., None]
        sines, cosines = (A * np.sin(theta)).sum(2), (A * np.cos(theta)).sum(2)
        turned = gamma[:, None] * p
        return np.asarray((sines + cosines)[..., None] * np.cos(turned) + (cosines - sines)[..., None] * np.sin(turned))


def packets(waves: Array) -> Array:
    """Single waves (N, W, P) summed to packets (N, P): without those that are not finite, NaN where none is left."""
    known = np.isfinite(waves)
    return np.where(known.any(1), np.where(known, waves, 0).sum(1), np.nan)


def apart(waves: Array) -> Array:
    """Single waves (N, W, P) with zeros for those that are not finite, NaN for a token that has no others."""
    known = np.isfinite(waves)
    return np.where(known.any((1, 2), keepdims=True), np.where(known, waves, 0), np.nan)


def interference(waves: Array) -> Array:
    """How much the single waves (N, W, P) of each two tokens strengthen or cancel each other: (N, N).

    ``I_ij = 2 <s_i, s_j> / (|s_i|^2 + |s_j|^2)`` over all waves and positions: the share by which the energy of both
    together exceeds their energies, ``|s_i + s_j|^2 = (1 + I_ij) (|s_i|^2 + |s_j|^2)``, after the interference term
    ``2 s_1 s_2`` of two-beam interference (Born and Wolf, Principles of Optics, 1999, section 7.2). A wave meets only
    the same wave of the other token: each has a direction of its own in the embedding, and these are nearly
    orthogonal. 1: both are the same; 0: their energies add up; -1: nothing is left of them. NaN where both are zero or
    not known.
    """
    known = apart(waves).reshape(len(waves), waves.shape[1] * waves.shape[2])
    unit = np.abs(known[np.isfinite(known)]).max(initial=0) or 1.0  # Squares of what is very large or small.
    scaled = known / unit
    products = scaled @ scaled.T
    energy = np.diag(products)
    both = energy[:, None] + energy
    with np.errstate(invalid="ignore"):
        return np.clip(np.where(both > 0, 2 * products, np.nan) / np.where(both > 0, both, 1), -1, 1)


def telling_pairs(matrix: Array) -> list[tuple[int, int]]:
    """Of a matrix (N, N), the pairs that strengthen most, that interfere least and that cancel most, without repeats.

    A pair is given as (smaller, larger); pairs of unknown interference are none.
    """
    rows, columns = np.triu_indices(len(matrix), 1)
    values = matrix[rows, columns]
    known = np.flatnonzero(np.isfinite(values))
    if not known.size:
        return []
    values = values[known]
    places = dict.fromkeys(int(known[place]) for place in (values.argmax(), np.abs(values).argmin(), values.argmin()))
    return [(int(rows[place]), int(columns[place])) for place in places]
