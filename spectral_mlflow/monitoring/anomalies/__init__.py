"""Anomalies of a training run: thirteen kinds, each found by a robust statistic, told with cause and advice."""

from spectral_mlflow.monitoring.anomalies.anomalies import DETECTORS, Anomalies
from spectral_mlflow.monitoring.anomalies.kinds import KINDS, Kind

__all__ = ["DETECTORS", "KINDS", "Anomalies", "Kind"]
