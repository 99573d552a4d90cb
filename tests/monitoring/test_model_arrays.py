"""What plots are drawn from, taken from a model and kept in a file."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spectral_mlflow.config import ModelConfig
from spectral_mlflow.models import gpt
from spectral_mlflow.models.gpt import GPT
from spectral_mlflow.monitoring import model_arrays
from spectral_mlflow.monitoring.model_arrays import AttentionArrays, ModelArrays
from spectral_mlflow.monitoring.observation import MOST_MAPS, MOST_TOKENS, PACKETS, PASSAGE, frequent, observe


def model(kind: str = "wave", *, vocab_size: int = 11, **sizes: int) -> GPT:
    """A small one of ours, in training."""
    defaults = {"d_model": 16, "num_layers": 2, "num_heads": 2, "block_size": 64}
    return gpt.build(ModelConfig(type=kind, **{**defaults, **sizes}), vocab_size, seed=0).train()


def test_a_wave_model_is_observed_whole() -> None:
    """Waves of its tokens, its attention in a passage with the texts of that, and its parameters to the last one."""
    of, passage = model(), torch.tensor([3, 1, 4, 1, 5])
    seen = observe(of, tokens=[4, 2], token_text="abcdefghijk".__getitem__, passage=passage)
    (waves,) = seen.waves.values()
    np.testing.assert_allclose(waves.frequencies, of.embedding.frequencies.detach())
    assert (waves.frequencies[list(waves.shown)].tolist(), waves.labels) == (
        of.embedding.frequencies[[4, 2]].tolist(), ["e", "c"],
    )  # fmt: skip
    assert seen.attention is not None
    assert seen.attention.weights.shape == (2, 2, 5, 5)
    assert seen.attention.coherence is not None
    assert seen.attention.labels == ["d", "b", "e", "b", "f"]
    assert sum(seen.parameters.values()) == of.num_parameters()
    assert set(seen.metrics()) == {"attention/entropy", "attention/coherence"}


def test_a_standard_model_attends_without_phases() -> None:
    """It has no waves and no coherence."""
    seen = observe(model("standard"), passage=torch.arange(8))
    assert seen.waves == {}
    assert seen.attention is not None
    assert seen.attention.coherence is None
    assert set(seen.metrics()) == {"attention/entropy"}


def test_observing_leaves_the_model_as_it_was() -> None:
    """Weights, gradients, mode, hooks and random numbers stay, with dropout in the model too."""
    of = gpt.build(ModelConfig(type="wave", d_model=16, num_layers=1, num_heads=2, dropout=0.5), 11, seed=0).train()
    of(torch.arange(8)[None]).sum().backward()
    before = {name: (p.clone(), None if p.grad is None else p.grad.clone()) for name, p in of.named_parameters()}
    random = torch.get_rng_state()
    first, second = (observe(of, passage=torch.arange(8)) for _ in range(2))
    assert of.training
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(part._forward_pre_hooks for part in of.modules())
    for name, parameter in of.named_parameters():
        value, gradient = before[name]
        assert torch.equal(parameter, value)
        assert (parameter.grad is None) == (gradient is None)
        assert parameter.grad is None or torch.equal(parameter.grad, gradient)
    assert first.attention is not None
    assert second.attention is not None
    np.testing.assert_array_equal(first.attention.weights, second.attention.weights)


def test_every_part_keeps_its_mode() -> None:
    """A part that does not train, in a model that does, stays so."""
    of = model()
    of.blocks[0].eval()
    observe(of, passage=torch.arange(8))
    assert of.training
    assert not of.blocks[0].attention.training
    assert of.blocks[1].attention.training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", ["wave", "standard"])
def test_any_precision_is_observed(kind: str, dtype: torch.dtype) -> None:
    """Attention and waves of models that are not in float32."""
    seen = observe(model(kind).to(dtype), passage=torch.arange(8))
    assert seen.attention is not None
    assert np.isfinite(seen.attention.weights).all()


def test_a_passage_without_room_leaves_the_waves(caplog: pytest.LogCaptureFixture) -> None:
    """Only the attention is missing, and the log says why."""
    seen = observe(model(block_size=4), passage=torch.arange(8))
    assert (seen.attention, len(seen.waves)) == (None, 1)
    assert "attention is not drawn" in caplog.text


def test_what_is_kept_is_small_whatever_the_model() -> None:
    """Of many tokens, layers and heads some are taken, evenly; of a long passage the beginning."""
    of = model(vocab_size=3 * MOST_TOKENS, num_layers=MOST_MAPS + 1, num_heads=16, d_model=64)
    seen = observe(of, passage=torch.arange(PASSAGE + 9))
    (waves,) = seen.waves.values()
    assert len(waves.frequencies) <= MOST_TOKENS + PACKETS
    assert seen.attention is not None
    assert seen.attention.weights.shape == (MOST_MAPS, MOST_MAPS, PASSAGE, PASSAGE)
    assert (seen.attention.layers[-1], seen.attention.heads[-1], seen.attention.of) == (MOST_MAPS + 1, 16, (9, 16))
    assert (waves.vocabulary, seen.context) == (3 * MOST_TOKENS, 64)


def test_a_foreign_model_has_parameters_only() -> None:
    """Nothing is known of how it attends."""
    seen = observe(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), passage=torch.arange(4))
    assert (seen.waves, seen.attention, sum(seen.parameters.values())) == ({}, None, 13)


def test_repeated_blocks_count_together() -> None:
    """A part of the model is named by what it is, not by which layer it is in."""
    parts = observe(model("standard")).parameters
    assert {"blocks.attention", "blocks.feedforward", "head"} <= set(parts)


@pytest.mark.parametrize("kind", ["wave", "standard"])
def test_a_file_gives_back_what_was_saved(kind: str, tmp_path: Path) -> None:
    """Every array and every text, without unpickling anything."""
    seen = observe(model(kind), token_text=lambda token: f"\N{SNOWMAN}{token}", passage=torch.arange(6))
    path = model_arrays.path_of(tmp_path, 250)
    seen.save(path)
    back = ModelArrays.load(path)
    assert (back.kind, back.parameters, list(back.waves)) == (seen.kind, seen.parameters, list(seen.waves))
    for name, waves in seen.waves.items():
        for array in model_arrays.WAVES:
            np.testing.assert_array_equal(getattr(back.waves[name], array), getattr(waves, array))
        assert (back.waves[name].shown, back.waves[name].labels) == (waves.shown, waves.labels)
    assert back.attention is not None
    assert seen.attention is not None
    np.testing.assert_array_equal(back.attention.weights, seen.attention.weights)
    assert (back.attention.coherence is None) == (kind == "standard")
    assert back.metrics() == seen.metrics()


@settings(max_examples=30)
@given(place=st.floats(0, 1), byte=st.integers(0, 255))
def test_a_damaged_file_is_refused_or_whole(place: float, byte: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever a byte has become and wherever the file ends, it is one of the two failures that are named."""
    path = tmp_path_factory.mktemp("arrays") / "model_step_1.npz"
    observe(model(num_layers=1)).save(path)
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] = byte
    for damaged in (content, content[: int(place * len(content))]):
        path.write_bytes(damaged)
        with suppress(OSError, ValueError):
            ModelArrays.load(path)


