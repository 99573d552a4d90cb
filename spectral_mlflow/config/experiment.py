"""All settings of one run, and their hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from spectral_mlflow.config.dataset import DatasetConfig
from spectral_mlflow.config.kinds import STRICT, set_values
from spectral_mlflow.config.model import ModelConfig
from spectral_mlflow.config.monitoring import MonitoringConfig
from spectral_mlflow.config.runtime import RuntimeConfig
from spectral_mlflow.config.training import TrainingConfig

FORMAT_VERSION = 1


@dataclass(frozen=True, config=STRICT)
class ExperimentConfig:
    """All settings of one run."""

    name: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$", description="name of the run; default: the model type"),
    ] = None
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    dataset: DatasetConfig = dataclasses.field(default_factory=DatasetConfig)
    runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)
    monitoring: MonitoringConfig = dataclasses.field(default_factory=MonitoringConfig)

    def __post_init__(self) -> None:
        set_values(self, name=self.name or self.model.type)
        self._check_curriculum()
        if self.training.on_anomaly != "none" and not self.monitoring.anomalies:
            raise ValueError(
                f"training.on_anomaly: given {self.training.on_anomaly} with monitoring.anomalies=false, where nobody "
                "watches for them; allowed: none, or monitoring.anomalies=true"
            )

    def _check_curriculum(self) -> None:
        whole, first = self.model.block_size, self.training.first_block_size
        shorter = [whole >> times for times in range(1, whole.bit_length()) if whole % (1 << times) == 0]
        if self.training.block_warmup_steps and not shorter:
            raise ValueError(
                f"training.block_warmup_steps: given {self.training.block_warmup_steps} with "
                f"model.block_size={whole}, which has no half; allowed: 0, or an even model.block_size"
            )
        if first is not None and first not in shorter:
            raise ValueError(
                f"training.first_block_size: given {first}; allowed with model.block_size={whole}: "
                + (", ".join(map(str, shorter)) or "none")
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries and lists, as JSON has them."""
        return dict(ADAPTER.dump_python(self, mode="json"))

    def hash(self) -> str:
        """sha256 of the canonical JSON of what decides the result: model, training and dataset."""
        values = self.to_dict()
        return canonical_hash({section: values[section] for section in DECISIVE})


ADAPTER = TypeAdapter(ExperimentConfig)

# The sections that decide the result of a run.
DECISIVE = ("model", "training", "dataset")


def canonical_hash(values: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of some settings."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
