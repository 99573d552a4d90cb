"""RunEvents: what a run tells of itself, in events.jsonl for programs and in training.log for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from spectral_mlflow.journal import Journal, now
from spectral_mlflow.monitoring.structured_log import StructuredLog

_NONE: Mapping[str, str] = MappingProxyType({})
LEVELS: Mapping[str, str] = {"info": "INFO", "warning": "WARNING", "critical": "CRITICAL", "fatal": "CRITICAL"}


class RunEvents:
    """Appends to events.jsonl and training.log.

    Attributes:
        alerts: the messages of those so far, for the end of the run.
    """

    def __init__(self, run_dir: Path, log: StructuredLog) -> None:
        """Open the journal.

        Args:
            run_dir: the run.
            log: its log for people.

        Raises:
            OSError: events.jsonl cannot be written.
        """
        self.alerts: list[str] = []
        self._run_dir = run_dir
        self._log = log
        self._journal = Journal(run_dir / "logs" / "events.jsonl")
        self._told: Counter[tuple[Any, Any, Any]] = Counter()  # Alerts that a continued run will come to again.

    def expect(self, told: Iterable[Mapping[str, Any]], step: int) -> None:
        """Do not tell the alerts of later steps again, which a run that is continued from this step finds once more."""
        self._told = Counter(
            (event.get("step"), event.get("kind"), event.get("message"))
            for event in told
            if event.get("event") == "alert" and isinstance(event.get("step"), int) and event["step"] > step
        )

    def tell(self, event: str, /, **fields: Any) -> None:
        """Append one line to events.jsonl: what happened, for the stores and for whoever reads."""
        self._journal.append({"event": event, "timestamp": now(), **fields})

    def alert(
        self,
        step: int | None,
        severity: str,
        kind: str,
        message: str,
        advice: str,
        *,
        cause: str = "",
        since: int | None = None,
    ) -> None:
        """Something a person should look at: journaled, logged, and shown by the stores.

        Args:
            step: at which it was seen.
            severity: info, warning, critical or fatal.
            kind: such as ``loss_spike``.
            message: what was seen.
            advice: what to do.
            cause: what is likely behind it.
            since: the step at which it probably began.
        """
        self.alerts.append(message)
        if self._told[step, kind, message] > 0:
            self._told[step, kind, message] -= 1
            return
        further = {name: value for name, value in (("cause", cause), ("since", since)) if value not in ("", None)}
        self.tell("alert", step=step, severity=severity, kind=kind, message=message, advice=advice, **further)
        fields = {"Cause": cause, "Advice": advice}
        self._log.entry(LEVELS[severity], kind, message, {name: text for name, text in fields.items() if text})

    def lost(self, step: int, kind: str, message: str) -> None:
        """Tell of a file that could not be written, which is no reason to stop."""
        self.alert(step, "critical", kind, message, "free some space, or see to the permissions; training goes on")

    def entry(self, level: str, module: str, message: str, fields: Mapping[str, str] = _NONE) -> None:
        """An entry of training.log, and the same as an event."""
        self._log.entry(level, module, message, fields)
        self.tell("log", level=level, module=module, message=message, fields=dict(fields))

    def artifact(self, path: Path, kind: str = "file", step: int | None = None, *, key: str | None = None) -> None:
        """Have a file of the run directory sent to the stores.

        Args:
            path: the file.
            kind: such as plot, sample or config.
            step: that it belongs to.
            key: what the stores call it, for an image that there is of several steps.
        """
        self.tell("artifact", path=self.relative(path), kind=kind, step=step, **({"key": key} if key else {}))

    def relative(self, path: Path) -> str:
        """A path as events have it: from the run directory, with slashes."""
        return path.absolute().relative_to(self._run_dir.absolute()).as_posix()

    def sync(self) -> None:
        """Make the journal survive a power cut.

        Raises:
            OSError: the disk refuses.
        """
        self._journal.sync()

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()
