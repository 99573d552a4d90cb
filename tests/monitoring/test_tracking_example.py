"""The training loop that the tracker was specified with, run as printed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig, MonitoringConfig
from spectral_mlflow.monitoring import CheckpointManager, CodeProfiler, ExperimentTracker

TRAINER = """
class SEOTrainer:
    def __init__(self, model, optimizer, scheduler, experiment_tracker):
        self.experiment_tracker = experiment_tracker
    
    def train(self, train_loader, val_loader, num_epochs):
        # Start experiment
        self.experiment_tracker.start_experiment()
        
        try:
            for epoch in range(num_epochs):
                # Training and validation
                train_metrics = self._train_epoch(train_loader)
                val_metrics = self._validate_epoch(val_loader)
                
                # Log metrics
                combined_metrics = {**train_metrics, **val_metrics}
                self.experiment_tracker.log_metrics(combined_metrics, self.current_step, epoch)
                
                # Save checkpoint
                if self._should_save_checkpoint():
                    self.experiment_tracker.save_checkpoint(
                        self.model, self.optimizer, self.scheduler, 
                        self.current_step, combined_metrics
                    )
            
            # End successfully
            self.experiment_tracker.end_experiment("completed")
            
        except Exception as e:
            # Log error and end experiment
            self.experiment_tracker.end_experiment("failed", str(e))
            raise
"""  # noqa: W291, W293 - as printed


def trainer(tracker: ExperimentTracker, *, fails: bool = False) -> Any:
    """That trainer, with what it leaves to its user."""
    names: dict[str, Any] = {}
    exec(TRAINER, names)  # noqa: S102 - the text above
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)

    class Trainer(names["SEOTrainer"]):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(model, optimizer, scheduler, tracker)
            self.model, self.optimizer, self.scheduler, self.current_step = model, optimizer, scheduler, 0

        def _train_epoch(self, loader: list[torch.Tensor]) -> dict[str, float]:
            for batch in loader:
                loss = model(batch).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                self.current_step += 1
            scheduler.step()
            if fails:
                raise ValueError("the disk with the data is gone")
            return {"train_loss": loss.item(), "learning_rate": scheduler.get_last_lr()[0]}

        def _validate_epoch(self, loader: list[torch.Tensor]) -> dict[str, float]:
            return {"val_loss": model(loader[0]).square().mean().item()}

        def _should_save_checkpoint(self) -> bool:
            return True

    return Trainer()


@pytest.fixture
def tracker() -> ExperimentTracker:
    """Made as the example makes it."""
    config = ExperimentConfig(name="seo", monitoring=MonitoringConfig(stores=(), code_snapshot=False))
    return ExperimentTracker(config, CodeProfiler())


def test_the_printed_trainer_writes_a_whole_run(tracker: ExperimentTracker) -> None:
    """Each epoch has its line and its checkpoint, and results.json has the newest metrics."""
    batches = [torch.ones(3, 2)] * 4
    with tracker.profiler.section("everything"):
        trainer(tracker)
    trainer(tracker).train(batches, batches, 3)
    profile = json.loads((tracker.run_dir / "artifacts" / "profile.json").read_text())
    assert [section["name"] for section in profile["sections"]] == ["everything"]
    lines = journal.records(tracker.run_dir / "logs" / "metrics.jsonl")
    assert [(line["step"], line["epoch"]) for line in lines] == [(4, 0), (8, 1), (12, 2)]
    results = json.loads((tracker.run_dir / "results.json").read_text())
    assert results["status"] == "completed"
    assert results["final_metrics"]["val_loss"] == lines[-1]["val_loss"]
    assert results["started"] <= results["ended"]
    best = CheckpointManager(str(tracker.run_dir)).load_best_checkpoint("val_loss", maximize=False)
    assert best is not None
    assert best["step"] == 12
    assert "scheduler_state_dict" in best


def test_the_printed_trainer_tells_of_a_failure(tracker: ExperimentTracker) -> None:
    """The error is in events.jsonl and in results.json."""
    batches = [torch.ones(3, 2)]
    failing = trainer(tracker, fails=True)
    with pytest.raises(ValueError, match="disk with the data"):
        failing.train(batches, batches, 3)
    assert_failed(tracker.run_dir)


def assert_failed(run_dir: Path) -> None:
    """What a run that failed has written."""
    events = journal.records(run_dir / "logs" / "events.jsonl")
    assert [event["status"] for event in events if event["event"] == "end"] == ["FAILED"]
    results = json.loads((run_dir / "results.json").read_text())
    assert (results["status"], results["error"]) == ("failed", "the disk with the data is gone")
