"""From the tracking store to pandas frames, intervals and comparisons. Names load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectral_mlflow.analysis.aggregator import ResultsAggregator
    from spectral_mlflow.analysis.runs import load_histories, load_runs

__all__ = ["ResultsAggregator", "load_histories", "load_runs"]

_HOMES = {
    "ResultsAggregator": "spectral_mlflow.analysis.aggregator",
    "load_histories": "spectral_mlflow.analysis.runs",
    "load_runs": "spectral_mlflow.analysis.runs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
