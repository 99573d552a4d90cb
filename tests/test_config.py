"""Settings: one place, every spelling, and mistakes that teach."""

import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow import config
from spectral_mlflow.config import DatasetConfig, ExperimentConfig, ModelConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.settings import SHORT_NAMES, all_settings, build, full_name, load, parse

configurations = st.builds(
    lambda heads, size, layers, kind, steps, lr, seed, optimizer, loss: parse(
        {
            "model": {"type": kind, "num_heads": heads, "d_model": heads * size, "num_layers": layers},
            "training": {"steps": steps, "lr": lr, "seed": seed, "optimizer": optimizer, "loss": loss},
        }
    ),
    st.integers(1, 8), st.integers(2, 64), st.integers(1, 12), st.sampled_from(["wave", "standard"]),
    st.integers(1, 10**6), st.floats(1e-9, 10), st.integers(0, 2**31), st.sampled_from(["AdamW", "RGD"]),
    st.sampled_from(["CE", "QFE"]),
)  # fmt: skip


@given(chosen=configurations)
def test_json_round_trip(chosen: ExperimentConfig) -> None:
    """What config.json holds is the configuration, and its hash stays."""
    again = parse(json.loads(json.dumps(chosen.to_dict())))
    assert again == chosen
    assert again.hash() == chosen.hash()


def test_type_sets_the_three_layers_and_each_may_differ() -> None:
    """An ablation changes one layer and nothing else."""
    chosen = build({"model": "standard", "model.attention": "wave"}).model
    assert (chosen.embedding, chosen.attention, chosen.feedforward) == ("standard", "wave", "standard")


def test_layers_follow_a_type_given_on_top_of_a_configuration() -> None:
    """`--config` of a wave run with `--model standard` is the standard model under its own name."""
    chosen = build({"model": "standard"}, build({"model": "wave", "steps": "7"}))
    assert chosen.model == ModelConfig(type="standard")
    assert (chosen.name, chosen.training.steps) == ("standard", 7)


def test_what_follows_from_a_setting_follows_it_again() -> None:
    """The number of waves is half the head size of the model at hand, unless somebody chose it."""
    assert build({"model.d_model": "64"}).model.num_waves == 8
    assert build({"model.num_heads": "2"}, build({"model.d_model": "64"})).model.num_waves == 16
    assert build({"model.d_model": "64"}, build({"model.num_waves": "5"})).model.num_waves == 5


def test_what_follows_from_the_dataset_follows_it_again() -> None:
    """Tokenizer, size and validation windows are those of the dataset at hand, unless somebody chose others."""
    large = build({"dataset": "fineweb-edu"})
    assert large.dataset == DatasetConfig(name="fineweb-edu")
    assert large.dataset.tokenizer == "bpe"
    assert build({"dataset": "tinyshakespeare"}, large).dataset == DatasetConfig(name="tinyshakespeare")
    chosen = build({"dataset.tokenizer": "bpe", "dataset.val_windows": "7"})
    again = build({"dataset": "python-docs"}, chosen).dataset
    assert (again.tokenizer, again.val_windows) == ("bpe", 7)


@pytest.mark.parametrize("spelling", ["batch_size", "batch-size", "--batch-size", "training.batch-size"])
def test_every_spelling_means_the_same(spelling: str) -> None:
    """Short and dotted names, dashes and underscores."""
    assert build({spelling: "3"}).training.batch_size == 3


@pytest.mark.parametrize("name", ["training.on_anomaly", "monitoring.log_checkpoints"])
def test_none_is_a_choice_where_it_is_one(name: str) -> None:
    """'none' leaves an optional setting open, but is itself where it is among the choices."""
    section, leaf = name.split(".")
    assert build({name: "none"}).to_dict()[section][leaf] == "none"
    assert build({"dataset.path": "none"}).dataset.path is None


