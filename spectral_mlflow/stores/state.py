"""How far a store is: the small file that a companion leaves for the next one."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from spectral_mlflow.files import replace_file


@dataclass(frozen=True)
class StoreState:
    """What one store has of one run.

    Attributes:
        run_id: the run in the store.
        experiment_id: the store's experiment that holds it.
        tracking_uri: the store, without a password.
        metrics_offset: bytes of metrics.jsonl that the store has.
        events_offset: bytes of events.jsonl that the store has.
        closed: whether the store has all of a run that has ended.
        error: why the last attempt failed; None when it did not.
        size: bytes of the store's own file that hold all this; 0 for a store without one.
    """

    run_id: str | None = None
    experiment_id: str | None = None
    tracking_uri: str | None = None
    metrics_offset: int = 0
    events_offset: int = 0
    closed: bool = False
    error: str | None = None
    size: int = 0

    @classmethod
    def load(cls, path: Path) -> StoreState:
        """The state in a file; the initial one where there is none, or a damaged one.

        Losing the state loses nothing: the store itself is asked how far it is.
        """
        try:
            values = {"size": 0, **json.loads(path.read_text(encoding="utf-8"))}  # Older ones have none.
            return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls)})
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def save(self, path: Path) -> None:
        """Replace the file at once: a reader sees the old state or the new one."""
        replace_file(path, json.dumps(dataclasses.asdict(self), indent=2).encode() + b"\n")
