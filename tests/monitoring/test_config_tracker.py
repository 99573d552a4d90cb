"""ConfigTracker: config.json and results.json."""

import enum
import json
import math
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spectral_mlflow.config import FORMAT_VERSION, ExperimentConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import ConfigTracker, get_git_hash
from spectral_mlflow.monitoring.json_text import decode, encode
from spectral_mlflow.monitoring.redaction import is_secret, redacted
from spectral_mlflow.settings import parse

REPRODUCIBILITY = {"experiment_id", "timestamp", "git_hash", "git", "format_version", "config_hash", "packages"}
RESULT_KEYS = {
    "experiment_id", "timestamp", "format_version", "git_hash", "config_hash", "num_parameters", "dataset", "status",
    "final_metrics", "best_checkpoint", "checkpoints", "generation_samples", "plots",
}  # fmt: skip

NAMES = st.text(max_size=8).filter(lambda name: not is_secret(name))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)
DOCUMENTS = st.dictionaries(NAMES.filter(lambda name: name != "invalid"), VALUES, max_size=5)


SECRETS = """
    password db_password Passwd api_key apiKey API-KEY openai_api_key token hf_token access_token wandbToken
    auth_token secret client_secret secret_key aws_secret_access_key credentials private_key
    mlflow_tracking_password MLFLOW_TRACKING_TOKEN
"""

SETTINGS = """
    num_tokens tokens_per_second tokens_per_sec tokenizer train_tokens val_tokens sample_tokens pad_token
    eos_token tokens max_token_length token_embedding keys num_keys key_dim sort_key monkey author
    password_length secretary passed api numTokens tokenizer_path access special_tokens
"""


@pytest.fixture
def tracker(tmp_path: Path) -> ConfigTracker:
    """A tracker of a run called demo."""
    return ConfigTracker(str(tmp_path / "demo"))


class Kind(enum.Enum):
    """An enum of texts."""

    WAVE = "wave"


def test_settings_of_ours_are_written_in_full(tracker: ConfigTracker) -> None:
    """Property 14 and 15: model, training, dataset, code, time and hardware are there, and the run can be repeated."""
    config = ExperimentConfig()
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    dataset = {"name": "python-docs", "num_tokens": 1000, "vocab_size": 65, "sha256": "ab"}
    tracker.save_config(config.to_dict(), model, dataset)
    saved = json.loads(tracker.config_path.read_text())
    assert saved.keys() == REPRODUCIBILITY | {"model", "training", "dataset", "hardware", "config"}
    assert (saved["experiment_id"], saved["format_version"]) == ("demo", FORMAT_VERSION)
    assert saved["git_hash"] == saved["git"]["commit"] == get_git_hash()
    assert saved["config_hash"] == config.hash()
    assert parse(saved["config"]) == config
    assert saved["model"] == {
        **config.to_dict()["model"],
        "class": "Linear",
        "vocab_size": 65,
        "num_parameters": 8,
        "num_trainable_parameters": 6,
    }
    assert saved["training"] == {**config.to_dict()["training"], "use_rgd": False, "use_qfe": False}
    assert saved["dataset"] == {**config.to_dict()["dataset"], **dataset}
    assert saved["hardware"].keys() >= {"gpu_model", "cuda_version", "num_gpus", "cpu_count", "total_memory_gb"}
    assert saved["packages"]["torch"] == torch.__version__


def test_dataclass_and_its_dictionary_are_the_same(tracker: ConfigTracker) -> None:
    """A configuration may be given as it is."""
    config = parse({"training": {"optimizer": "RGD", "loss": "QFE"}})
    tracker.save_config(config)
    assert tracker.load_config()["config"] == config.to_dict()
    assert tracker.load_config()["config_hash"] == config.hash()
    assert (tracker.load_config()["training"]["use_rgd"], tracker.load_config()["training"]["use_qfe"]) == (True, True)


