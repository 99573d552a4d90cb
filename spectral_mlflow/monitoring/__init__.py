"""What watches a run and writes its directory. Names load on first use, so that reading a run needs no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectral_mlflow.monitoring.anomalies import Anomalies
    from spectral_mlflow.monitoring.checkpoints import CheckpointManager
    from spectral_mlflow.monitoring.configs import ConfigTracker
    from spectral_mlflow.monitoring.data_usage import DataUsage
    from spectral_mlflow.monitoring.directories import create_experiment_directory, generate_experiment_id
    from spectral_mlflow.monitoring.metrics import MetricsLogger
    from spectral_mlflow.monitoring.profiler import CodeProfiler
    from spectral_mlflow.monitoring.progress import Progress
    from spectral_mlflow.monitoring.retention import CheckpointStrategy
    from spectral_mlflow.monitoring.structured_log import StructuredLog
    from spectral_mlflow.monitoring.tracker import ExperimentTracker
    from spectral_mlflow.monitoring.visualizations import VisualizationManager
    from spectral_mlflow.monitoring.watch import Watch
    from spectral_mlflow.provenance import get_git_hash

__all__ = [
    "Anomalies",
    "CheckpointManager",
    "CheckpointStrategy",
    "CodeProfiler",
    "ConfigTracker",
    "DataUsage",
    "ExperimentTracker",
    "MetricsLogger",
    "Progress",
    "StructuredLog",
    "VisualizationManager",
    "Watch",
    "create_experiment_directory",
    "generate_experiment_id",
    "get_git_hash",
]

_HOMES = {
    "Anomalies": "spectral_mlflow.monitoring.anomalies",
    "CodeProfiler": "spectral_mlflow.monitoring.profiler",
    "DataUsage": "spectral_mlflow.monitoring.data_usage",
    "Watch": "spectral_mlflow.monitoring.watch",
    "CheckpointManager": "spectral_mlflow.monitoring.checkpoints",
    "CheckpointStrategy": "spectral_mlflow.monitoring.retention",
    "ConfigTracker": "spectral_mlflow.monitoring.configs",
    "ExperimentTracker": "spectral_mlflow.monitoring.tracker",
    "MetricsLogger": "spectral_mlflow.monitoring.metrics",
    "Progress": "spectral_mlflow.monitoring.progress",
    "StructuredLog": "spectral_mlflow.monitoring.structured_log",
    "VisualizationManager": "spectral_mlflow.monitoring.visualizations",
    "create_experiment_directory": "spectral_mlflow.monitoring.directories",
    "generate_experiment_id": "spectral_mlflow.monitoring.directories",
    "get_git_hash": "spectral_mlflow.provenance",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
