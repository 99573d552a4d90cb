"""The form of a checkpoint file, and which values it takes."""

import dataclasses
import enum
import zipfile
from collections import Counter, OrderedDict, defaultdict, namedtuple
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpointing import save, trained
from torch import nn

from spectral_mlflow.monitoring import CheckpointManager


def test_sealed_file_is_still_an_ordinary_torch_file(tmp_path: Path) -> None:
    """torch.load and zipfile read the file as if it had no seal, also mapped into memory."""
    path = save(CheckpointManager(str(tmp_path)), 7)
    for options in ({}, {"mmap": True}):
        assert torch.load(path, weights_only=True, **options)["step"] == 7
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert file.comment.startswith(b'spectral-checkpoint 2 {"sequence": 1, "step": 7, "size": ')


class Colour(enum.IntEnum):
    """An enum that is a number too."""

    RED = 3


class Mode(enum.Enum):
    """An enum of texts."""

    FAST = "fast"


@dataclasses.dataclass
class Settings:
    """A dataclass with a foreign field."""

    folder: Path
    factor: float = 2.0


Pair = namedtuple("Pair", ["a", "b"])

FOREIGN = {
    "numpy float": (np.float32(0.5), 0.5),
    "numpy double": (np.float64(0.25), 0.25),
    "numpy long double": (np.longdouble(0.125), 0.125),
    "numpy integer": (np.int64(7), 7),
    "numpy boolean": (np.bool_(True), True),
    "numpy text": (np.str_("a"), "a"),
    "path": (Path("a/b"), "a/b"),
    "enum": (Colour.RED, 3),
    "enum of texts": (Mode.FAST, "fast"),
    "date": (date(2024, 1, 2), "2024-01-02"),
    "time": (time(3, 4), "03:04:00"),
    "size": (torch.ones(2, 3).shape, (2, 3)),
    "dataclass": (Settings(Path("x")), {"folder": "x", "factor": 2.0}),
    "datetime": (datetime(2024, 1, 2, 3), "2024-01-02T03:00:00"),
    "timedelta": (timedelta(minutes=1), 60.0),
    "defaultdict": (defaultdict(int, {"a": np.int8(1)}), {"a": 1}),
    "counter": (Counter("aab"), {"a": 2, "b": 1}),
    "named tuple": (Pair(1, np.float64(2)), (1, 2.0)),
    "frozenset": (frozenset({1, 2}), {1, 2}),
    "range": (range(3), [0, 1, 2]),
    "numpy keys": ({np.int64(3): 1}, {3: 1}),
    "texts of numpy": (np.array(["a", "b"]), ["a", "b"]),
    "complex": (1 + 2j, 1 + 2j),
    "bytes": (b"ab", b"ab"),
    "dtype": (torch.bfloat16, torch.bfloat16),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_value_that_torch_would_not_load_is_made_plain(tmp_path: Path, kind: str) -> None:
    """A value of a foreign type comes back as the plain value it stands for."""
    given_value, expected = FOREIGN[kind]
    save(CheckpointManager(str(tmp_path)), 1, state={"value": given_value, "nested": [{"value": given_value}]})
    loaded = CheckpointManager(str(tmp_path)).load_latest_checkpoint()
    assert loaded is not None
    assert loaded["state"] == {"value": expected, "nested": [{"value": expected}]}
    assert type(loaded["state"]["value"]) is type(expected)


@pytest.mark.parametrize("array", [np.arange(6, dtype=np.uint32)[::-2], np.full((), 1.5, np.float32), np.zeros((0, 2))])
def test_array_comes_back_as_a_tensor(tmp_path: Path, array: np.ndarray) -> None:
    """A numeric array is a tensor of its shape, type and values."""
    save(CheckpointManager(str(tmp_path)), 1, state={"array": array})
    loaded = CheckpointManager(str(tmp_path)).load_latest_checkpoint()
    assert loaded is not None
    np.testing.assert_array_equal(loaded["state"]["array"].numpy(), array, strict=True)


def test_versions_and_shared_storage_of_a_state_dict_survive(tmp_path: Path) -> None:
    """The versions that modules keep in their state_dict are there, and tied weights stay one storage."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[2].weight = model[1].weight
    CheckpointManager(str(tmp_path)).save_checkpoint(1, model, torch.optim.SGD(model.parameters()), [], {})
    loaded = CheckpointManager(str(tmp_path)).load_latest_checkpoint()
    assert loaded is not None
    state = loaded["model_state_dict"]
    assert type(state) is OrderedDict
    assert vars(state)["_metadata"]["0"] == {"version": 2}
    assert state["1.weight"].data_ptr() == state["2.weight"].data_ptr()


def test_value_that_could_not_be_loaded_is_named_before_anything_is_written(tmp_path: Path) -> None:
    """A function in the configuration is refused by its dotted name, and no file appears."""
    model, optimizer = trained()
    with pytest.raises(TypeError, match=r"checkpoint\.config\.model\.layers\[1\]: a function cannot be kept"):
        CheckpointManager(str(tmp_path)).save_checkpoint(
            1, model, optimizer, [], {"model": {"layers": [1, lambda: None]}}
        )
    assert list((tmp_path / "checkpoints").iterdir()) == []