class Foreign(nn.Module):
    """A model with a configuration of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.vocab_size = 7
        self.dropout = nn.Dropout()
        self.config = type("Settings", (), {"d_model": 16, "num_heads": 2, "vocab_size": 9})()


def test_plain_settings_and_a_foreign_model_are_understood(tracker: ConfigTracker) -> None:
    """Settings without sections are training settings; a model says what it is by itself."""
    tracker.save_config({"lr": 0.1, "optimizer": "RGD"}, Foreign(), {"name": "mine"})
    saved = tracker.load_config()
    assert saved["training"] == {"lr": 0.1, "optimizer": "RGD", "use_rgd": True, "use_qfe": False}
    assert saved["dataset"] == {"name": "mine"}
    assert saved["model"] == {
        "type": "Foreign",
        "class": "Foreign",
        "num_parameters": 0,
        "num_trainable_parameters": 0,
        "d_model": 16,
        "num_heads": 2,
        "vocab_size": 7,
    }


def test_settings_alone_are_enough(tracker: ConfigTracker) -> None:
    """Neither a model nor facts about the data are needed."""
    tracker.save_config({"model": {"type": "wave"}})
    saved = tracker.load_config()
    assert (saved["model"], saved["dataset"]) == ({"type": "wave"}, {})


@settings(max_examples=60)
@given(DOCUMENTS)
def test_json_gives_back_what_it_was_given(document: dict[str, Any]) -> None:
    """Any document of JSON's types survives, NaN and infinities at any depth included."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = encode(document)
    json.loads(text, parse_constant=refuse)
    assert repr(decode(text)) == repr(document)


@settings(max_examples=8, deadline=None)
@given(DOCUMENTS)
def test_settings_come_back_as_they_were(config: dict[str, Any]) -> None:
    """Whatever the settings, loading gives back what was saved."""
    with tempfile.TemporaryDirectory() as folder:
        tracker = ConfigTracker(folder)
        tracker.save_config(config)
        loaded = tracker.load_config()
    assert repr(loaded["config"]) == repr(config)
    assert loaded.keys() >= REPRODUCIBILITY | {"model", "training", "dataset", "hardware"}


def test_foreign_values_are_written_as_what_they_stand_for(tracker: ConfigTracker) -> None:
    """Paths, enums, arrays, tensors, types and sets in settings do not stop the run."""
    tracker.save_config({
        "path": Path("a/b"), "kind": Kind.WAVE, "array": np.arange(2), "tensor": torch.tensor([1.5]), "set": {2, 1},
        "dtype": torch.float32, "function": math.sqrt, "day": date(2024, 1, 2), "betas": (0.9, np.float32(0.5)), 3: 4,
    })  # fmt: skip
    assert tracker.load_config()["config"] == {
        "path": "a/b", "kind": "wave", "array": [0, 1], "tensor": [1.5], "set": [1, 2],
        "dtype": "torch.float32", "function": "sqrt", "day": "2024-01-02", "betas": [0.9, 0.5], "3": 4,
    }  # fmt: skip


@pytest.mark.parametrize("name", SECRETS.split())
def test_secrets_are_hidden(name: str) -> None:
    """A value is hidden wherever its name says that it is a secret."""
    assert redacted({"a": [{name: "hunter2"}]}) == {"a": [{name: "***"}]}
    assert redacted({name: None}) == {name: None}


@pytest.mark.parametrize("name", SETTINGS.split())
def test_settings_that_only_sound_like_secrets_stay(name: str) -> None:
    """Counting tokens is not a secret."""
    assert redacted({name: "value"}) == {name: "value"}


def test_no_setting_of_ours_is_hidden() -> None:
    """The whole configuration of a run is written as it is."""
    config = ExperimentConfig().to_dict()
    assert redacted(config) == config


