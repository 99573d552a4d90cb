"""The best model of a run: to write text with, and as a folder of its own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.data import tokenizers
from spectral_mlflow.errors import UserError
from spectral_mlflow.model_folder import FOLDER, ModelFacts
from spectral_mlflow.models.gpt import GPT
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.monitoring.configs import ConfigTracker
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.text_model import TextModel
from spectral_mlflow.training.fit import check_settings, check_tensors

WHATEVER_THE_WEIGHTS = ("name", "training.", "dataset.", "monitoring.", "runtime.")  # Settings that shape no weights.


def best(run_dir: Path) -> TextModel:
    """The model of the best checkpoint of a run, or of the newest one where none was evaluated; on the CPU.

    Raises:
        UserError: the run has no whole checkpoint.
    """
    return _text_model(run_dir, _settings(run_dir), _best_checkpoint(run_dir))


def export(run_dir: Path) -> Path:
    """Write the best model of a run into its folder ``model``. The same checkpoint gives the same files.

    Raises:
        UserError: the run has no whole checkpoint.
        OSError: the disk refuses.
    """
    settings, checkpoint = _settings(run_dir), _best_checkpoint(run_dir)
    text_model = _text_model(run_dir, settings, checkpoint)
    val_loss = checkpoint.get("metrics", {}).get("val_loss", math.nan)
    facts = ModelFacts(
        model=dataclasses.asdict(settings.model),
        vocab_size=text_model.tokenizer.vocab_size,
        run=run_dir.name,
        step=checkpoint["step"],
        val_loss=val_loss if math.isfinite(val_loss) else None,
        commit=checkpoint["git_hash"],
    )
    text_model.save(run_dir / FOLDER, facts)
    return run_dir / FOLDER


def export_at_end(tracker: ExperimentTracker, step: int) -> None:
    """Export the best model of a run that ends; what prevents it is an alert, and the run ends as it would have.

    Args:
        tracker: of the run.
        step: the last one.
    """
    try:
        folder = export(tracker.run_dir)
    except (OSError, UserError) as failure:
        advice = f"spectral register {tracker.experiment_id} tries again"
        tracker.alert(step, "warning", "model", f"the best model is not exported: {failure}", advice)
    else:
        tracker.event("model", path=folder.name, step=step)


def _settings(run_dir: Path) -> ExperimentConfig:
    return ConfigTracker(str(run_dir)).load_settings()


def _best_checkpoint(run_dir: Path) -> dict[str, Any]:
    checkpoints = CheckpointManager(str(run_dir))
    checkpoint = checkpoints.load_best_checkpoint() or checkpoints.load_latest_checkpoint()
    if checkpoint is None:
        raise UserError(f"{run_dir} has no whole checkpoint yet; wait for the first one")
    return checkpoint


def _text_model(run_dir: Path, config: ExperimentConfig, checkpoint: Mapping[str, Any]) -> TextModel:
    tokenizer = tokenizers.load(run_dir / "tokenizer.json")
    check_settings(checkpoint, config, WHATEVER_THE_WEIGHTS)
    model = GPT(config.model, tokenizer.vocab_size)
    check_tensors("model_state_dict", checkpoint["model_state_dict"], model.state_dict())
    model.load_state_dict(checkpoint["model_state_dict"])
    return TextModel(model.eval(), tokenizer)
