"""How far a long work is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0

# Told of what, how much of it is done, and how much there is.
Show: TypeAlias = Callable[[str, int, int], None]


@contextmanager
def shown(unit: str) -> Iterator[Show]:
    """What shows how far a work is, on stderr.

    Args:
        unit: of what a share is done, such as ``the metrics``.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain(unit)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=None)

        def show(name: str, done: int, size: int) -> None:
            progress.update(bar, description=escape(name), completed=done, total=max(done, size))

        yield show


def _plain(unit: str) -> Show:
    said = time.monotonic()

    def show(name: str, done: int, size: int) -> None:
        nonlocal said
        if time.monotonic() - said >= PLAIN_SECONDS:
            said = time.monotonic()
            print(f"{name}: {100 * done // max(1, done, size)} % of {unit}", file=sys.stderr, flush=True)

    return show
