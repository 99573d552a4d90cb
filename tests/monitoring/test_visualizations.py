"""The plots that a run makes of itself."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from spectral_mlflow.config import ModelConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.models import gpt
from spectral_mlflow.monitoring import plot_keys
from spectral_mlflow.monitoring.visualizations import VisualizationManager, points

QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # Shrinking pictures takes minutes.
WAVE_PLOTS = ["frequencies", "frequency_evolution", "phases", "harmonics", "wave_packets", "interference"]


class Waves(nn.Module):
    """Something with waves, which is all that the plots know of a model."""

    def __init__(self, tokens: int = 6, waves: int = 3, harmonics: int = 2, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.frequencies = nn.Parameter(torch.rand(tokens, waves, generator=draw).to(dtype))
        self.phases = nn.Parameter(torch.rand(tokens, waves, generator=draw).to(dtype))
        self.amplitudes = nn.Parameter(torch.rand(tokens, waves, harmonics, generator=draw).to(dtype))


class WavesWithSpeeds(Waves):
    """Waves that know positions."""

    def __init__(self) -> None:
        super().__init__()
        self.phase_speeds = nn.Parameter(torch.tensor([0.1, 0.5, 3.0]))


def _model(part: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Sequential(part))


def _is_picture(path: str) -> bool:
    return Path(path).read_bytes().startswith(b"\x89PNG")


def _named(paths: list[str]) -> list[str]:
    return [Path(path).name for path in paths]


@given(step=st.integers(-10, 10_000), interval=st.integers(1, 500))
def test_plots_are_due_at_multiples(step: int, interval: int) -> None:
    """Plots are due at every positive multiple of the interval and at no other step."""
    assert VisualizationManager("plots", interval).should_visualize(step) == (step in range(interval, 10_001, interval))


def test_the_interval_is_positive_or_none() -> None:
    """An interval of 0 is never due; a negative one is a user's mistake, named with what is allowed."""
    assert not any(VisualizationManager("plots", 0).should_visualize(step) for step in range(5))
    with pytest.raises(UserError, match="viz_interval: given -1; allowed: 1 or more"):
        VisualizationManager("plots", -1)


def test_training_plots_carry_the_step(tmp_path: Path) -> None:
    """The loss and the panel are written as pictures, named by plot and step, into a folder made for them."""
    manager = VisualizationManager(str(tmp_path / "new" / "plots"))
    losses = [3.0, 2.5, 2.2]
    paths = manager.generate_training_plots(3, losses, {"learning_rate": [1e-3] * 3, "val_loss": [(3, 2.4)]})
    assert _named(paths) == ["loss_curve_step_3.png", "training_dynamics_step_3.png"]
    assert all(_is_picture(path) for path in paths)


@pytest.mark.parametrize("part", [Waves(), WavesWithSpeeds(), Waves(1, 1, 1), Waves(dtype=torch.bfloat16)])
def test_model_plots_are_found_by_their_names(part: nn.Module, tmp_path: Path) -> None:
    """Any part with frequencies, phases and amplitudes is drawn, wherever in the model it is."""
    paths = VisualizationManager(str(tmp_path)).generate_model_plots(20, _model(part))
    assert _named(paths) == [f"{name}_step_20.png" for name in [*WAVE_PLOTS, "parameters"]]
    assert all(_is_picture(path) for path in paths)


def test_a_second_part_has_files_of_its_own(tmp_path: Path) -> None:
    """Two parts with waves do not write over each other: the second one's files carry its name."""
    model = nn.ModuleDict({"one": Waves(), "two": nn.Sequential(Waves())})
    names = _named(VisualizationManager(str(tmp_path)).generate_model_plots(5, model))
    wanted = [f"{name}{part}_step_5.png" for part in ("", "_two_0") for name in WAVE_PLOTS]
    assert names == [*wanted, "parameters_step_5.png"]


def test_packets_are_of_the_tokens_asked_for(tmp_path: Path) -> None:
    """Tokens and their texts can be chosen, and change the picture."""
    manager = VisualizationManager(str(tmp_path))
    pictures = set()
    for tokens, text in (([1, 2], str), ([3, 4], str), ([1, 2], "abcdef".__getitem__)):
        paths = manager.generate_model_plots(1, _model(Waves()), tokens=tokens, token_text=text)
        (packets,) = (path for path in paths if "wave_packets" in path)
        pictures.add(Path(packets).read_bytes())
    assert len(pictures) == 3


def test_drawing_changes_no_model(tmp_path: Path) -> None:
    """Weights, gradients and random numbers are after the plots what they were before."""
    model = _model(WavesWithSpeeds())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    VisualizationManager(str(tmp_path)).generate_model_plots(1, model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state()) == str(numpy_state)


