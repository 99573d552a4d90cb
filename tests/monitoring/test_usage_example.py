"""The usage example that the monitoring classes were specified with, run as printed."""

from pathlib import Path

import pytest
import torch
from torch import nn

EXAMPLE = """
from spectral_mlflow.monitoring import (
    generate_experiment_id,
    create_experiment_directory,
    CheckpointManager,
    MetricsLogger,
    VisualizationManager,
    ConfigTracker
)

# Setup
exp_id = generate_experiment_id("my_experiment")
dirs = create_experiment_directory("experiments", exp_id)

# Initialize components
checkpoint_manager = CheckpointManager(dirs['root'], save_interval=1000)
metrics_logger = MetricsLogger(dirs['logs'], log_interval=10)
viz_manager = VisualizationManager(dirs['visualizations'], viz_interval=1000)
config_tracker = ConfigTracker(dirs['root'])

# Save config
config_tracker.save_config(config, model=model)

# Training loop
for step in range(1, max_steps + 1):
    loss = train_step(model, optimizer, data)
    
    if metrics_logger.should_log(step):
        metrics_logger.log_metrics(step, {'loss': loss, 'lr': lr})
    
    if checkpoint_manager.should_checkpoint(step):
        checkpoint_manager.save_checkpoint(step, model, optimizer, losses, config)
    
    if viz_manager.should_visualize(step):
        viz_manager.generate_training_plots(step, losses, metrics)
        viz_manager.generate_model_plots(step, model)

# Save results
config_tracker.save_results(final_metrics)
"""  # noqa: W293 - as printed


def test_the_printed_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its undefined names defined, the example writes everything it says."""
    monkeypatch.chdir(tmp_path)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses: list[float] = []

    def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, data: torch.Tensor) -> float:
        loss = model(data).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        return losses[-1]

    names = {
        "model": model, "optimizer": optimizer, "data": torch.ones(4, 2), "losses": losses, "lr": 0.1,
        "max_steps": 2000, "train_step": train_step, "config": {"training": {"lr": 0.1}},
        "metrics": {"loss": losses}, "final_metrics": {"val_loss": 0.5},
    }  # fmt: skip
    exec(EXAMPLE, names)  # noqa: S102 - the example is the text above
    (run,) = (tmp_path / "experiments").iterdir()
    assert run.name.startswith("my_experiment_")
    assert (run / "checkpoints" / "checkpoint_step_2000.pt").is_file()
    assert len((run / "logs" / "metrics.jsonl").read_text().splitlines()) == 200
    assert (run / "visualizations" / "loss_curve_step_1000.png").stat().st_size > 1000
    assert (run / "config.json").is_file()
    assert (run / "results.json").is_file()
