"""Figures for print: as wide as the text of a page, without titles, which the captions give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from spectral_mlflow.plots import style

WIDTH = 16 / 2.54  # Inches of a column of text.

_OF_MODELS = {"wave": 0, "standard": 1}
_WIDEST: ContextVar[float | None] = ContextVar("widest", default=None)


@contextmanager
def printed(width: float = WIDTH) -> Iterator[None]:
    """Inside, plots are drawn for print: light, at most so many inches wide, their notes in place of their titles."""
    before = _WIDEST.set(width)
    try:
        with style.light():
            yield
    finally:
        _WIDEST.reset(before)


def widest() -> float | None:
    """How wide a figure may be, in inches; None on a screen."""
    return _WIDEST.get()


def colors(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label: ``wave`` and ``standard`` have the same one in all figures."""
    lines = style.palette().lines
    free = [place for place in range(len(lines)) if place not in {_OF_MODELS.get(label) for label in labels}]
    others = [label for label in labels if label not in _OF_MODELS]
    chosen = {label: free[place % len(free)] for place, label in enumerate(others)} | _OF_MODELS
    return {label: lines[chosen[label]] for label in labels}