def test_a_model_without_waves_is_noted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without waves there are no model plots and one line in the log, however often they are due."""
    manager = VisualizationManager(str(tmp_path))
    with caplog.at_level("INFO"):
        assert [manager.generate_model_plots(step, nn.Linear(2, 2)) for step in (1, 2)] == [[], []]
    assert [record.getMessage() for record in caplog.records] == [
        "wave plots left out: no part of Linear has frequencies, phases and amplitudes"
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_plot_that_fails_is_left_out_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A failing plot is logged once with its name, the others are written, and it comes back when it can."""
    manager, part = VisualizationManager(str(tmp_path)), Waves()
    whole = part.phases
    part.phases = nn.Parameter(torch.rand(6, 7))
    others = ["frequencies", "frequency_evolution", "phases", "harmonics"]
    for step in (1, 2):
        drawn = _named(manager.generate_model_plots(step, part))
        assert drawn[:4] == [f"{name}_step_{step}.png" for name in others]
        assert drawn[4:] == ["parameters_step_1.png"] * (step == 1)
    names = [record.args[0] for record in caplog.records if isinstance(record.args, tuple)]
    assert names == ["wave_packets", "interference"]
    part.phases = whole
    assert len(manager.generate_model_plots(3, part)) == len(WAVE_PLOTS)
    part.phases = nn.Parameter(torch.rand(6, 7))
    manager.generate_model_plots(4, part)
    assert len(caplog.records) == 4


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the folder cannot be made, the log says so once; once it can, plots are written."""
    (tmp_path / "file").write_text("in the way")
    manager = VisualizationManager(str(tmp_path / "file" / "plots"))
    assert manager.generate_training_plots(1, [1.0], {}) == []
    assert manager.generate_model_plots(1, Waves()) == []
    assert len(caplog.records) == 1
    assert "cannot be written" in caplog.records[0].getMessage()
    assert caplog.records[0].levelno == logging.WARNING
    (tmp_path / "file").unlink()
    assert len(manager.generate_training_plots(2, [1.0, 0.9], {})) == 2


def test_plots_of_a_killed_run_are_whole(tmp_path: Path) -> None:
    """A process that is killed between plots leaves whole pictures and no half ones."""
    code = (
        "import os, signal, sys; from spectral_mlflow.monitoring.visualizations import VisualizationManager\n"
        "VisualizationManager(sys.argv[1]).generate_training_plots(7, [3.0, 2.0], {})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "plots")])
    assert done.returncode == -9
    paths = sorted(map(str, (tmp_path / "plots").iterdir()))
    assert _named(paths) == ["loss_curve_step_7.png", "training_dynamics_step_7.png"]
    assert all(_is_picture(path) for path in paths)


def test_importing_is_cheap() -> None:
    """The module imports neither matplotlib nor torch before something is drawn, and never pyplot."""
    code = (
        "import sys, tempfile; from spectral_mlflow.monitoring.visualizations import VisualizationManager\n"
        "print([name for name in ('matplotlib', 'torch') if name in sys.modules])\n"
        "VisualizationManager(tempfile.mkdtemp()).generate_training_plots(1, [1.0], {})\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_comparisons_group_seeds_by_name(tmp_path: Path) -> None:
    """Each metric that experiments share is a picture, named by the last step of all."""
    experiments: list[dict[str, Any]] = [
        {"name": "wave", "loss_history": [3.0, 2.0, 1.0], "metrics": {"val_loss": [(2, 2.5), (5, 2.0)]}},
        {"name": "wave", "loss_history": [3.1, 2.1, 1.1]},
        {"experiment_id": "standard_1", "metrics": {"step": [10, 20], "loss": [3.0, 2.0]}},
    ]
    manager = VisualizationManager(str(tmp_path))
    paths = manager.generate_comparison_plots(experiments)
    assert _named(paths) == ["comparison_val_loss_step_20.png", "comparison_loss_step_20.png"]
    assert all(_is_picture(path) for path in paths)
    assert manager.generate_comparison_plots([]) == []


@pytest.mark.parametrize(
    ("values", "steps", "expected"),
    [
        ([5.0, 6.0], [10, 20], ([10, 20], [5, 6])),
        ([(10, 5.0), (30, 6.0)], [1], ([10, 30], [5, 6])),
        ([5.0, None], range(1, 3), ([1, 2], [5, float("nan")])),
        ([5.0, 6.0], range(1, 1001), ([500, 1000], [5, 6])),
        ([5.0, 6.0, 7.0], [10], ([1, 2, 3], [5, 6, 7])),
        ([], [], ([], [])),
    ],
)
def test_values_find_their_steps(
    values: list[Any], steps: list[int], expected: tuple[list[float], list[float]]
) -> None:
    """Pairs bring their steps; a shorter list is spread evenly to the end; a longer one counts from 1."""
    known_steps, known_values = points(values, steps)
    np.testing.assert_array_equal(known_steps, expected[0])
    np.testing.assert_array_equal(known_values, expected[1])


@settings(max_examples=8, phases=QUICK)
@given(
    step=st.integers(1, 10**9),
    losses=st.lists(st.floats(), max_size=6),
    metrics=st.dictionaries(
        st.sampled_from(["loss", "val_loss", "perplexity", "grad/norm", "step", "mine"]),
        st.lists(st.none() | st.floats(), max_size=6)
        | st.lists(st.tuples(st.integers(0, 99), st.floats()), max_size=6),
        max_size=4,
    ),
)
def test_any_history_gives_plots_of_its_step(
    step: int, losses: list[float], metrics: dict[str, list[Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever was measured, nothing is raised, and what is written carries the step; with sound steps that is all."""
    paths = VisualizationManager(str(tmp_path_factory.mktemp("plots"))).generate_training_plots(step, losses, metrics)
    assert set(_named(paths)) <= {f"loss_curve_step_{step}.png", f"training_dynamics_step_{step}.png"}
    assert len(paths) == 2 or "step" in metrics


