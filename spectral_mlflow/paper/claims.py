"""What the tests say, in words: the only place where a document compares."""

from __future__ import annotations

import re
from collections.abc import Callable

from spectral_mlflow.analysis.ablation import WITHOUT
from spectral_mlflow.analysis.design import ALL, NONE
from spectral_mlflow.analysis.significance import Test
from spectral_mlflow.paper import studies
from spectral_mlflow.paper.measures import TESTED

OUTCOMES = ("lower", "higher", "equivalent", "undecided")
MISSING = "missing"

Number = Callable[..., str]


def names(test: str) -> tuple[str, str, str]:
    """What a test compares: the first, the second, and the noun of the measure."""
    group, _, about = test.partition(".")
    if group == "main":
        return "the wave model", "the standard model", TESTED[about].noun
    return _cell(about), _cell(studies.reference(about, group)), TESTED["val_loss"].noun


def _cell(name: str) -> str:
    known = {NONE: "the model with no wave component", ALL: "the model with all wave components"}
    if name in known:
        return known[name]
    if name.startswith(WITHOUT):
        return f"the model with all wave components but {WORDS.get(name.removeprefix(WITHOUT), name)}"
    return f"the model with {' and '.join(WORDS.get(part, part) for part in name.split('+'))}"


WORDS = {
    "embedding": "the wave embedding",
    "attention": "interference attention",
    "feedforward": "the wave feed-forward",
    "rgd": "RGD",
    "qfe": "QFE",
}


def sentence(test: str, says: str) -> str:
    """The standard wording of a claim, without a full stop."""
    first, second, noun = names(test)
    if says == "equivalent":
        return f"{first} and {second} are equivalent in {noun}"
    if says == "undecided":
        return f"whether {first} or {second} has the lower {noun} is undecided"
    return f"the {noun} of {first} is {says} than that of {second}"


def verdict(test: Test, number: Number) -> str:
    """What a test found, in whole sentences.

    Args:
        test: by its full name.
        number: makes the text of a fact from its key, as the functions of the templates do.
    """
    first, second, noun = names(test.name)
    unit = TESTED[test.name.partition(".")[2] if test.name.startswith("main.") else "val_loss"].unit
    difference = number("est", f"{test.name}.difference")
    if test.p is None:
        return (
            f"Between {first} and {second} the {noun} differed by {difference} {unit}; "
            "one seed decides nothing, so this is **undecided**."
        )
    how = (
        f"interval of {number('num', 'stats.confidence')} %, {'paired by seed' if test.paired else 'seeds not paired'}"
    )
    tests = number("num", family_key(test.name))
    p = f"$p$ {_equals(test.p_holm)}{number('num', f'{test.name}.p_holm')} after Holm's correction for {tests} tests"
    told = f"difference {difference} {unit}, {how}, {p}"
    if test.outcome == "undecided":
        said = f"Which of the two, {first} or {second}, has the lower {noun} is **undecided** by these runs ({told})."
        if test.mde is None:
            return said
        seen = f"{number('num', f'{test.name}.mde')} {unit}"
        return (
            f"{said} A true difference of {seen} would be found with a probability of {number('num', 'stats.power')} %."
        )
    if test.outcome == "equivalent":
        margin, within = _equivalence(test, unit, number)
        return (
            f"In {noun}, {first} and {second} are **equivalent** within a margin of {margin} ({told}; two one-sided "
            f"tests, {within})."
        )
    said = f"The {noun} of {first} is **{test.outcome}** than that of {second} ({told})."
    if test.negligible:
        margin, within = _equivalence(test, unit, number)
        said += f" Two one-sided tests place it within {margin} ({within}), so the difference is negligible."
    return said


def _equivalence(test: Test, unit: str, number: Number) -> tuple[str, str]:
    """The margin, and the p of the two one-sided tests that place the difference within it."""
    margin = f"{number('num', f'{test.name}.margin')} {unit}"
    return margin, f"$p$ {_equals(test.p_equivalence_holm)}{number('num', f'{test.name}.p_equivalence_holm')}"


def named_instead(text: str, says: str) -> str | None:
    """The outcome that the words of a claim name instead of theirs, if they do."""
    named = [outcome for outcome in OUTCOMES if re.search(rf"\b{outcome}\b", text, re.IGNORECASE)]
    return None if says in named else next(iter(named), None)


def family_key(test: str) -> str:
    """Key of the number of tests that a test was corrected with."""
    group, _, about = test.partition(".")
    return "main.tests" if group == "main" else f"ablation.tests_against_{studies.reference(about, group)}"


def _equals(p: float | None) -> str:
    return "" if p is not None and p < 0.001 else "= "  # Such a p is written with a sign of its own.
