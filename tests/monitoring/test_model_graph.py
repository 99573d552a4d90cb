"""The graph of a model in a file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")

from tensorboard.compat.proto.graph_pb2 import GraphDef

from spectral_mlflow.errors import UserError
from spectral_mlflow.models.gpt import GPT
from spectral_mlflow.monitoring.model_graph import write_model_graph
from spectral_mlflow.settings import build

SMALL = {"model.d_model": "16", "model.num_layers": "1", "model.num_heads": "2", "model.block_size": "8"}


@pytest.mark.parametrize("kind", ["wave", "standard"])
def test_graph_names_the_parts_and_changes_nothing(kind: str, tmp_path: Path) -> None:
    """The file has the modules of the model; its mode and the next random number are as without it."""
    model = GPT(build({"model.type": kind, **SMALL}).model, 11).train()
    model.norm.eval()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    path = write_model_graph(model, torch.zeros(1, 8, dtype=torch.int64), tmp_path / "graph.pb")
    assert torch.equal(torch.rand(2), expected)
    assert (model.training, model.norm.training, model.head.training) == (True, False, True)
    names = [node.name for node in GraphDef.FromString(path.read_bytes()).node]
    assert any("attention" in name for name in names)
    assert any("embedding" in name for name in names)


class _Unwilling(torch.nn.Module):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"not {tokens.shape}\nin detail")


def test_what_cannot_be_traced_is_named(tmp_path: Path) -> None:
    """A model that fails under the tracer costs one line and no file."""
    with pytest.raises(UserError, match=r"cannot be traced: not torch\.Size\(\[1, 2\]\); set it to false"):
        write_model_graph(_Unwilling(), torch.zeros(1, 2, dtype=torch.int64), tmp_path / "graph.pb")
    assert not (tmp_path / "graph.pb").exists()


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TensorBoard the message says what to install."""
    for name in [name for name in sys.modules if name == "torch.utils.tensorboard" or name.startswith("tensorboard.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"spectral-mlflow\[tensorboard\]"):
        write_model_graph(_Unwilling(), torch.zeros(1, 2, dtype=torch.int64), tmp_path / "graph.pb")