@settings(max_examples=5, phases=QUICK)
@given(shape=st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 5)))
def test_any_model_has_all_its_plots(shape: tuple[int, int, int], tmp_path_factory: pytest.TempPathFactory) -> None:
    """For any number of tokens, waves and harmonics there are all plots."""
    paths = VisualizationManager(str(tmp_path_factory.mktemp("plots"))).generate_model_plots(9, Waves(*shape))
    assert _named(paths) == [f"{name}_step_9.png" for name in [*WAVE_PLOTS, "parameters"]]


def test_two_experiments_share_no_file(tmp_path: Path) -> None:
    """Managers of different run directories never write the same file."""
    one, two = (VisualizationManager(str(tmp_path / name)).generate_training_plots(1, [1.0], {}) for name in "ab")
    assert not set(one) & set(two)


def test_a_model_that_cannot_be_looked_at_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises is logged once."""
    manager, part = VisualizationManager(str(tmp_path)), Waves()
    part.amplitudes = nn.Parameter(torch.ones(0, 3, 2))
    part.frequencies = nn.Parameter(torch.ones(2, 3, device="meta"))
    assert [manager.generate_model_plots(step, part) for step in (1, 2)] == [[], []]
    assert len(caplog.records) == 1
    assert "plots of the model left out" in caplog.records[0].getMessage()


def test_attention_is_drawn_of_a_passage(tmp_path: Path) -> None:
    """A wave model has maps and coherence, a standard one maps alone; without a passage neither is known."""
    for kind, plots in (("wave", {"attention_maps", "phase_coherence"}), ("standard", {"attention_maps"})):
        model = gpt.build(ModelConfig(type=kind, d_model=8, num_layers=1, num_heads=2, block_size=8), 5, seed=0)
        manager = VisualizationManager(str(tmp_path / kind))
        drawn = {Path(path).name for path in manager.generate_model_plots(1, model, passage=torch.arange(4))}
        assert {f"{name}_step_1.png" for name in plots} == {n for n in drawn if n.startswith(("attention", "phase_c"))}
    assert VisualizationManager(str(tmp_path / "none")).generate_model_plots(1, model) == []


def test_every_plot_stands_beside_the_charts_of_its_prefix() -> None:
    """Names of images have two levels; that of a further part of a model is named after it."""
    assert all(len(key.split("/")) == 2 for key in plot_keys.KEYS.values())
    assert plot_keys.key_of("wave_packets") == "wave/packets"
    assert plot_keys.key_of("wave_packets_decoder_0") == "wave/packets_decoder_0"
    assert plot_keys.key_of("frequency_evolution") == "wave/frequency_evolution"
    assert plot_keys.key_of("mine") == "plots/mine"


def test_metrics_that_are_none_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Texts, single numbers, tensors with gradients and numbers beyond all bounds cost their own curve alone."""
    manager = VisualizationManager(str(tmp_path))
    odd: Any = {
        "phase": ["a", "b"], "single": 4.0, "huge": [10**400] * 2,
        "forgotten": [torch.ones((), requires_grad=True)] * 2,
    }  # fmt: skip
    assert len(manager.generate_training_plots(1, [3.0, 2.0], {**odd, "val_loss": [2.5, 2.0]})) == 2
    assert len(caplog.records) == 4
    assert len(manager.generate_training_plots(2, [], {"loss": [3.0, 2.0, 1.0]})) == 2
    experiments: list[dict[str, Any]] = [{"name": "a", "metrics": None, "loss_history": None}, {"loss_history": ["x"]}]
    assert manager.generate_comparison_plots(experiments) == []
