"""How a companion leaves the processor to the trainer, for as long as there is one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

NICEST, USUAL = 19, 0
AUTOGROUP = Path("/proc/self/autogroup")
LOOK_SECONDS = 1.0


def step_back() -> None:
    """Take little of the processor time that somebody else wants.

    Linux schedules sessions before processes: a process that leads a session of its own gets as much
    as the whole session of the trainer, however nice it is, until its session is made nice as well.
    The batch policy besides keeps it from interrupting the trainer whenever it wakes up. Both can be
    taken back without privileges, which the idle policy and a nice value cannot.
    """
    with suppress(OSError, AttributeError):  # A system without this policy.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    if not _be(NICEST):
        os.nice(NICEST)


def _be(nice: int) -> bool:
    """Give the session of this process a nice value; whether that could be done."""
    if os.getsid(0) != os.getpid():  # Never the session of somebody's terminal.
        return False
    with suppress(OSError):  # A system without such groups.
        AUTOGROUP.write_text(str(nice))
        return True
    return False


def step_forward_without(has_trainer: Callable[[], bool]) -> None:
    """From now on, be as nice as the run needs: on a busy machine the end of a run must not wait for minutes.

    Args:
        has_trainer: whether the run goes on; asked once a second, in a thread of its own.
    """
    threading.Thread(target=_follow, args=(has_trainer,), daemon=True).start()


def _follow(has_trainer: Callable[[], bool]) -> None:
    pause, had = threading.Event(), True
    while not pause.wait(LOOK_SECONDS):
        has = has_trainer()
        if has != had:
            _be(NICEST if has else USUAL)
        had = has
