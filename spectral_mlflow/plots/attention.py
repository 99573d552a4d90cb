"""What the heads of a model attend to, and how their phases agree: a map for each layer and head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots import ink, page, style, wording
from spectral_mlflow.plots.heat import color_scale, heat
from spectral_mlflow.plots.series import Array, array, mean, names

MOST_LAYERS = MOST_HEADS = 8
MOST_PRINTED = 2  # Layers.
GAP = 0.06  # Between two maps, as a share of one.
LABEL = 8.0  # Size of a token's label in points,
SMALLEST = 0.15  # and the inches that it needs.
NARROWEST = 5.6  # Inches that the title needs from the first map on.
NUMBERED = 4  # Tokens from which on a map has room for a number.
SHARPEST = 32  # Pixels that a map has at least.


class Look(NamedTuple):
    """What tells one kind of map from another: title, what a value is, its curve to colours, and a head in a number."""

    title: str
    value: str
    shown: Callable[[Array], Array]
    summary: str
    of_head: Callable[[Array], Array]


@style.house_style
def attention_maps(
    weights: ArrayLike,
    labels: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    of: tuple[int, int] | None = None,
) -> Figure:
    """How much each token attends to those before it, by layer and head, with the mean entropy of each head.

    The colours follow the square root of a weight: a token that looks at fifty others evenly is still seen. The entropy
    of a row is ``-sum_j a_ij ln a_ij``, 0 where a token attends to one other alone, ln(i + 1) where to all evenly.

    Args:
        weights: (L, H, T, T), of each layer and head the weights of query i (row) for key j <= i; what lies above the
            diagonal is not looked at. Of more than eight layers or heads, eight evenly chosen ones are drawn.
        labels: T texts, the tokens.
        layers: their numbers, from 1; by default 1 to L.
        heads: their numbers, from 1; by default 1 to H.
        of: how many layers and heads the model has, where those given are chosen from it.

    Raises:
        UserError: shapes or labels that do not go together.
    """
    look = Look("Attention maps", "weight (square-root scale)", _root, "mean entropy in nats", entropy)
    return _maps(array(weights, "LHTT"), labels, look, (layers, heads), of)


@style.house_style
def phase_coherence(
    coherence: ArrayLike,
    labels: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    of: tuple[int, int] | None = None,
) -> Figure:
    """How far the phases of queries and keys agree, by layer and head, with the mean of each head.

    The coherence of query i and key j is ``|mean_w exp(i (phi_q[i,w] - phi_k[j,w]))|``: 1 where all waves are the same
    angle apart, near 0 where the angles have nothing to do with each other.

    Args:
        coherence: (L, H, T, T), for each layer and head, query (row) and key j <= i; what lies above the diagonal is
            not looked at. Of more than eight layers or heads, eight evenly chosen ones are drawn.
        labels: T texts, the tokens.
        layers: their numbers, from 1; by default 1 to L.
        heads: their numbers, from 1; by default 1 to H.
        of: how many layers and heads the model has, where those given are chosen from it.

    Raises:
        UserError: shapes or labels that do not go together.
    """
    look = Look("Phase coherence", "coherence", np.asarray, "mean of a head", coherence_of_head)
    return _maps(array(coherence, "LHTT"), labels, look, (layers, heads), of)


def _root(values: Array) -> Array:
    return np.sqrt(np.clip(values, 0, None))  # Weights are not negative; what a caller gives may be.


def entropy(maps: Array) -> Array:
    """Mean entropy in nats of the rows of each map (..., T, T) that have finite values; NaN above the diagonal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(maps > 0, -maps * np.log(maps), np.where(maps == 0, 0, np.nan))
    known = np.isfinite(terms)
    rows = np.where(known.any(-1), np.where(known, terms, 0).sum(-1), np.nan)
    return mean(rows, -1)


def coherence_of_head(maps: Array) -> Array:
    """Mean of each map (..., T, T) over what each token sees; NaN above the diagonal."""
    return mean(maps.reshape(*maps.shape[:-2], -1), -1)


def _maps(
    values: Array,
    labels: Sequence[str],
    look: Look,
    numbers: tuple[Sequence[int] | None, Sequence[int] | None],
    of: tuple[int, int] | None,
) -> Figure:
    layers, heads, size, keys = values.shape
    if size != keys:
        raise UserError(f"plot: given maps of shape ({size}, {keys}); allowed: (T, T), a row and a column a token")
    tokens = [wording.token(label) for label in names(labels, size)]
    numbered = [
        names(range(1, count + 1) if known is None else known, count)
        for known, count in zip(numbers, (layers, heads), strict=True)
    ]
    seen = np.tril(np.ones((size, size), dtype=bool))
    if not np.isfinite(values[..., seen]).any():
        return ink.empty(look.title, "no finite values" if values.size else "no data yet")
    broken = int((~np.isfinite(values[..., seen])).sum())
    maps = np.where(seen & np.isfinite(values), values, np.nan)
    rows = evenly(layers, MOST_LAYERS if page.widest() is None else MOST_PRINTED)
    columns = evenly(heads, MOST_HEADS)
    shown = maps[np.ix_(rows, columns)]
    given = (
        wording.some(len(chosen), most) for chosen, most in zip((rows, columns), of or (layers, heads), strict=True)
    )
    note = wording.counts(zip((*given, size), ("layer", "head", "token"), strict=True))
    note += f" · {broken:,} not finite" if broken else ""
    named = [f"layer {numbered[0][row]}" for row in rows], [f"head {numbered[1][column]}" for column in columns]
    return _figure(shown, *named, tokens, look, note)


