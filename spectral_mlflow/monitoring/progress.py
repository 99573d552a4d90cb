"""Progress: what a person at the terminal sees of a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TextIO

from spectral_mlflow.monitoring.remaining_time import Pause, RemainingTime
from spectral_mlflow.monitoring.structured_log import duration, one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as LiveLine

PLAIN_SHARE = 0.05
PLAIN_SECONDS = 10.0
SOON = 1.0  # Seconds that need no word.
REFRESH_SECONDS = 0.1
COLOURS = {"warning": "yellow", "critical": "red", "fatal": "bold red"}


class Progress:
    """One live line on a terminal; elsewhere a plain line every 5 % or 10 seconds.

    A stream that breaks, such as a closed pipe, ends the display and nothing else. Leaving the
    ``with`` block, also by an exception, gives the terminal back as it was.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        start_step: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        pauses: Mapping[str, Pause] = MappingProxyType({}),
    ) -> None:
        """Nothing is shown before the first update or note.

        Args:
            total_steps: step at which the run is done.
            start_step: steps done already, in a run that is resumed.
            stream: where to show it; default: stderr.
            clock: seconds that never go back.
            pauses: what is done between steps now and then (see `aside`), as far as it is known beforehand.
        """
        from rich.console import Console  # Not needed to import the room.

        self.total_steps = total_steps
        self._stream = stream or sys.stderr
        self._console = Console(file=self._stream, highlight=False, force_jupyter=False)
        # Rich can be told that anything is a terminal; it would end the program when a pipe breaks.
        self._terminal = self._console.is_terminal and not self._console.is_dumb_terminal and self._stream.isatty()
        self._clock = clock
        self._remaining = RemainingTime(total_steps, start_step, clock(), {"trace": Pause(0), **pauses})
        self._live: LiveLine | None = None
        self._shown_step, self._shown_at = start_step, clock()
        self._broken = False

    def update(self, step: int, *, loss: float | None = None, tokens_per_sec: float | None = None) -> None:
        """Tell how far the run is.

        Args:
            step: steps done.
            loss: newest loss.
            tokens_per_sec: newest throughput.
        """
        now = self._clock()
        self._remaining.update(step, now)
        if not self._due(step, now):
            return
        self._shown_step, self._shown_at = step, now
        facts = self._facts(step, loss, tokens_per_sec)
        self._guarded(self._show_live if self._terminal else self._show_plain, step, facts)

    def eta_seconds(self) -> float | None:
        """Time remaining at the present rate, with the pauses to come; None before there is a rate."""
        return self._remaining.seconds()

    @contextmanager
    def aside(self, kind: str) -> Iterator[None]:
        """What happens in this context is no part of the step: an evaluation, a checkpoint, a set of plots.

        Args:
            kind: such as ``evaluation``; the time that those to come will take is that of those so far.
        """
        began = self._clock()
        try:
            yield
        finally:
            self._remaining.pause(kind, self._clock() - began)

    def note(self, text: str, severity: str | None = None) -> None:
        """Print a line, above the live one if there is one; on a terminal in the colour of its severity.

        Args:
            text: what would end the line, or make a terminal do something, is escaped.
            severity: as that of an alert.
        """
        self._guarded(self._print, text, severity)

    def close(self) -> None:
        """Leave the last line standing and give the terminal back."""
        live, self._live = self._live, None
        if live is not None:
            with suppress(OSError, ValueError):  # Also with a broken stream: sys.stdout is to be given back.
                live.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _due(self, step: int, now: float) -> bool:
        waited = now - self._shown_at
        if step >= self.total_steps or (self._terminal and self._live is None):
            return True
        if self._terminal:
            return waited >= REFRESH_SECONDS
        share = max(1.0, self.total_steps * PLAIN_SHARE)
        return step // share != self._shown_step // share or waited >= PLAIN_SECONDS

    def _facts(self, step: int, loss: float | None, tokens_per_sec: float | None) -> str:
        eta = self.eta_seconds()
        parts = [f"step {step}/{self.total_steps} ({step / max(1, self.total_steps):.0%})"]
        parts += [f"loss {loss:.4f}"] if loss is not None else []
        parts += [f"{tokens_per_sec:,.0f} tokens/s"] if tokens_per_sec is not None else []
        parts += [f"ETA {duration(eta)}"] if eta is not None and step < self.total_steps else []
        return "  ".join(parts)

    def _show_live(self, step: int, facts: str) -> None:
        if self._live is None:
            self._live = _live_line(self._console, self.total_steps)
            self._live.start()
        self._live.update(self._live.task_ids[0], completed=step, facts=facts)
        self._live.refresh()

    def _show_plain(self, _step: int, facts: str) -> None:
        self._print(facts)

    def _print(self, text: str, severity: str | None = None) -> None:
        text = one_line(text)  # An exception's text may be anything.
        if self._live is not None or (self._terminal and severity in COLOURS):
            self._console.print(text, style=COLOURS.get(severity or ""), markup=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    def _guarded(self, show: Callable[..., None], *values: Any) -> None:
        if self._broken:
            return
        try:
            show(*values)
        except (OSError, ValueError):  # A closed pipe, a closed file: training does not need either.
            self._broken = True


class Waiting(Progress):
    """What a person sees of a wait after the last step: a bar, or a plain line where it takes longer.

    A wait that is over soon is not worth a word.
    """

    def __init__(
        self, about: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is shown before the first update.

        Args:
            about: what is waited for.
            stream: where to show it; default: stderr.
            clock: seconds that never go back.
        """
        super().__init__(100, stream=stream, clock=clock)
        self._about = about
        self._told = False

    def tell(self, share: float) -> None:
        """Tell how much is done, as a share of all there is to wait for."""
        now = self._clock()
        if now - self._shown_at < (REFRESH_SECONDS if self._live else SOON):
            return
        if self._terminal:
            self._shown_at = now
            self._guarded(self._show_live, int(100 * share), self._about)
        elif not self._told:
            self._guarded(self._print, self._about)
        self._told = True


def _live_line(console: Console, total_steps: int) -> LiveLine:
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as LiveLine

    # Refreshed by update alone: a thread that draws could outlive an exception.
    line = LiveLine(
        BarColumn(bar_width=24), TextColumn("{task.fields[facts]}", markup=False), console=console, auto_refresh=False
    )
    line.add_task("", total=total_steps, facts="")
    return line
