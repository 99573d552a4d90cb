"""The cells of an ablation: which runs they are, what stands apart, and what each difference is against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pytest

from spectral_mlflow.analysis.ablation import Ablation, ablation, cell_name
from spectral_mlflow.analysis.comparison import MUST_MATCH, Comparison, compare, variants
from spectral_mlflow.analysis.design import COMPONENTS, combination, factorial, one_by_one

TERMS: dict[str, Any] = dict.fromkeys(MUST_MATCH, 64) | {"dataset.sha256": "ab" * 32, "training.lr": 0.002}
TUNING = {"model.num_waves": 16, "model.wave_ratio": 0.5, "training.rgd_strength": 0.3, "training.qfe_lambda": 0.1}
PLAIN = {f"model.{layer}": "standard" for layer in ("embedding", "attention", "feedforward")} | {
    "training.optimizer": "AdamW",
    "training.loss": "CE",
}
NOISE = (0.0, 0.004, -0.003)


def run(components: Iterable[str], seed: int, loss: float, **more: Any) -> dict[str, Any]:
    """One row as `load_runs` gives it; settings with __ for the dot."""
    settings = TERMS | TUNING | PLAIN | dict(combination(components)) | {"training.seed": seed}
    settings |= {name.replace("__", "."): value for name, value in more.items() if "__" in name}
    row = {f"params.{name}": value for name, value in settings.items()}
    row |= {"run_id": f"{'+'.join(components)}/{seed}/{more}", "status": more.get("status", "FINISHED")}
    return row | {"start_time": seed, "metrics.best_val_loss": loss, "tags.spectral.study": more.get("study")}


def losses(effects: Mapping[str, float], cells: Iterable[Iterable[str]], seeds: int = 3) -> list[dict[str, Any]]:
    """Runs whose loss is a sum of the effects of their components, of their seed, and of a little else."""
    return [
        run(
            cell,
            seed,
            1.7 + NOISE[seed] + sum(effects.get(name, 0) for name in cell) + 1e-4 * ((7 * at + 3 * at * seed) % 13),
        )
        for at, cell in enumerate(map(sorted, cells))
        for seed in range(seeds)
    ]


def sets(names: Iterable[str]) -> list[frozenset[str]]:
    """The components of cells by their names."""
    known = {cell_name(some.split("+")): frozenset(some.split("+")) for some in factorial() if some != "none"}
    return [known.get(name, frozenset()) for name in names]


def made(rows: list[dict[str, Any]], study: str | None = None) -> Ablation:
    """The ablation of some rows."""
    return ablation(pd.DataFrame(rows), study)


def test_cells_are_tested_against_what_they_change() -> None:
    """Each cell stands against none, what lacks one against all too; both are families of their own."""
    found = made(losses({"rgd": -0.05, "embedding": 0.03}, sets(one_by_one())))
    assert set(found.by_name) == set(one_by_one())
    assert (found.cells[0].name, found.cells[-1].name) == ("none", "all")
    assert set(found.against_none) == set(one_by_one()) - {"none"}
    assert set(found.against_all) == {f"without_{name}" for name in COMPONENTS}
    assert found.against_none["rgd"].outcome == "lower"
    assert found.against_none["qfe"].outcome == "equivalent"
    assert found.against_none["all"].difference.mean == pytest.approx(-0.02, abs=1e-3)
    assert found.against_all["without_rgd"].outcome == "higher"
    assert found.against_all["without_embedding"].outcome == "lower"
    assert found.main_effects == {}
    frame = found.frame().set_index("cell")
    assert frame.loc["rgd", "outcome"] == "lower"
    assert frame.loc["without_rgd", "against_all_difference"] == pytest.approx(0.05, abs=1e-3)
    assert bool(frame.loc["without_rgd", "rgd"]) is False


def test_main_effects_are_means_over_all_the_others() -> None:
    """Where components were combined in every way, each has the effect that it was given; else there is none."""
    components = ["attention", "rgd", "qfe"]
    cells = [name.split("+") if name != "none" else [] for name in factorial(components)]
    found = made(losses({"attention": 0.02, "rgd": -0.04}, cells))
    assert {name: test.difference.mean for name, test in found.main_effects.items()} == pytest.approx(
        {"attention": 0.02, "rgd": -0.04, "qfe": 0}, abs=1e-3
    )
    assert [found.main_effects[name].outcome for name in components] == ["higher", "lower", "equivalent"]
    assert made(losses({}, cells[:-1])).main_effects == {}


@pytest.mark.parametrize(
    ("setting", "value"),
    [("dataset__sha256", "cd" * 32), ("model__d_model", 32), ("training__steps", 9), ("training__lr", 0.1)],
)
def test_other_terms_stand_apart_with_the_reason(setting: str, value: Any) -> None:
    """A run of other data, size, budget or schedule is in no cell; the setting and both values are told."""
    rows = losses({}, [[], ["rgd"], ["qfe"]])
    found = made([*rows, run(["embedding"], 0, 1.0, **{setting: value})])
    assert set(found.by_name) == {"none", "rgd", "qfe"}
    (apart,) = found.apart
    name = setting.replace("__", ".")
    assert (apart.cell, apart.reason) == ("embedding", f"{name} is {value}, in the table {TERMS[name]}")


def test_components_tuned_otherwise_stand_apart() -> None:
    """A component has one setting in a table; what a cell does not read is no difference."""
    rows = losses({}, [[], ["rgd"], ["qfe", "rgd"]])
    rows += [run(["qfe"], seed, 1.7, training__rgd_strength=0.9) for seed in range(3)]
    rows.append(run(["embedding", "rgd"], 0, 1.0, training__rgd_strength=0.9))
    found = made(rows)
    assert set(found.by_name) == {"none", "rgd", "qfe", "rgd+qfe"}
    assert [apart.reason for apart in found.apart] == ["training.rgd_strength is 0.9, in the table 0.3"]


def test_what_cannot_be_compared_stands_apart() -> None:
    """An automatic batch and a text without a hash are on nobody's terms."""
    rows = losses({}, [[], ["rgd"]])
    rows.append(run(["qfe"], 0, 1.0, training__auto_batch_size=True))
    rows.append(run(["embedding"], 0, 1.0, dataset__sha256=None))
    reasons = {apart.cell: apart.reason for apart in made(rows).apart}
    assert reasons["embedding"] == "dataset.sha256 was not recorded"
    assert reasons["qfe"].startswith("training.auto_batch_size is on")


