"""Progress: on a terminal one live line, elsewhere plain lines now and then."""

import io
import os
import pty
import re
import sys
from collections.abc import Iterator
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow.monitoring import Progress


class Clock:
    """Time that passes when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds so far."""
        return self.now


class Terminal:
    """Both ends of a pseudo terminal."""

    def __init__(self) -> None:
        self._outer, inner = pty.openpty()
        self.stream: TextIO = os.fdopen(inner, "w")

    def shown(self) -> str:
        """Everything written so far; the terminal is closed after that."""
        self.stream.write("\0")
        self.stream.close()
        text = b""
        while not text.endswith(b"\0"):
            text += os.read(self._outer, 65536)
        return text[:-1].decode()

    def close(self) -> None:
        """Close what is still open."""
        self.stream.close()
        os.close(self._outer)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal that can do colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    made = Terminal()
    yield made
    made.close()


def test_plain_lines_every_twentieth() -> None:
    """Without a terminal a line follows every 5 % and at the end, with loss, throughput and remaining time."""
    clock, stream = Clock(), io.StringIO()
    with Progress(1000, stream=stream, clock=clock) as progress:
        for step in range(1, 1001):
            clock.now += 0.01
            progress.update(step, loss=4 / step, tokens_per_sec=12345.6)
    lines = stream.getvalue().splitlines()
    assert [int(line.split()[1].split("/")[0]) for line in lines] == list(range(50, 1001, 50))
    assert lines[0] == "step 50/1000 (5%)  loss 0.0800  12,346 tokens/s  ETA 10s"
    assert lines[-1] == "step 1000/1000 (100%)  loss 0.0040  12,346 tokens/s"


def test_plain_line_at_least_every_ten_seconds() -> None:
    """Slow steps are shown at the latest after ten seconds."""
    clock, stream = Clock(), io.StringIO()
    progress = Progress(10_000, stream=stream, clock=clock)
    for step in range(1, 7):
        clock.now += 4
        progress.update(step)
    assert [line.split("  ")[0] for line in stream.getvalue().splitlines()] == [
        "step 3/10000 (0%)",
        "step 6/10000 (0%)",
    ]


def test_short_run_shows_every_step_once() -> None:
    """A run of fewer than 20 steps has a line a step."""
    stream = io.StringIO()
    progress = Progress(3, stream=stream, clock=Clock())
    for step in (1, 2, 3):
        progress.update(step, loss=float("nan"))
    assert stream.getvalue() == ("step 1/3 (33%)  loss nan\nstep 2/3 (67%)  loss nan\nstep 3/3 (100%)  loss nan\n")


def test_streams_without_terminal_get_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file gets neither colours nor cursor movements, and a note is a line of its own, brackets and all."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    stream = io.StringIO()
    with Progress(10, stream=stream, clock=Clock()) as progress:
        progress.note("saved [bold]x[/bold] " + "long " * 50)
        progress.update(1, loss=1.0)
    assert stream.getvalue() == f"saved [bold]x[/bold] {'long ' * 50}\nstep 1/10 (10%)  loss 1.0000\n"


def test_a_note_cannot_steer_a_terminal() -> None:
    """What an exception says is one line without escape codes, carriage returns and bells."""
    stream = io.StringIO()
    Progress(10, stream=stream, clock=Clock()).note("failed: \x1b[2Jgone\r\n\x07step 10/10", "warning")
    assert stream.getvalue() == "failed: \\x1b[2Jgone\\r\\n\\x07step 10/10\n"


@given(rate=st.floats(0.001, 1000), done=st.integers(1, 200), start=st.integers(0, 100))
def test_remaining_time_at_a_steady_rate_is_exact(rate: float, done: int, start: int) -> None:
    """At a constant rate the ETA is the remaining steps times the time of one, from the first step on."""
    clock = Clock()
    progress = Progress(1000, start_step=start, stream=io.StringIO(), clock=clock)
    assert progress.eta_seconds() is None
    for step in range(start + 1, start + done + 1):
        clock.now += rate
        progress.update(step)
    assert progress.eta_seconds() == pytest.approx((1000 - start - done) * rate)


