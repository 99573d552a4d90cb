"""Commands that documents tell their readers to run."""

from __future__ import annotations

import shlex

import pytest

from spectral_mlflow import config
from spectral_mlflow.paper.commands import make_run, training_command
from spectral_mlflow.settings import build, flatten


def test_make_run() -> None:
    """The command for a missing run is the one that README and MLproject know."""
    assert make_run("standard") == "mlflow run . -P model=standard --env-manager local"
    assert make_run("wave", 3) == "mlflow run . -P model=wave -P seed=3 --env-manager local"


@pytest.mark.parametrize(
    "overrides",
    [
        {"model": "wave"},
        {"model": "standard", "seed": "4", "steps": "20"},
        {"model": "wave", "model.attention": "standard", "model.d_model": "64", "model.num_waves": "5"},
        {"model": "wave", "model.pure_wave": "true", "lr": "0.0003", "training.optimizer": "RGD"},
        {"model": "standard", "dataset.path": "a folder/it's text.txt"},
    ],
)
def test_the_command_repeats_the_configuration(overrides: dict[str, str]) -> None:
    """Parsed again, the command gives the configuration with the same hash."""
    wanted = build(overrides)
    settings = {name: value for name, value in flatten(wanted.to_dict()).items() if value is not None}
    spectral, train, *rest = shlex.split(training_command(settings))
    assert (spectral, train) == ("spectral", "train")
    again = build(dict(zip(rest[::2], rest[1::2], strict=True)))
    assert again.hash() == wanted.hash()


def test_only_what_is_no_default_is_named() -> None:
    """The command of the default run is short."""
    settings = flatten(config.ExperimentConfig().to_dict())
    known = {name: value for name, value in settings.items() if value is not None}
    assert training_command(known) == "spectral train --model.type wave"
