"""Histograms of the parameters of a model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from spectral_mlflow.models.gpt import GPT
from spectral_mlflow.monitoring.histograms import BUCKETS, write_histograms
from spectral_mlflow.settings import build


def test_every_value_is_counted_once(tmp_path: Path) -> None:
    """Each parameter, wave parts included, has as many values in its buckets as it has, between its extremes."""
    small = {"model.d_model": "16", "model.num_layers": "1", "model.num_heads": "2", "model.block_size": "8"}
    model = GPT(build({"model.type": "wave", **small}).model, 11)
    path = write_histograms(model, 50, tmp_path / "histograms")
    assert path == tmp_path / "histograms" / "histograms_step_50.json"
    found = json.loads(path.read_text())["parameters"]
    parameters = dict(model.named_parameters())
    assert found.keys() == parameters.keys()
    assert "embedding.frequencies" in found
    for name, parameter in parameters.items():
        values = parameter.detach()
        assert sum(found[name]["counts"]) == values.numel()
        assert len(found[name]["edges"]) == len(found[name]["counts"]) + 1 == BUCKETS + 1
        assert found[name]["edges"][0] <= float(values.min()) <= float(values.max()) <= found[name]["edges"][-1] + 1e-12


@pytest.mark.parametrize(
    ("values", "counted", "invalid"),
    [([1.0, math.nan, 3.0, math.inf], 2, 2), ([math.nan], 0, 1), ([2.0, 2.0], 2, 0), ([], 0, 0)],
)
def test_values_that_have_no_place(values: list[float], counted: int, invalid: int, tmp_path: Path) -> None:
    """What is not finite is counted apart; one value alone, or none, still has buckets with a width."""
    model = torch.nn.Module()
    model.register_parameter("weight", torch.nn.Parameter(torch.tensor(values)))
    found = json.loads(write_histograms(model, 1, tmp_path).read_text())["parameters"]["weight"]
    assert (sum(found["counts"]), found["invalid"]) == (counted, invalid)
    assert found["edges"][0] < found["edges"][-1]