def test_remaining_time_follows_a_change_of_rate() -> None:
    """Some minutes after a run has become slower the ETA goes by the new rate, without a jump at one slow step."""
    clock = Clock()
    progress = Progress(10_000, stream=io.StringIO(), clock=clock)
    for step in range(1, 1001):
        clock.now += 0.1
        progress.update(step)
    clock.now += 2
    progress.update(1001)
    eta = progress.eta_seconds()
    assert eta is not None
    assert 900 < eta < 1000
    for step in range(1002, 1402):
        clock.now += 1
        progress.update(step)
    assert progress.eta_seconds() == pytest.approx(8599, rel=0.02)


def test_run_that_goes_back_does_not_break_the_remaining_time() -> None:
    """After a rollback, and without any time passing, the ETA is still a sensible number."""
    clock = Clock()
    progress = Progress(100, stream=io.StringIO(), clock=clock)
    progress.update(1)
    assert progress.eta_seconds() is None
    for step in (2, 3, 1, 2):
        clock.now += 1
        progress.update(step)
    eta = progress.eta_seconds()
    assert eta is not None
    assert 90 < eta < 140


def test_terminal_has_one_live_line(terminal: Terminal) -> None:
    """On a terminal the line is drawn over again, with a note above it; the cursor is back in the end."""
    clock = Clock()
    with Progress(100, stream=terminal.stream, clock=clock) as progress:
        for step in range(1, 101):
            clock.now += 0.05
            progress.update(step, loss=1.5, tokens_per_sec=10)
            if step == 50:
                progress.note("checkpoint saved [here]")
    shown = terminal.shown()
    assert "\x1b[?25l" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "checkpoint saved [here]" in text
    last = text.replace("\r", "\n").split("\n")[-2 if text.endswith("\n") else -1]
    assert "step 100/100 (100%)  loss 1.5000" in text
    assert shown.count("\r\n") < 10, last
    assert 20 < text.count("tokens/s") < 80


def test_exception_gives_the_terminal_back(terminal: Terminal) -> None:
    """An exception in the loop passes through, with the cursor shown and the standard streams in place."""

    def loop() -> None:
        with Progress(100, stream=terminal.stream, clock=Clock()) as progress:
            progress.update(1, loss=1.0)
            raise RuntimeError("boom")

    streams = sys.stdout, sys.stderr
    with pytest.raises(RuntimeError, match="boom"):
        loop()
    assert (sys.stdout, sys.stderr) == streams
    shown = terminal.shown()
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_no_color_is_honoured(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR a terminal gets no colour; without it, it does."""
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
    monkeypatch.setenv("NO_COLOR", "1")
    with Progress(4, stream=terminal.stream, clock=Clock()) as progress:
        progress.update(2)
    assert not colour.search(terminal.shown())
    monkeypatch.delenv("NO_COLOR")
    other = Terminal()
    with Progress(4, stream=other.stream, clock=Clock()) as progress:
        progress.update(2)
    assert colour.search(other.shown())
    other.close()


def test_dumb_terminal_gets_plain_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that cannot move its cursor is treated like a file."""
    monkeypatch.setenv("TERM", "dumb")
    with Progress(4, stream=terminal.stream, clock=Clock()) as progress:
        progress.update(2)
    assert terminal.shown() == "step 2/4 (50%)\r\n"


def test_closed_pipe_ends_the_display_only() -> None:
    """When nobody reads any more, or the file is closed, training goes on."""
    outer, inner = os.pipe()
    os.close(outer)
    stream = os.fdopen(inner, "w")
    with Progress(2, stream=stream, clock=Clock()) as progress:
        progress.update(1)
        progress.note("into the void")
        progress.update(2)
    with pytest.raises(BrokenPipeError):
        stream.close()
    closed = io.StringIO()
    closed.close()
    with Progress(1, stream=closed, clock=Clock()) as progress:
        progress.update(1)


def test_alerts_have_a_colour_on_a_terminal_only(terminal: Terminal) -> None:
    """A note with a severity is coloured where somebody looks, and plain text in a file."""
    with Progress(4, stream=terminal.stream, clock=Clock()) as progress:
        progress.note("loss spike", "critical")
    assert re.search(r"\x1b\[[0-9;]*31m", terminal.shown())
    stream = io.StringIO()
    with Progress(4, stream=stream, clock=Clock()) as progress:
        progress.note("loss spike", "critical")
    assert stream.getvalue() == "loss spike\n"
