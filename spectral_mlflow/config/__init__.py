"""Every setting of a run, once: its name, type, default, bounds and meaning.

The command line, `config.json`, the parameters in MLflow and the configuration hash are all made
from the dataclasses of this package, one file a section.
"""

from spectral_mlflow.config.dataset import DatasetConfig
from spectral_mlflow.config.experiment import ADAPTER, DECISIVE, FORMAT_VERSION, ExperimentConfig, canonical_hash
from spectral_mlflow.config.model import ModelConfig
from spectral_mlflow.config.monitoring import MonitoringConfig
from spectral_mlflow.config.places import home, without_password
from spectral_mlflow.config.runtime import RuntimeConfig
from spectral_mlflow.config.training import TrainingConfig

__all__ = [
    "ADAPTER",
    "DECISIVE",
    "FORMAT_VERSION",
    "DatasetConfig",
    "ExperimentConfig",
    "ModelConfig",
    "MonitoringConfig",
    "RuntimeConfig",
    "TrainingConfig",
    "canonical_hash",
    "home",
    "without_password",
]