def _figure(maps: Array, rows: list[str], columns: list[str], tokens: list[str], look: Look, note: str) -> Figure:
    side = float(np.clip((page.widest() or 8.2) - 1.8, 1.0, 6.4)) / max(len(rows), len(columns))
    side = float(np.clip(side, 1.0, 3.8))
    named = side * (1 - GAP) / len(tokens) >= SMALLEST
    longest = max(wording.width(token, LABEL) for token in tokens) + 0.08 if named else 0.0
    left, right, top, bottom = 0.75 + longest, 1.0, 1.05, 0.45 + longest
    right = max(right, NARROWEST - len(columns) * side)
    figure = ink.new(len(columns) * side + left + right, len(rows) * side + top + bottom)
    ink.heading(figure, look.title, note)
    axes = ink.plot(figure, ink.grid(figure, left=left, right=right, top=top, bottom=bottom)[0])
    numbers = f"; numbers: {look.summary}" if len(tokens) >= NUMBERED else ""
    axes.set_title(f"Rows: queries, columns: keys{numbers}", pad=22)
    colors = style.palette().sequential()
    heat(axes, _mosaic(look.shown(maps)), colors, (0, 1), (0, len(columns) - GAP, len(rows) - GAP, 0))
    axes.xaxis.set_major_locator(NullLocator())
    axes.yaxis.set_major_locator(NullLocator())
    _name_maps(axes, rows, columns, longest)
    _number_maps(axes, look.of_head(maps), tokens)
    if named:
        _name_tokens(axes, tokens, len(rows), len(columns))
    else:
        _caption(axes, figure.get_figwidth() - left - 0.2, tokens)
    color_scale(axes, colors, look.value, ("0", "1"))
    return figure


def evenly(count: int, most: int) -> list[int]:
    """Places of at most so many of a number of things, evenly chosen, the first and the last among them."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, most)).round()]


def _mosaic(maps: Array) -> Array:
    """Maps (L, H, T, T) side by side in one image, with gaps of NaN between them: one artist instead of L times H."""
    fine = -(-SHARPEST // maps.shape[-1])  # A gap is a share of a map: of a small one, less than a token.
    maps = maps.repeat(fine, 2).repeat(fine, 3)
    layers, heads, size, _ = maps.shape
    gap = max(1, round(size * GAP / (1 - GAP)))
    padded = np.pad(maps, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    joined = padded.transpose(0, 2, 1, 3).reshape(layers * (size + gap), heads * (size + gap))
    return joined[:-gap, :-gap]


def _name_maps(axes: Axes, rows: list[str], columns: list[str], labels: float) -> None:
    look = {"color": style.palette().muted, "fontsize": wording.LABEL}
    above, beside = ink.shifted(axes, 0, 5), ink.shifted(axes, -6 - 72 * labels, 0)
    for place, text in enumerate(columns):
        axes.text(place + (1 - GAP) / 2, 0, text, look, transform=above, ha="center", va="bottom")
    for place, text in enumerate(rows):
        axes.text(0, place + (1 - GAP) / 2, text, look, transform=beside, ha="right", va="center")


def _number_maps(axes: Axes, numbers: Array, tokens: Sequence[str]) -> None:
    """What sums up a head, where its map is empty: above the diagonal."""
    if len(tokens) < NUMBERED:
        return
    for (row, column), value in np.ndenumerate(numbers):
        if np.isfinite(value):
            axes.text(column + 0.97 * (1 - GAP), row + 0.03, f"{value:.2f}", ha="right", va="top", fontsize=8.5)


def _name_tokens(axes: Axes, tokens: list[str], rows: int, columns: int) -> None:
    """Tokens left of the first maps and below the last ones."""
    middle = (np.arange(len(tokens)) + 0.5) * (1 - GAP) / len(tokens)
    look = {"color": style.palette().ink, "fontsize": LABEL}
    beside, below = ink.shifted(axes, -3, 0), ink.shifted(axes, 0, -4)
    for place, text in zip(middle, tokens, strict=True):
        for row in range(rows):
            axes.text(0, row + place, text, look, transform=beside, ha="right", va="center")
        for column in range(columns):
            turn = 90 if len(text) > 1 else 0
            axes.text(column + place, rows - GAP, text, look, transform=below, ha="center", va="top", rotation=turn)


def _caption(axes: Axes, room: float, tokens: list[str]) -> None:
    """The text that was read, as far as it fits on a line."""
    between = "" if max(map(len, tokens)) == 1 else " "
    text = "tokens: " + between.join(tokens)
    while wording.width(text, 8.5) > room:
        text = text[: int(len(text) * min(0.98, room / wording.width(text, 8.5))) - 1] + "…"
    axes.annotate(text, (0, 0), (0, -8), xycoords="axes fraction", textcoords="offset points", va="top",
                  color=style.palette().muted, fontsize=8.5)  # fmt: skip
