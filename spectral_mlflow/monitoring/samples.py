"""Samples: what a model has written on the way, kept as files and told to the stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spectral_mlflow.files import replace_file
from spectral_mlflow.monitoring.run_events import RunEvents


class Samples:
    """The samples of a run, the newest of each step."""

    def __init__(self, run_dir: Path, events: RunEvents, told: Iterable[Mapping[str, Any]]) -> None:
        """Know the samples so far.

        Args:
            run_dir: the run.
            events: what it tells of itself.
            told: the events so far.
        """
        self._folder = run_dir / "samples"
        self._events = events
        self._texts: dict[int, str] = {e["step"]: e["text"] for e in told if e.get("event") == "sample"}

    def keep(self, step: int, text: str) -> Path | None:
        """Write a sample.

        Returns:
            Its file; None where the disk refused it, which is then in the log.
        """
        path = self._path(step)
        self._texts[step] = text
        try:
            replace_file(path, text.encode(errors="surrogatepass"))
        except OSError as failure:
            self._events.lost(step, "sample", f"the sample of step {step} is not kept: {failure}")
            return None
        self._events.tell("sample", step=step, path=self._events.relative(path), text=text)
        return path

    def path_of(self, step: int) -> str | None:
        """Path of the sample of a step, from the run directory; None without one."""
        return self._events.relative(self._path(step)) if step in self._texts else None

    def _path(self, step: int) -> Path:
        return self._folder / f"sample_step_{step}.txt"

    def texts(self) -> list[str]:
        """All of them, oldest first."""
        return list(self._texts.values())
