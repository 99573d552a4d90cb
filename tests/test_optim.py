"""Optimizers and the learning rate."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmarks.references import LiteralRGD
from spectral_mlflow.config import ModelConfig, TrainingConfig
from spectral_mlflow.models.gpt import build
from spectral_mlflow.optim import RGD, build_optimizer, learning_rate

SHAPES = [(7,), (6, 10), (5, 9), (1, 8), (4, 1), (5, 3, 4), ()]


def tensors(shapes: list[tuple[int, ...]], seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Random parameters."""
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def set_gradients(parameters: list[Tensor], seed: int) -> None:
    """Random gradients of very different sizes, the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    for index, parameter in enumerate(parameters):
        parameter.grad = 10.0**-index * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(
            parameter.dtype
        )


@pytest.mark.parametrize(
    ("preserve_norm", "filter_rows", "warmup"), list(itertools.product([True, False], [True, False], [0, 5]))
)
def test_rgd_equals_the_literal_formula(preserve_norm: bool, filter_rows: bool, warmup: int) -> None:
    """In lockstep with the formula as written, for odd, even and degenerate shapes."""
    options = {
        "lr": 0.01, "weight_decay": 0.1, "strength": 0.6, "warmup": warmup,
        "preserve_norm": preserve_norm, "filter_rows": filter_rows,
    }  # fmt: skip
    fast, slow = tensors(SHAPES), tensors(SHAPES)
    optimizer, reference = RGD(fast, **options), LiteralRGD(slow, **options)
    for step in range(12):
        for parameters in (fast, slow):
            set_gradients(parameters, step)
        optimizer.step()
        reference.step()
        for one, other in zip(fast, slow, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("preserve_norm", [True, False])
def test_rgd_without_strength_is_adamw(dtype: torch.dtype, preserve_norm: bool) -> None:
    """At strength 0, in lockstep with torch's AdamW up to rounding."""
    ours, torchs = tensors(SHAPES, dtype=dtype), tensors(SHAPES, dtype=dtype)
    one = RGD(ours, lr=0.01, weight_decay=0.1, strength=0.0, preserve_norm=preserve_norm)
    other = torch.optim.AdamW(torchs, lr=0.01, weight_decay=0.1)
    for step in range(30):
        for parameters in (ours, torchs):
            set_gradients(parameters, step)
        one.step()
        other.step()
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    for mine, theirs in zip(ours, torchs, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


@settings(max_examples=40)
@given(
    rows=st.integers(1, 9), columns=st.integers(1, 9), strength=st.floats(0, 1), seed=st.integers(0, 99),
    filter_rows=st.booleans(),
)  # fmt: skip
def test_gate_keeps_or_shortens_the_update(
    rows: int, columns: int, strength: float, seed: int, filter_rows: bool
) -> None:
    """The gate never lengthens an update, and leaves its length alone if asked to."""
    lengths = {}
    for kind, depth, preserve in (("adam", 0.0, False), ("literal", strength, False), ("preserved", strength, True)):
        (parameter,) = tensors([(rows, columns)], seed)
        before = parameter.detach().clone()
        set_gradients([parameter], seed + 1)
        RGD([parameter], lr=1.0, strength=depth, warmup=0, preserve_norm=preserve, filter_rows=filter_rows).step()
        lengths[kind] = (parameter - before).norm().item()
    assert lengths["literal"] <= lengths["adam"] * (1 + 1e-8)  # eps lets the gate exceed 1 by 5e-9
    assert lengths["preserved"] == pytest.approx(lengths["adam"], rel=1e-9)


def test_zeros_stay_finite() -> None:
    """A parameter of zeros, and a gradient of zeros, give finite updates."""
    parameters = [nn.Parameter(torch.zeros(4, 6)), nn.Parameter(torch.ones(4, 6))]
    optimizer = RGD(parameters, lr=0.1)
    parameters[0].grad = torch.ones(4, 6)
    parameters[1].grad = torch.zeros(4, 6)
    optimizer.step()
    assert all(parameter.isfinite().all() for parameter in parameters)
    assert torch.equal(parameters[1], torch.ones(4, 6))


def test_rows_of_a_table_do_not_meet() -> None:
    """Without filtering rows, permuting the rows of a table permutes its update."""
    order = torch.tensor([3, 0, 4, 1, 2])
    (one,), (other,) = tensors([(5, 8)]), tensors([(5, 8)])
    with torch.no_grad():
        other.copy_(one[order])
    set_gradients([one], 1)
    other.grad = one.grad[order]
    for parameter in (one, other):
        RGD([parameter], lr=0.1, warmup=0, filter_rows=False).step()
    torch.testing.assert_close(other, one[order])


@pytest.mark.parametrize("name", ["AdamW", "RGD"])
def test_state_survives_a_file(name: str, tmp_path) -> None:
    """Saved and loaded without pickles of code, an optimizer goes on to the last bit."""
    torch.manual_seed(0)
    config = TrainingConfig(optimizer=name)
    model_config = ModelConfig(d_model=16, num_layers=1, num_heads=2, block_size=8)
    runs = []
    for interrupted in (False, True):
        model = build(model_config, 9, seed=0)
        optimizer = build_optimizer(model, config)
        for step in range(6):
            if interrupted and step == 3:
                torch.save([model.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
                states = torch.load(tmp_path / "state.pt", weights_only=True)
                model = build(model_config, 9, seed=1)
                optimizer = build_optimizer(model, config)
                model.load_state_dict(states[0])
                optimizer.load_state_dict(states[1])
            set_gradients(list(model.parameters()), step)
            optimizer.step()
        runs.append(model.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.parametrize("kind", ["wave", "standard"])
@pytest.mark.parametrize("name", ["AdamW", "RGD"])
def test_decay_and_filter_choose_their_parameters(kind: str, name: str) -> None:
    """Matrices decay, wave and one-dimensional parameters do not; only vocabulary tables are spared the row filter."""
    model = build(ModelConfig(type=kind, d_model=16, num_layers=1, num_heads=2, block_size=8), 9, seed=0)
    optimizer = build_optimizer(model, TrainingConfig(optimizer=name, weight_decay=0.3))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    still, tables, seen = set(), set(), []
    for group in optimizer.param_groups:
        members = [names[id(parameter)] for parameter in group["params"]]
        seen += members
        assert group["weight_decay"] in (0.0, 0.3)
        if group["weight_decay"] == 0:
            still.update(members)
        if not group.get("filter_rows", True):
            tables.update(members)
    assert sorted(seen) == sorted(names.values())
    norms = {"norm.weight", "blocks.0.attention_norm.weight", "blocks.0.feedforward_norm.weight"}
    waves = {
        "embedding.frequencies", "embedding.phases", "embedding.amplitudes", "embedding.phase_speeds",
        "embedding.ratio_logit", "blocks.0.attention.log_tau",
    }  # fmt: skip
    assert still == (norms | waves if kind == "wave" else norms)
    wave_tables = {"embedding.frequencies", "embedding.phases", "embedding.amplitudes"} if kind == "wave" else set()
    assert tables == ({"head.weight", "embedding.lookup.weight"} | wave_tables if name == "RGD" else set())
    if name == "AdamW":
        assert type(optimizer) is torch.optim.AdamW
        assert len(optimizer.param_groups) == 2


def test_settings_reach_the_optimizer() -> None:
    """Every setting of RGD is the one of the configuration."""
    config = TrainingConfig(optimizer="RGD", lr=0.02, rgd_strength=0.7, rgd_warmup=9, rgd_preserve_norm=False)
    optimizer = build_optimizer(nn.Linear(3, 4), config)
    for group in optimizer.param_groups:
        assert (group["lr"], group["strength"], group["warmup"], group["preserve_norm"]) == (0.02, 0.7, 9, False)
        assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-8)


def test_closure_and_missing_gradients() -> None:
    """The closure's loss comes back, and a parameter without a gradient stays as it is."""
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = RGD([used, unused], lr=0.1, weight_decay=0.5)

    def closure() -> float:
        loss = used.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert (used < 1).all()
    assert torch.equal(unused, torch.ones(2, 2))


schedules = st.builds(
    TrainingConfig,
    steps=st.integers(1, 300),
    warmup_steps=st.integers(0, 100),
    lr=st.floats(1e-6, 1),
    min_lr_ratio=st.floats(0, 1),
)


@given(schedules)
def test_learning_rate_rises_then_falls(config: TrainingConfig) -> None:
    """It rises up to the end of the warm-up, falls from there on, and never leaves (0, lr]."""
    rates = [learning_rate(step, config) for step in range(1, config.steps + 20)]
    top = max(config.warmup_steps, 1) - 1
    assert all(0 <= rate <= config.lr * (1 + 1e-12) for rate in rates)
    assert all(a < b for a, b in itertools.pairwise(rates[: top + 1]))
    assert all(a >= b - 1e-15 for a, b in itertools.pairwise(rates[top:]))


def test_learning_rate_at_its_corners() -> None:
    """It reaches lr at the end of the warm-up, the mean half-way from there, and the lowest at the last step."""
    config = TrainingConfig(steps=110, warmup_steps=10, lr=0.5, min_lr_ratio=0.2)
    assert learning_rate(1, config) == pytest.approx(0.05)
    assert learning_rate(10, config) == 0.5
    assert learning_rate(60, config) == pytest.approx(0.3)
    assert learning_rate(35, config) == pytest.approx(0.1 + 0.4 * (1 + math.sqrt(0.5)) / 2)
    assert learning_rate(110, config) == pytest.approx(0.1)
    assert learning_rate(500, config) == pytest.approx(0.1)
