"""RunFacts: what the files of a run directory say of it, whatever of them is there, whole and well formed."""

from __future__ import annotations

import json
import mmap
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.journal import Record
from spectral_mlflow.monitoring.json_text import decode
from spectral_mlflow.monitoring.run_lock import is_running
from spectral_mlflow.monitoring.runs import changed_settings
from spectral_mlflow.provenance import UNKNOWN
from spectral_mlflow.settings import build, flatten, load

# As the end event has it, and as results.json has.
STATES = {
    "FINISHED": "finished", "FAILED": "failed", "KILLED": "killed",
    "completed": "finished", "failed": "failed", "killed": "killed",
}  # fmt: skip


class RunFacts:
    """The facts of a run, as they are when they are asked for.

    Attributes:
        damaged: which files cannot be read, and why.
        config, results: their contents, empty without the file.
        events: what it has told of itself, oldest first.
    """

    def __init__(self, run_dir: Path) -> None:
        """Read the small files.

        Args:
            run_dir: the run.

        Raises:
            OSError: the events are there and cannot be read.
        """
        self.directory = run_dir.absolute()
        self.damaged: list[str] = []
        self.config = self._document("config.json")
        self.results = self._document("results.json")
        self.events = journal.records(run_dir / "logs" / "events.jsonl")
        self._metrics = run_dir / "logs" / "metrics.jsonl"

    def _document(self, name: str) -> Record:
        try:
            return decode((self.directory / name).read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as failure:
            self.damaged.append(f"{name} cannot be read: {failure.strerror}")
        except ValueError as failure:
            self.damaged.append(f"{name} is damaged: {failure}")
        return {}

    def told(self, event: str) -> list[Record]:
        """The events of a kind, oldest first."""
        return [record for record in self.events if record.get("event") == event]

    # How it goes

    @cached_property
    def status(self) -> str:
        """One of running, finished, failed and killed."""
        if ending := self._ending:
            return STATES.get(str(ending.get("status")), "killed")
        return "running" if is_running(self.directory) else "killed"

    @cached_property
    def reason(self) -> str:
        """Why it failed or was stopped, as far as it could say so."""
        ending = self._ending
        return str(ending.get("reason") or ending.get("error") or "")

    @cached_property
    def _ending(self) -> Record:
        """What the run said last of its end: the event, or the results that it writes shortly before."""
        turns = [record for record in self.events if record.get("event") in ("start", "resume", "end")]
        if turns and turns[-1]["event"] == "end":
            return turns[-1]
        begun = str(turns[-1].get("timestamp")) if turns else ""
        is_new = str(self.results.get("timestamp") or "") >= begun
        return self.results if self.results.get("status") and is_new else {}

    @cached_property
    def numbers(self) -> Record:
        """Final metrics of a run that has ended, and else the newest ones of its journal."""
        if self._ending and (final := section(self.results, "final_metrics")):
            return {"final_step": self.newest.get("step"), **final}
        measured = self.measured
        return {
            **self.newest,
            **measured,
            "perplexity": measured.get("val_perplexity"),
            "tokens_per_second": self.newest.get("tokens_per_sec"),
            "final_step": self.newest.get("step"),
        }

    @cached_property
    def newest(self) -> Record:
        """The newest line of the metrics, empty without one."""
        return newest_line(self._metrics, "step")

    @cached_property
    def measured(self) -> Record:
        """The newest line with a validation loss, empty without one."""
        return newest_line(self._metrics, "val_loss")

    @property
    def started(self) -> str | None:
        """When it first began."""
        return next((str(record["timestamp"]) for record in self.events if record.get("timestamp")), None)

    @property
    def seconds(self) -> float | None:
        """From its start to its newest sign of life."""
        times = [record.get("timestamp") for record in (*self.events[:1], *self.events[-1:], self.newest)]
        try:
            known = [journal.milliseconds(time) for time in times if time is not None]
        except (TypeError, ValueError):
            return None
        return (max(known) - min(known)) / 1000 if known else None

    # What it is

    @property
    def is_own_loop(self) -> bool:
        """Whether it is of a program other than ``spectral train``."""
        start = next(iter(self.told("start")), {})
        return section(start, "tags").get("spectral.kind") == "own-loop"

    @property
    def commit(self) -> str | None:
        """Of the code, None where it is not known."""
        commit = section(self.config, "git").get("commit") or self.config.get("git_hash")
        return None if commit in (None, UNKNOWN) else str(commit)

    @property
    def settings(self) -> Record:
        """All settings, by dotted name, as continuations have left them."""
        return flatten(section(self.config, "config")) | self.changed

    @property
    def changed(self) -> Record:
        """The settings that continuations have changed."""
        resumes = [{"event": "resume", "settings": section(record, "settings")} for record in self.told("resume")]
        return changed_settings(resumes)

    @cached_property
    def chosen(self) -> Record | None:
        """The settings that somebody chose, by dotted name; None where that is not known."""
        if self.is_own_loop:
            return dict(section(section(self.config, "config"), "training"))
        try:
            config = load(self.directory / "config.json")
            chosen = overrides(config)
            again = build({name: text(value) for name, value in chosen.items()})
        except UserError:  # Of another version, or no settings of ours.
            return None
        return chosen if again == config else None

    @property
    def command(self) -> list[str]:
        """What repeats it in a clone of the code at its commit, option by option; empty for a loop of its own."""
        if self.is_own_loop or not self.config:
            return []
        if self.chosen is None:
            return ["spectral train", shlex.join(["--config", str(self.directory / "config.json")])]
        return ["spectral train", *(shlex.join([f"--{name}", text(value)]) for name, value in self.chosen.items())]


def section(record: Mapping[str, Any], name: str) -> Record:
    """A part of a record; empty where it is missing or is none."""
    found = record.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def overrides(config: ExperimentConfig) -> Record:
    """The settings that make this configuration out of the defaults, by dotted name; what follows from them is not."""
    follows: Record = {"name": config.model.type}
    follows |= {f"model.{part}": config.model.type for part in ("embedding", "attention", "feedforward")}
    follows |= {f"model.{name}": value for name, value in config.model.usual.items()}
    follows |= {f"dataset.{name}": value for name, value in config.dataset.usual.items()}
    expected = flatten(ExperimentConfig().to_dict()) | follows
    return {name: value for name, value in flatten(config.to_dict()).items() if value != expected[name]}


def text(value: Any) -> str:
    """A setting as the command line takes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else json.dumps(value, default=str)


def newest_line(path: Path, name: str) -> Record:
    """The newest whole line of a journal that has a field; empty without one. Only its end is read.

    Raises:
        OSError: the file is there and cannot be read.
    """
    if not path.exists() or not path.stat().st_size:
        return {}
    field = json.dumps(name).encode() + b":"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as lines:
        end = lines.rfind(b"\n") + 1
        while (found := lines.rfind(field, 0, end)) >= 0:
            start = lines.rfind(b"\n", 0, found) + 1
            with suppress(ValueError):
                record = journal.decode(lines[start:end].split(b"\n", 1)[0])
                if name in record:
                    return record
            end = start
    return {}