def test_seeds_without_a_result_are_told() -> None:
    """A run that failed or diverged is no value of its cell, and is not passed over in silence."""
    rows = losses({}, [[], ["rgd"]])
    rows += [
        run(["rgd"], 7, 1.0, status="FAILED"),
        run(["rgd"], 8, float("inf")),
        run(["rgd"], 0, 9.9, status="FAILED"),
        run(["rgd"], 9, 9.9, status="FAILED", training__steps=7),  # On other terms.
    ]
    found = made(rows)
    assert found.by_name["rgd"].without_result == (7, 8)
    assert found.by_name["none"].without_result == ()
    assert found.by_name["rgd"].loss.n == 3


def test_a_study_is_read_alone() -> None:
    """With the name of a study, runs of others are not looked at; without runs there are no cells."""
    rows = losses({}, [[], ["rgd"]])
    rows += [run(some, seed, 1.5, study="mine", training__steps=9) for some in ([], ["qfe"]) for seed in (0, 1)]
    found = made(rows, "mine")
    assert set(found.by_name) == {"none", "qfe"}
    assert found.apart == ()
    empty = made(rows, "nobody's")
    assert (empty.cells, empty.against_none, empty.against_all, empty.main_effects) == ((), {}, {}, {})
    assert empty.frame().empty


def test_without_its_reference_a_cell_has_no_test() -> None:
    """Nothing is compared with a cell that nobody trained, and one seed decides nothing."""
    assert made(losses({}, [["rgd"], ["qfe"]])).against_none == {}
    assert made(losses({"rgd": -1.0}, [[], ["rgd"]], seeds=1)).against_none["rgd"].outcome == "undecided"


def test_optimizer_and_loss_make_variants() -> None:
    """RGD and QFE are other variants of the same model; a comparison tells them, and nothing that follows."""
    wave, standard = ["embedding", "attention", "feedforward"], list[str]()
    rows = losses({}, [standard, [*wave, "rgd"], [*wave, "qfe"], wave])
    found = variants(pd.DataFrame(rows))
    assert [variant.model for variant in found] == ["standard", "wave", "wave", "wave"]
    told = set()
    for variant in found[1:]:
        result = compare(variant, found[0])
        assert isinstance(result, Comparison)
        told.add(result.also_differ)
    assert told == {(), (("training.optimizer", "RGD", "AdamW"),), (("training.loss", "QFE", "CE"),)}


def test_seeds_that_do_not_match_stand_apart() -> None:
    """Two seeds or more on each side, none of them common, are compared by Welch's test."""
    rows = [run(["embedding", "attention", "feedforward"], seed, 1.5 + NOISE[seed]) for seed in range(3)]
    rows += [run([], seed + 10, 1.7 + NOISE[seed]) for seed in range(3)]
    standard, wave = variants(pd.DataFrame(rows))
    result = compare(wave, standard)
    assert isinstance(result, Comparison)
    assert (result.seeds, result.test.paired, result.outcome) == ((), False, "lower")