def test_passwords_in_addresses_are_hidden(tracker: ConfigTracker) -> None:
    """An address of a store is written without its password, anywhere in the file; the hash tells nothing of it."""
    uri = "postgresql://user:hunter2@host/db"
    config = {**parse({"monitoring": {"tracking_uri": uri}}).to_dict(), "api_key": "hunter2"}
    tracker.save_config(config, dataset_info={"source": uri})
    assert "hunter2" not in tracker.config_path.read_text()
    assert tracker.load_config()["config"]["monitoring"]["tracking_uri"] == "postgresql://user:***@host/db"
    assert tracker.load_config()["config_hash"] == ExperimentConfig().hash()


def test_results_have_one_schema(tracker: ConfigTracker) -> None:
    """Property 16 and 17: results are valid JSON with the same keys, whatever is known."""
    tracker.save_results({"val_loss": 1.5})
    bare = json.loads(tracker.results_path.read_text())
    assert bare.keys() == RESULT_KEYS
    assert (bare["final_metrics"], bare["best_checkpoint"], bare["generation_samples"]) == ({"val_loss": 1.5}, None, [])
    tracker.save_config({}, nn.Linear(2, 1), {"name": "mine", "sha256": "ab", "num_tokens": 3})
    (tracker.directory / "visualizations").mkdir()
    (tracker.directory / "visualizations" / "loss_curve_step_8.png").touch()
    best = str(tracker.directory / "checkpoints" / "checkpoint_step_5.pt")
    tracker.save_results(
        {"val_loss": np.float32(0.5), "best_val_loss": math.nan},
        best,
        ["To be or not to be"],
        checkpoints={"best": best, "final": "elsewhere/checkpoint_step_8.pt"},
        status="FINISHED",
        note="further",
    )
    full = json.loads(tracker.results_path.read_text())
    assert full.keys() == RESULT_KEYS | {"note", "invalid"}
    assert full["final_metrics"] == {"val_loss": 0.5, "best_val_loss": None}
    assert full["invalid"] == {"/final_metrics/best_val_loss": "nan"}
    assert math.isnan(tracker.load_results()["final_metrics"]["best_val_loss"])
    assert full["best_checkpoint"] == "checkpoints/checkpoint_step_5.pt"
    assert full["checkpoints"] == {"best": full["best_checkpoint"], "final": "elsewhere/checkpoint_step_8.pt"}
    assert full["generation_samples"] == ["To be or not to be"]
    assert full["plots"] == ["visualizations/loss_curve_step_8.png"]
    assert (full["status"], full["num_parameters"], full["note"]) == ("FINISHED", 3, "further")
    assert full["dataset"] == {"name": "mine", "sha256": "ab"}
    assert full["config_hash"] == tracker.load_config()["config_hash"]


def test_missing_and_damaged_files_are_a_users_mistake(tracker: ConfigTracker) -> None:
    """A run without a configuration, or with a broken one, is named."""
    with pytest.raises(UserError, match=r"config.json cannot be read \(No such file"):
        tracker.load_config()
    tracker.config_path.write_text("{")
    with pytest.raises(UserError, match="config.json is not JSON"):
        tracker.load_config()
    for foreign in ('{"model": {}}', '{"config": 3}'):
        tracker.config_path.write_text(foreign)
        with pytest.raises(UserError, match="config.json has no settings of a run"):
            tracker.load_settings()
    tracker.results_path.write_text("[]")
    with pytest.raises(UserError, match="not a JSON object"):
        tracker.load_results()


def test_file_that_cannot_be_written_leaves_the_old_one(tracker: ConfigTracker) -> None:
    """A failure while writing leaves the old file whole and no temporary one."""
    tracker.save_config({"lr": 1})
    before = tracker.config_path.read_bytes()
    with pytest.raises(RecursionError):
        tracker.save_config(endless())
    tracker.results_path.mkdir()
    with pytest.raises(IsADirectoryError):
        tracker.save_results({})
    assert tracker.config_path.read_bytes() == before
    assert {path.name for path in tracker.directory.iterdir()} == {"config.json", "results.json"}


def endless() -> dict[str, Any]:
    """A dictionary that holds itself."""
    value: dict[str, Any] = {}
    value["self"] = value
    return value