def test_steps_are_found_in_order(tmp_path: Path) -> None:
    """Other files in the folder are none."""
    for step in (1000, 250, 30):
        observe(model(num_layers=1)).save(model_arrays.path_of(tmp_path, step))
    (tmp_path / "data" / ".model_step_7.npz.0badcafe.tmp").touch()
    (tmp_path / "data" / "model_step_x.npz").touch()
    assert model_arrays.steps_in(tmp_path) == [30, 250, 1000]
    assert model_arrays.steps_in(tmp_path / "none") == []


def test_entropy_and_coherence_are_those_of_the_definition() -> None:
    """Looking at all alike has the logarithm of their number, at one has none; what is later does not count."""
    seen = {"layers": [1], "heads": [1], "of": (1, 1)}
    weights = np.tril(np.ones((1, 1, 4, 4))) / np.arange(1, 5)[:, None]
    even = AttentionArrays(weights, np.tri(4)[None, None], "abcd", **seen)
    assert even.metrics()["attention/entropy"] == pytest.approx(np.log([1, 2, 3, 4]).mean())
    assert even.metrics()["attention/coherence"] == 1
    assert AttentionArrays(np.eye(3)[None, None], None, "abc", **seen).metrics() == {"attention/entropy": 0}


def test_frequent_tokens_come_first() -> None:
    """Of equally frequent ones the one that was first."""
    assert frequent(torch.tensor([5, 2, 2, 7, 5, 2, 9]), 3) == [2, 5, 7]


def test_reading_them_needs_no_torch() -> None:
    """The process that draws has none of its weight."""
    code = "import sys, spectral_mlflow.monitoring.plot_worker; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
