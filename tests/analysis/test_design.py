"""Designs of studies: which cells they have."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow.analysis import design
from spectral_mlflow.analysis.design import COMPONENTS, PRESETS, Design
from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.settings import differences

WHAT = {
    "embedding": {"model.embedding", "model.embedding_std"},
    "attention": {"model.attention"},
    "feedforward": {"model.feedforward"},
    "rgd": {"training.optimizer"},
    "qfe": {"training.loss"},
}


def configs(made: Design) -> dict[str, ExperimentConfig]:
    """The settings of the cells of the first seed, by name."""
    return {cell.name: cell.config for cell in made.plan() if cell.seed == made.seeds[0]}


def test_presets_have_the_cells_that_their_help_promises() -> None:
    """Five seeds of two models; twelve cells; two to the fifth."""
    sizes = {name: (len(made.cells), len(made.seeds), made.settings["steps"]) for name, made in PRESETS.items()}
    assert sizes == {"seeds": (2, 5, 1000), "components": (12, 3, 300), "full": (32, 3, 300)}


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_alone_changes_only_itself(name: str) -> None:
    """And all but it is everything without it."""
    cells = configs(PRESETS["components"])
    assert set(differences(cells["none"], cells[name])) - {"name"} == WHAT[name]
    rest = set(differences(cells["all"], cells[f"without_{name}"])) - {"name", "model.type"}
    assert rest == WHAT[name]


def test_no_component_is_the_standard_model_and_all_are_the_wave_model() -> None:
    """With AdamW and cross-entropy, or with RGD and QFE."""
    cells = configs(PRESETS["components"])
    assert (cells["none"].model.type, cells["none"].training.optimizer, cells["none"].training.loss) == (
        "standard", "AdamW", "CE",
    )  # fmt: skip
    assert (cells["all"].model.type, cells["all"].training.optimizer, cells["all"].training.loss) == (
        "wave", "RGD", "QFE",
    )  # fmt: skip


@given(st.lists(st.sampled_from(list(COMPONENTS)), min_size=1, unique=True))
def test_combinations_are_all_different(names: list[str]) -> None:
    """As many cells as subsets, and no two train the same."""
    made = Design("any", "", design.factorial(names), {"steps": 10}, [0])
    assert len({config.hash() for config in configs(made).values()}) == 2 ** len(names)


def test_a_seed_comes_after_all_cells_of_the_one_before() -> None:
    """An unfinished study then has the same seeds of all of its cells."""
    plan = PRESETS["components"].plan()
    assert [cell.seed for cell in plan] == sorted(cell.seed for cell in plan)
    assert len({(cell.name, cell.seed) for cell in plan}) == len(plan) == 36


def test_a_file_has_a_grid(tmp_path: Path) -> None:
    """Every combination of the values, on top of the settings of all cells."""
    file = tmp_path / "lr.toml"
    file.write_text('seeds = [3]\n[settings]\nsteps = 7\n[grid]\nlr = [1e-3, 2e-3]\nmodel = ["wave", "standard"]\n')
    cells = configs(design.read(file))
    assert list(cells) == [f"lr={lr}+model={model}" for lr in ("0.001", "0.002") for model in ("wave", "standard")]
    wave = cells["lr=0.002+model=wave"]
    assert (wave.training.lr, wave.model.type, wave.training.steps, wave.training.seed) == (2e-3, "wave", 7, 3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[grid", "not TOML"),
        ("seed = 3", "has seed; allowed"),
        ("seeds = [1, 1]\ncomponents = ['rgd']", "different whole numbers"),
        ("components = ['rdg']", "allowed: some of embedding"),
        ("[grid]\nlr = 1e-3", "a list of values"),
        ("components = ['rgd']\n[grid]\nlr = [1e-3]", "components and grid; allowed"),
        ("[cells.'a b']\nlr = 1", "cell 'a b'"),
        ("[cells.a]\nlrr = 1", "unknown setting lrr"),
        ("name = '../x'\ncomponents = ['rgd']", "--study"),
        ("components = [['rgd'], {a = 1}]", "components: given"),
        ("[settings.training]\nlr = {a = [1]}\n[cells.a]", "training: given one value"),
        ("[cells.a]\nlr = {b = [1]}", "training.lr: given"),
        ("[grid]\nseed = [1, 2]", "training.seed: given in a study"),
        ("[grid]\nlr = [1e-3]\n'training.lr' = [2e-3]", "each setting once"),
        ("[cells.a]\nlr = 1e-3\n[cells.b]\nlr = '0.001'", "cells 'a' and 'b' have the same settings"),
        ("[settings]\n'training.optimizer' = 'RGD'\n[cells.none]\n[cells.b]\nlr = 1", "training.optimizer: given for"),
        (
            "components = ['embedding', 'rgd']\n[settings]\n'training.optimizer' = 'RGD'",
            "training.optimizer: given for",
        ),
        ("[settings]\n'training.auto_batch_size' = true\n[cells.a]", "allowed: training.batch_size"),
    ],
    ids=range(18),
)
def test_a_file_that_is_no_design_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """In one line that says what is allowed."""
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(UserError, match=reason) as failure:
        design.read(tmp_path / "study.toml").plan()
    assert "\n" not in str(failure.value)
