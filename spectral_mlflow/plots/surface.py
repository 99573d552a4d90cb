"""What is drawn of a loss around the weights of a model: values on a grid, and a path through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectral_mlflow.plots.series import Array

MOST = 0.97  # Share of the losses of a grid that is shown: the highest ones are far above all others.


@dataclass(frozen=True)
class Surface:
    """Losses on a plane through trained weights, spanned by two random directions.

    Attributes:
        across: places along the first direction (n,), 0 at the weights.
        along: places along the second direction (m,).
        losses: (m, n), in nats per token; not finite where the model gives no finite logits.
        center: loss at the weights themselves.
        tokens: how many tokens each value is a mean over.
    """

    across: Array
    along: Array
    losses: Array
    center: float
    tokens: int


@dataclass(frozen=True)
class Descent:
    """The path of a training in the plane of its first two principal directions, and the losses on that plane.

    Attributes:
        surface: losses; its origin are the last weights, its units those of the weights.
        path: (S, 2), the weights of S steps projected onto the plane, the last at the origin.
        steps: (S,), numbers of optimizer steps done.
        explained: share of the squared distances from the last weights that lies along each direction (2,).
        losses: (S,), of the weights themselves, which lie off the plane.
    """

    surface: Surface
    path: Array
    steps: Sequence[int]
    explained: Sequence[float]
    losses: Array


def limits(losses: Sequence[Array]) -> tuple[float, float]:
    """The lowest of several grids of losses, and one that nearly all are below; those that are not finite do not count.

    Args:
        losses: of each grid, of any shape.
    """
    known = np.concatenate([values[np.isfinite(values)] for values in losses] or [np.empty(0)])
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(np.quantile(known, MOST))
    return low, max(high, low + 1e-6)
