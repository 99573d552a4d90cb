"""Train wave-based and standard GPTs, keep every run safe, and write a paper one can trust."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectral_mlflow.training.track import track

__all__ = ["track"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name != "track":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from spectral_mlflow.training.track import track  # Takes torch, which reading a run does not need.

    return track
