"""Ctrl-C and SIGTERM end a run whole: the step is finished, then everything is saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class StopSignals:
    """Within this context the first SIGINT or SIGTERM is only noted; a second SIGINT stops at once.

    Attributes:
        received: the first signal.
        count: how many there were.
        patient: whether also a second SIGINT is only noted, where somebody looks at `count` often.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.count = 0
        self.patient = False
        self._previous: dict[signal.Signals, object] = {}

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that ended by this signal: 130 or 143."""
        return 128 + (self.received or 0)

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is not threading.main_thread():
            return self  # Python gives signals to the main thread alone, whose user knows what to do.
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave us

    def _note(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        if self.received is None:
            self.received = signal.Signals(number)
        elif number == signal.SIGINT and not self.patient:
            raise KeyboardInterrupt
