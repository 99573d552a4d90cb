"""Arrays before they are drawn: what can be shown, thinned and smoothed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectral_mlflow.errors import UserError

Array = NDArray[np.float64]
Series = tuple[Array, Array]
_Label = TypeVar("_Label")

LARGEST = 1e38  # About where float32 ends, as 1 / LARGEST does below; an axis further out shows nothing.
MOST_POINTS = 2400  # More than a figure has pixels across.


def array(values: ArrayLike, axes: str) -> Array:
    """Values as float64, None as NaN, what is beyond float32 as an infinity or as zero.

    Args:
        values: anything that numpy takes.
        axes: one letter a dimension, for the message.

    Raises:
        UserError: another number of dimensions.
    """
    result = np.array(values, dtype=np.float64)
    if result.ndim != len(axes) and result.size:
        wanted = ", ".join(axes)
        raise UserError(f"plot: given an array of shape {result.shape}; allowed: ({wanted}), one dimension a letter")
    result = result.reshape((0,) * len(axes)) if result.ndim != len(axes) else result
    with np.errstate(invalid="ignore"):
        far, near = np.abs(result) > LARGEST, np.abs(result) < 1 / LARGEST
    result[far] = np.copysign(np.inf, result[far])
    result[near] = 0
    return result


def series(steps: ArrayLike, values: ArrayLike) -> Series:
    """Steps (n,) and values (n,) in the order of the steps; points without a step are left out.

    Raises:
        UserError: the lengths differ.
    """
    x, y = array(steps, "n"), array(values, "n")
    if x.size != y.size:
        raise UserError(f"plot: given {x.size} steps for {y.size} values; allowed: one step a value")
    place = np.flatnonzero(np.isfinite(x))
    place = place[np.argsort(x[place], kind="stable")]
    return x[place], y[place]


def in_order(steps: Array) -> NDArray[np.intp]:
    """Places of the steps (S,) in rising order: of equal ones the last, none of those that are not finite."""
    last = {float(step): place for place, step in enumerate(steps) if np.isfinite(step)}
    return np.array([last[step] for step in sorted(last)], dtype=np.intp)


def finite(points: Series) -> Series:
    """The points whose values can be drawn."""
    steps, values = points
    good = np.isfinite(values)
    return steps[good], values[good]


def drawable(points: Series, *, log: bool) -> Series:
    """The points that have a place on a scale: a logarithmic one has none for zero and below."""
    steps, values = finite(points)
    good = (values > 0) | (not log)
    return steps[good], values[good]


def beginning(values: Array, limit: float) -> NDArray[np.bool_]:
    """Of values that begin beyond a limit, those until they stay within it for a hundredth of their number."""
    beyond = np.flatnonzero(~(values <= limit))
    near = np.diff(beyond, prepend=-1) <= values.size // 100 + 1
    near[:1] = beyond[:1] == 0
    first = beyond[: np.logical_and.accumulate(near).sum()]
    return np.asarray(np.arange(values.size) <= (first[-1] if first.size else -1))


def thin(points: Series, most: int = MOST_POINTS) -> Series:
    """At most so many points: of every bucket the smallest and the largest, so that no spike is lost."""
    steps, values = points
    if values.size <= most:
        return points
    edges = np.linspace(0, values.size, most // 2 + 1).astype(int)[:-1]
    bucket = np.repeat(np.arange(edges.size), np.diff(edges, append=values.size))
    firsts = [
        _firsts(values == extreme.reduceat(values, edges)[bucket], bucket) for extreme in (np.minimum, np.maximum)
    ]
    place = np.union1d(*firsts)
    return steps[place], values[place]


def _firsts(chosen: NDArray[np.bool_], bucket: NDArray[np.intp]) -> NDArray[np.intp]:
    """The first chosen place in every bucket."""
    places = np.flatnonzero(chosen)
    return places[np.unique(bucket[places], return_index=True)[1]]


def smooth(values: Array, width: int) -> Array:
    """Centred triangular mean over finite values (n,); at the ends over those that there are.

    Args:
        values: finite values.
        width: points that the mean reaches to either side; 0 changes nothing.
    """
    reach = min(width, values.size - 1)
    if reach < 1:
        return values
    weights = np.bartlett(2 * reach + 3)[1:-1]
    total = _convolve(values, weights)
    # Rounding of the FFT is as large as the largest value, which may be far above others.
    return np.clip(total / _convolve(np.ones_like(values), weights), values.min(), values.max())


def _convolve(values: Array, weights: Array) -> Array:
    """Convolution of equal length by FFT: direct sums take seconds for long runs."""
    size = values.size + weights.size - 1
    scale = np.abs(values).max()
    spectrum = np.fft.rfft(values / scale if scale > 0 else values, size) * np.fft.rfft(weights, size)
    full = np.fft.irfft(spectrum, size)
    start = weights.size // 2
    return np.asarray(full[start : start + values.size] * (scale if scale > 0 else 1.0))


def together(seeds: Sequence[Series], most: int | None = None) -> tuple[Array, Array]:
    """All seeds (S, n) at the places (n,) that every one of them covers; without such places, the longest seed alone.

    Args:
        seeds: places and values of each, in the order of the places.
        most: take so many places, evenly spaced, where the seeds together have more; None: all of them.
    """
    first, last = max(steps[0] for steps, _ in seeds), min(steps[-1] for steps, _ in seeds)
    if first > last:
        steps, values = max(seeds, key=lambda seed: seed[0].size)
        return steps, values[None]
    grid = np.unique(np.concatenate([steps for steps, _ in seeds]))
    grid = grid[(grid >= first) & (grid <= last)]
    if most is not None and grid.size > most:
        grid = np.linspace(first, last, most)
    return grid, np.stack([np.interp(grid, steps, values) for steps, values in seeds])


def quantiles(values: Array, shares: Array) -> Array:
    """Quantiles (R, W) of the finite values in every column of (V, W), NaN where there are none."""
    columns = [column[np.isfinite(column)] for column in values.T]
    none = np.full(shares.size, np.nan)
    return np.stack([np.quantile(c, shares, method="nearest") if c.size else none for c in columns], axis=1)


def mean(values: Array, axis: int) -> Array:
    """Mean of the finite values along an axis, NaN where there are none."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis) / known.sum(axis))


def names(labels: Sequence[_Label], count: int) -> list[_Label]:
    """One label for each of so many things.

    Raises:
        UserError: another number of labels.
    """
    if len(labels) != count:
        raise UserError(f"plot: given {len(labels)} labels for {count} rows; allowed: one label a row")
    return list(labels)
