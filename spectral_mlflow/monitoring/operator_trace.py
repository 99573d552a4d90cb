"""OperatorTrace: what torch did in a few steps, operator by operator."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import profiler

FIRST_STEPS = 5  # Of this process; slow, as whatever is done for the first time.
TRACED_STEPS = 3
LAST_STEP = FIRST_STEPS + TRACED_STEPS
OPERATORS = 30


class OperatorTrace:
    """Runs torch.profiler over a few steps, once; before and after them it costs nothing."""

    def __init__(self, folder: Path, *, first_steps: int = FIRST_STEPS, traced_steps: int = TRACED_STEPS) -> None:
        """Trace nothing yet.

        Args:
            folder: where the files are to be; made when it is needed.
            first_steps: that are let go by, at least 1.
            traced_steps: that are traced.
        """
        self._folder = folder
        self._begin, self._end = first_steps, first_steps + traced_steps
        self._steps = 0
        self._profile: profiler.profile | None = None

    def step(self, step: int) -> list[Path]:
        """A step is done.

        Args:
            step: its number, for the names of the files.

        Returns:
            Files that were written of the trace that has just ended: the trace itself, which chrome://tracing and
            Perfetto show, and a table of the operators that took longest.

        Raises:
            OSError: they cannot be written.
        """
        self._steps += 1
        if self._steps == self._begin:
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # Else it writes on stderr that it begins and ends.
            activities = [profiler.ProfilerActivity.CPU]
            activities += [profiler.ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self._profile = profiler.profile(activities=activities, acc_events=True)
            self._profile.start()
        elif self._steps == self._end and self._profile:
            self._profile.stop()
            done, self._profile = self._profile, None
            return self._write(done, step)
        return []

    def close(self) -> None:
        """End a trace that the run was too short for; nothing is kept of it."""
        if self._profile:
            self._profile.stop()
            self._profile = None

    def _write(self, done: profiler.profile, step: int) -> list[Path]:
        self._folder.mkdir(exist_ok=True)
        trace, table = self._folder / f"trace_step_{step}.json.gz", self._folder / f"operators_step_{step}.txt"
        done.export_chrome_trace(str(trace))
        order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table.write_text(done.key_averages().table(sort_by=order, row_limit=OPERATORS))
        return [trace, table]
