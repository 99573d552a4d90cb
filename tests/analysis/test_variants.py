"""Runs gathered to variants, and variants compared."""

from __future__ import annotations

import math

import pytest
from tracking_store import TrackingStore, falling

from spectral_mlflow.analysis.comparison import Comparison, Refusal, compare, compare_all, distinguishing, variants
from spectral_mlflow.analysis.runs import load_runs


def seeds(store: TrackingStore, model: str, losses: list[float], **settings: str) -> None:
    """Train one run for each loss, with seeds from 0."""
    named = {name.replace("__", "."): value for name, value in settings.items()}
    for seed, loss in enumerate(losses):
        store.train(model, seed, falling(loss), settings=named)


def test_variants_gather_seeds(store: TrackingStore) -> None:
    """Runs that differ in the seed alone are one variant, with one loss a seed."""
    seeds(store, "wave", [2.41, 2.42, 2.40])
    seeds(store, "standard", [2.39, 2.40])
    standard, wave = variants(load_runs(store.uri))
    assert (standard.model, wave.model) == ("standard", "wave")
    assert wave.losses == pytest.approx({0: 2.41, 1: 2.42, 2: 2.40})
    assert wave.loss.mean == pytest.approx(2.41)
    assert wave.perplexity.mean == pytest.approx(sum(math.exp(x) for x in (2.41, 2.42, 2.40)) / 3)


def test_only_finished_runs_with_a_finite_loss_count(store: TrackingStore) -> None:
    """Failed, killed and running runs are no results, and neither is a run that diverged or was never evaluated."""
    for status in ("FAILED", "KILLED", "RUNNING"):
        store.train("wave", 1, falling(2.4), status=status)
    store.train("wave", 2, {100: math.inf})
    store.train("wave", 3, {100: math.nan})
    store.train("wave", 4)
    good = store.train("wave", 5, falling(2.4))
    (variant,) = variants(load_runs(store.uri))
    assert variant.runs == {5: good}


def test_a_repeated_seed_counts_once(store: TrackingStore) -> None:
    """The latest run of a seed stands for it, so that a copy never looks like another seed."""
    store.train("wave", 0, falling(2.5))
    latest = store.train("wave", 0, falling(2.4))
    (variant,) = variants(load_runs(store.uri))
    assert variant.runs == {0: latest}


def test_settings_that_a_model_does_not_read_make_no_variant(store: TrackingStore) -> None:
    """A standard model with another number of waves is the same standard model."""
    store.train("standard", 0, falling(2.4), settings={"model.num_waves": "8"})
    store.train("standard", 1, falling(2.4), settings={"training.rgd_strength": "0.7"})
    store.train("standard", 2, falling(2.4), settings={"training.first_block_size": "64"})
    store.train("wave", 0, falling(2.4), settings={"model.num_waves": "8"})
    store.train("wave", 1, falling(2.4))
    found = variants(load_runs(store.uri))
    assert [variant.model for variant in found] == ["standard", "wave", "wave"]
    assert [told.get("model.num_waves") for told in distinguishing(found).values()] == [None, 8, 16]


def test_mixed_models_are_neither(store: TrackingStore) -> None:
    """An ablation with one layer swapped is named by its layers and never compared as wave or standard."""
    seeds(store, "wave", [2.4, 2.4], model__attention="standard")
    seeds(store, "standard", [2.4, 2.4])
    found = variants(load_runs(store.uri))
    assert found[1].model == "mixed: wave embedding, standard attention, wave feedforward"
    assert compare_all(found) == ([], [])


@pytest.mark.parametrize(
    ("losses", "outcome"),
    [([2.30, 2.31, 2.29], "lower"), ([2.50, 2.51, 2.49], "higher"), ([2.30, 2.50, 2.41], "undecided")],
)
def test_the_outcome_is_computed(store: TrackingStore, losses: list[float], outcome: str) -> None:
    """Wave against standard comes out by the interval of the paired difference."""
    seeds(store, "wave", losses)
    seeds(store, "standard", [2.40, 2.405, 2.395])
    standard, wave = variants(load_runs(store.uri))
    result = compare(wave, standard)
    assert isinstance(result, Comparison)
    assert result.outcome == outcome
    assert result.also_differ == ()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("training.steps", "500"),
        ("training.batch_size", "8"),
        ("model.block_size", "64"),
        ("model.d_model", "64"),
        ("model.num_layers", "2"),
        ("model.num_heads", "2"),
        ("dataset.tokenizer", "bpe"),
    ],
)
def test_unequal_terms_are_refused(store: TrackingStore, setting: str, value: str) -> None:
    """Runs whose losses do not mean the same are not compared; the reason names the setting and both values."""
    store.train("wave", 0, falling(2.4), settings={setting: value})
    store.train("standard", 0, falling(2.4))
    comparisons, (refusal,) = compare_all(variants(load_runs(store.uri)))
    assert comparisons == []
    assert setting in refusal.reason
    assert f"wave {value}" in refusal.reason


def test_an_automatic_batch_size_is_refused(store: TrackingStore) -> None:
    """A batch that followed the free memory of a machine is no fair term, even where both happen to be equal."""
    for model in ("wave", "standard"):
        store.train(model, 0, falling(2.4), settings={"training.auto_batch_size": "true"})
    standard, wave = variants(load_runs(store.uri))
    result = compare(wave, standard)
    assert isinstance(result, Refusal)
    assert result.reason == "; ".join(
        f"training.auto_batch_size is on ({model}); run it again with training.batch_size"
        for model in ("wave", "standard")
    )


def test_another_text_is_refused(store: TrackingStore) -> None:
    """Datasets are told apart by their hash, not by their name; a hash that is missing is no match."""
    store.train("wave", 0, falling(2.4), facts={"dataset.sha256": "ab" * 32})
    store.train("standard", 0, falling(2.4))
    standard, wave = variants(load_runs(store.uri))
    result = compare(wave, standard)
    assert isinstance(result, Refusal)
    assert "dataset.sha256 differs" in result.reason


def test_no_common_seed_is_refused(store: TrackingStore) -> None:
    """Pairs need a seed that both have."""
    store.train("wave", 0, falling(2.4))
    store.train("standard", 1, falling(2.4))
    standard, wave = variants(load_runs(store.uri))
    result = compare(wave, standard)
    assert isinstance(result, Refusal)
    assert result.reason == "no seed in common: seeds 0 and seeds 1"


def test_what_else_differs_is_told(store: TrackingStore) -> None:
    """Another optimizer does not forbid the comparison, but it is named with both values."""
    seeds(store, "wave", [2.4, 2.4], training__lr="0.003")
    seeds(store, "standard", [2.4, 2.4])
    (result,), refusals = compare_all(variants(load_runs(store.uri)))
    assert result.also_differ == (("training.lr", 0.003, 0.002),)
    assert refusals == []


def test_a_store_without_runs_has_no_variants(store: TrackingStore) -> None:
    """Nothing in, nothing out."""
    assert variants(load_runs(store.uri)) == []