@pytest.mark.parametrize("short", SHORT_NAMES)
def test_short_names_lead_to_settings(short: str) -> None:
    """No short name points to nowhere."""
    assert full_name(short) == SHORT_NAMES[short]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stepz": "1"}, "unknown setting stepz; did you mean steps?"),
        ({"training.stps": "1"}, "did you mean training.steps?"),
        ({"num_wave": "1"}, "did you mean model.num_waves?"),
        ({"steps": "abc"}, "training.steps: given 'abc'; allowed: integer"),
        ({"steps": "0"}, "training.steps: given '0'; allowed: greater than or equal to 1"),
        ({"lr": "nan"}, "training.lr: given 'nan'; allowed: a finite number"),
        ({"model.d_model": "130"}, "model.d_model: given 130, which num_heads=4 does not divide"),
        ({"model": "foo"}, "model.type: given 'foo'; allowed: 'wave' or 'standard'"),
        ({"model.num_waves": "0"}, "model.num_waves: given '0'"),
        ({"model.num_harmonics": "0"}, "model.num_harmonics: given '0'"),
        ({"model.attention": "phase"}, "model.attention: given 'phase'; allowed: 'wave' or 'standard'"),
        ({"dataset": "text"}, "dataset.path: given nothing"),
        ({"dataset": "python-docs", "dataset.path": "x"}, "only dataset text reads a path"),
        ({"model.pure_wave": "maybe"}, "model.pure_wave: given 'maybe'; allowed: boolean"),
        ({"monitoring.stores": "mlflow,nowhere"}, "monitoring.stores: given 'nowhere'; allowed: 'mlflow'"),
        ({"dataset.train_split": "0.95"}, "allowed: at most 1 together"),
        ({"name": "../up"}, "name: given '../up'; allowed: letters, digits"),
        ({"dataset.path": ""}, "dataset.path: given ''"),
        ({"dataset": "fineweb-edu", "dataset.subset": "all"}, "dataset.subset: given 'all'; allowed: default, sample"),
        ({"training": "3"}, "training: given one value; allowed: a section of settings, such as training.steps"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_teaches(given: dict[str, str], message: str) -> None:
    """The dotted name, what was given, what is allowed."""
    with pytest.raises(UserError) as caught:
        build(given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_short_name_in_a_file_is_told_the_whole_one() -> None:
    """Files have sections; a short name there is answered with the setting that it stands for."""
    with pytest.raises(UserError, match="unknown setting lr; did you mean training.lr?"):
        parse({"lr": 1e-3})


@given(name=st.text(string.ascii_lowercase + "._", min_size=1, max_size=30))
def test_no_name_is_taken_silently(name: str) -> None:
    """A setting that does not exist is refused, whatever it looks like."""
    known = {setting.name for setting in all_settings()} | set(SHORT_NAMES)
    if name not in known:
        with pytest.raises(UserError, match="unknown setting"):
            build({name: "1"})


def test_hash_covers_what_decides_the_result() -> None:
    """Model, training and dataset change the hash; the machine and the watching do not."""
    base = build({})
    assert build({"device": "cpu", "monitoring.log_interval": "5", "name": "x"}).hash() == base.hash()
    for change in ({"seed": "1"}, {"model": "standard"}, {"dataset": "python-docs"}):
        assert build(change).hash() != base.hash()


def test_every_setting_is_explained() -> None:
    """The help has a sentence for each setting."""
    assert all(setting.help for setting in all_settings())


def test_configuration_files(tmp_path: Path) -> None:
    """A config.json is read back; a missing or broken one is a one-line mistake."""
    chosen = build({"steps": "5"})
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"experiment_id": "x", "config": chosen.to_dict()}))
    assert load(path) == chosen
    path.write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        load(path)
    for text in ("[1]", '"text"', '{"config": null}'):
        path.write_text(text)
        with pytest.raises(UserError, match="holds no settings"):
            load(path)
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path / "none.json")


def test_passwords_are_not_shown() -> None:
    """A store's URI stands in files without its password."""
    for address, written in {
        "postgresql://me:pa55@host/db": "postgresql://me:***@host/db",
        "postgresql://me:pa/ss@host/db": "postgresql://me:***@host/db",
        "postgresql+psycopg2://me:p@ss@host/db": "postgresql+psycopg2://me:***@host/db",
        "postgresql://host/db?user=me&password=pa55&x=1": "postgresql://host/db?user=me&password=***&x=1",
        "https://t0ken@host/path": "https://***@host/path",
        "https://me:p@ss@host": "https://me:***@host",
        "https://host:8080/path@v1": "https://host:8080/path@v1",
        "sqlite:///mlflow.db": "sqlite:///mlflow.db",
    }.items():
        assert config.without_password(address) == written
