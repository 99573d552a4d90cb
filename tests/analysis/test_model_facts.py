"""Shapes, parameters and operations that are read from the models."""

from itertools import product

import pytest

from spectral_mlflow.analysis import model_facts
from spectral_mlflow.config import ModelConfig
from spectral_mlflow.models.gpt import GPT

KINDS = ("standard", "wave")
MIXED = [dict(zip(("embedding", "attention", "feedforward"), kinds, strict=True)) for kinds in product(KINDS, repeat=3)]


@pytest.mark.parametrize("kinds", MIXED, ids=lambda kinds: "-".join(kinds.values()))
def test_layers_add_up_to_the_model(kinds: dict[str, str]) -> None:
    """Rows, groups and the boxes of the drawing have together what the model counts of itself, in any mixture."""
    config = ModelConfig(**kinds, d_model=16, num_heads=2, num_layers=3, block_size=8)
    model = GPT(config, 11)
    total = model_facts.groups(config, 11)["total"]
    assert total.parameters == model.num_parameters()
    assert total.flops == model.flops_per_token()
    rows = model_facts.layers(config, 11)
    assert sum(row.cost.parameters for row in rows) == total.parameters
    assert sum(row.cost.flops for row in rows) == total.flops
    assert sum(part.parameters for part in model_facts.drawing(config, 11)) == total.parameters


def test_what_can_be_exchanged_is_named() -> None:
    """Weights of the three layers have their component, norms and head are shared; blocks are counted."""
    config = ModelConfig(type="wave", attention="standard", d_model=16, num_heads=2, num_layers=3)
    rows = {row.name: row for row in model_facts.layers(config, 11)}
    assert rows["embedding.frequencies"].component == "wave"
    assert rows["attention.query_key_value.weight"].component == "standard"
    assert (rows["attention_norm.weight"].group, rows["attention_norm.weight"].component) == ("norms", "shared")
    assert (rows["norm.weight"].group, rows["head.weight"].group) == ("norms", "head")
    assert rows["attention.query_key_value.weight"].times == 3
    assert rows["attention.query_key_value.weight"].shape_text == "48 \N{MULTIPLICATION SIGN} 16"
    assert rows["embedding.ratio_logit"].shape_text == "scalar"


@pytest.mark.parametrize("pure", [True, False])
def test_a_drawing_says_whether_there_is_a_lookup(pure: bool) -> None:
    """A pure wave embedding is drawn without the table that a mixed one has."""
    drawn = model_facts.drawing(ModelConfig(type="wave", pure_wave=pure, d_model=16, num_heads=2), 11)
    assert any("lookup" in line for line in drawn[0].lines) is not pure
