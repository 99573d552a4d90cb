"""How a process beside the training leaves the processor to it, for as long as it goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

NICEST, USUAL = 19, 0
AUTOGROUP = Path("/proc/self/autogroup")
LOOK_SECONDS = 1.0
TRIES, PAUSE_SECONDS = 5, 0.15  # The system takes ten changes a second, whoever makes them.

_taken_along: list[Path] = []


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


def step_forward() -> None:
    """Take as much of the processor as anybody again, where `step_back` can be taken back."""
    _be(USUAL)


def _be(nice: int) -> bool:
    """Give the session of this process a nice value; whether that could be done."""
    if os.getsid(0) != os.getpid():  # Never the session of somebody's terminal.
        return False
    done = _write(AUTOGROUP, nice)
    for group in _taken_along:
        _write(group, nice)
    return done


def _write(group: Path, nice: int) -> bool:
    pause = threading.Event()
    for _ in range(TRIES):
        try:
            group.write_text(str(nice))
        except BlockingIOError:
            pause.wait(PAUSE_SECONDS)
        except OSError:  # A system without such groups, or a process that is gone.
            return False
        else:
            return True
    return False


def take_along_children() -> None:
    """Have the sessions that processes of ours lead be as nice as our own, now and whenever that changes."""
    if os.getsid(0) != os.getpid() or not AUTOGROUP.exists():
        return
    import psutil  # Before the first step back nothing is loaded that can wait.

    nice = int(AUTOGROUP.read_text().split()[-1])
    groups = [Path(f"/proc/{child.pid}/autogroup") for child in psutil.Process().children()]
    _taken_along[:] = groups
    for group in groups:
        _write(group, nice)


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
