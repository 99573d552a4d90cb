"""What tests say, in words that claim no more than they show, and what variants are called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from spectral_mlflow.analysis.comparison import Comparison, Variant, distinguishing
from spectral_mlflow.analysis.significance import Test
from spectral_mlflow.analysis.statistics import Estimate

NATS = "nats a token"
_FOLLOW = ("model.num_parameters", "dataset.num_tokens")  # From settings.


def finding(test: Test, unit: str = NATS, digits: int = 4) -> str:
    """What a test says of the first of the two, without naming them.

    Such as ``lower by 0.0123 nats a token [0.0090, 0.0156], p = 0.002``, ``equivalent within 0.01 nats a token: ...``
    or ``undecided: ...; a true difference below 0.0150 nats a token would be missed more than one time
    in five``.

    Args:
        test: as `compare_values` or `family` gives it.
        unit: of the values.
        digits: behind the point, of the difference and its interval.
    """
    mean, outcome = test.difference.mean, test.outcome
    if test.p is None:
        return f"undecided: a difference of {mean:+.{digits}f} {unit} (one seed, no uncertainty)"
    if outcome in ("lower", "higher"):
        within = f", which is negligible (within {test.margin:g} {unit})" if test.negligible else ""
        size = test.difference if mean > 0 else replace(test.difference, mean=-mean)
        return f"{outcome} by {size.mean:.{digits}f} {unit} {_interval(size, digits)}, {_p(test)}{within}"
    told = f"a difference of {mean:+.{digits}f} {unit} {_interval(test.difference, digits, '+')}"
    if outcome == "equivalent":
        return f"equivalent within {test.margin:g} {unit}: {told}, {_p_equivalence(test)}"
    return f"undecided: {told}, {_p(test)}{_missed(test, unit, digits)}"


def sentence(test: Test, first: str, second: str, quantity: str, unit: str = NATS, digits: int = 4) -> str:
    """What a test says, as a sentence.

    Args:
        test: first against second.
        first: what the first is called, such as "the wave model".
        second: what the second is called.
        quantity: what was measured, such as "best validation loss".
        unit: of the values.
        digits: behind the point.
    """
    return f"The {quantity} of {first} against {second} is {finding(test, unit, digits)}, {design(test)}."


def line(test: Test) -> str:
    """What a test says after its name, such as ``qfe against none: lower by ..., paired over seeds 0, 1, 2``."""
    return f"{test.name}: {finding(test)}, {design(test)}"


def design(test: Test) -> str:
    """How the values were put beside each other: pairs by seed, or all of each side."""
    if test.paired:
        return f"paired over {seeds(test.seeds)}"
    return f"{test.n_first} and {test.n_second} seeds, not paired"


def verdict(found: Comparison) -> str:
    """What a comparison of wave and standard says, as a sentence."""
    over = seeds(found.test.seeds) if found.test.paired else design(found.test)
    also = "; ".join(f"{name} {one} and {other}" for name, one, other in found.also_differ)
    rest = f" The two also differ in {also}." if also else ""
    return f"Wave minus standard over {over}: {finding(found.test)}.{rest}"


def labels(found: Sequence[Variant]) -> list[str]:
    """The model of each variant, and in which settings it differs from others of that model."""
    return [
        " ".join([variant.model, *(f"{n.split('.', 1)[1]} {v}" for n, v in differing.items() if n not in _FOLLOW)])
        for variant, differing in zip(found, distinguishing(found).values(), strict=True)
    ]


def seeds(numbers: Iterable[int]) -> str:
    """Seeds by number, such as ``seeds 0, 1, 2``."""
    told = sorted(numbers)
    return f"seed{'s' if len(told) > 1 else ''} {', '.join(map(str, told))}"


def no_result(label: str, numbers: Sequence[int]) -> str:
    """What is said of seeds that were begun and came to nothing."""
    return f"{label}: {seeds(numbers)} without a result, which {'count' if len(numbers) > 1 else 'counts'} nowhere"


def p_value(p: float) -> str:
    """A p as ``= 0.012``, or as ``< 0.001`` where more digits would pretend to be known."""
    return "< 0.001" if p < 0.001 else f"= {p:.2g}" if p < 0.1 else f"= {p:.2f}"


def _interval(difference: Estimate, digits: int, sign: str = "") -> str:
    return f"[{difference.low:{sign}.{digits}f}, {difference.high:{sign}.{digits}f}]"


def _p(test: Test) -> str:
    if test.p_holm is None:
        return f"p {p_value(test.p or 0.0)}"
    return f"p {p_value(test.p_holm)} by Holm"


def _p_equivalence(test: Test) -> str:
    if test.p_equivalence_holm is None:
        return f"p of a larger one {p_value(test.p_equivalence or 0.0)}"
    return f"p of a larger one {p_value(test.p_equivalence_holm)} by Holm"


def _missed(test: Test, unit: str, digits: int) -> str:
    if test.mde is None:
        return "; every seed differs by the same, so that only their number counts"
    return f"; a true difference below {test.mde:.{digits}f} {unit} would be missed more than one time in five"
