"""What tests say in words: the outcome that they have, and no more."""

from __future__ import annotations

import pytest

from spectral_mlflow.analysis.significance import Test, compare_values, family
from spectral_mlflow.analysis.wording import finding, p_value, sentence

STANDARD = {0: 1.70, 1: 1.71, 2: 1.69, 3: 1.705}


def against(*differences: float, start: int = 0, margin: float = 0.01) -> Test:
    """The standard values with something added, against them."""
    first = {seed + start: STANDARD[seed] + by for seed, by in enumerate(differences)}
    return compare_values(first, STANDARD, margin=margin)


def test_a_lower_loss_is_lower_by_a_positive_size() -> None:
    """The size has no sign, and its interval stands in the order of the sizes."""
    told = finding(against(-0.050, -0.052, -0.049, -0.051))
    assert told == "lower by 0.0505 nats a token [0.0484, 0.0526], p < 0.001"
    assert finding(against(0.050, 0.052, 0.049, 0.051), "nats", 2).startswith("higher by 0.05 nats [0.05, 0.05]")


def test_a_family_is_named_with_its_p() -> None:
    """An adjusted p says so."""
    (test, _) = family([against(-0.05, -0.07, -0.04, -0.05)] * 2)
    assert finding(test).endswith("by Holm")


def test_an_undecided_test_says_what_it_could_not_see() -> None:
    """No direction is claimed; the least difference that would be found is told instead."""
    test = against(-0.05, 0.03, 0.01, -0.02)
    told = finding(test)
    assert told.startswith("undecided: a difference of -0.0075 nats a token [-0.0632, +0.0482], p = 0.70")
    assert told.endswith(
        f"; a true difference below {test.mde:.4f} nats a token would be missed more than one time in five"
    )
    for word in ("lower", "higher", "better", "worse"):
        assert word not in told


def test_one_seed_has_no_uncertainty_in_words() -> None:
    """One seed is a value and nothing decided."""
    assert finding(against(-0.05)) == "undecided: a difference of -0.0500 nats a token (one seed, no uncertainty)"


def test_equivalence_names_its_margin() -> None:
    """Equivalent is within the margin only, and a real difference inside of it is called negligible."""
    assert finding(against(0.001, -0.001, 0.0005, 0)).startswith("equivalent within 0.01 nats a token: a difference of")
    real = finding(against(0.0050, 0.0052, 0.0049, 0.0051))
    assert real.startswith("higher by")
    assert real.endswith("which is negligible (within 0.01 nats a token)")


def test_equal_differences_are_told_to_be_equal() -> None:
    """Where nothing spreads there is no least difference to tell."""
    told = finding(against(1.0, 1.0, 1.0))
    assert told.startswith("undecided")
    assert told.endswith("every seed differs by the same, so that only their number counts")


def test_a_sentence_says_how_seeds_were_put_together() -> None:
    """Pairs name their seeds; sides that stood apart name their numbers."""
    names = ("the wave model", "the standard model", "best validation loss")
    paired = sentence(against(-0.05, -0.052, -0.049), *names)
    assert paired.startswith("The best validation loss of the wave model against the standard model is lower by 0.0503")
    assert paired.endswith(", paired over seeds 0, 1, 2.")
    assert sentence(against(-0.05, -0.052, start=50), *names).endswith(", 2 and 4 seeds, not paired.")


@pytest.mark.parametrize(("p", "told"), [(1e-9, "< 0.001"), (0.0123, "= 0.012"), (0.049, "= 0.049"), (0.7, "= 0.70")])
def test_p_has_as_many_digits_as_it_means(p: float, told: str) -> None:
    """Two digits that count, and none below a thousandth."""
    assert p_value(p) == told
