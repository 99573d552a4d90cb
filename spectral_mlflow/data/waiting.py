"""Waiting for others, but not for ever."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")

CLOSING_SECONDS = 1.0


class _End:
    """Stands behind the last item."""


def once(make: Callable[[], T], seconds: float) -> T:
    """What a function returns.

    Raises:
        TimeoutError: it took longer; it is left behind, and does not keep the program from ending.
        Exception: whatever the function raises.
    """

    def items() -> Generator[T]:
        yield make()

    return next(each(items, seconds))


def each(make: Callable[[], Generator[T]], seconds: float, ahead: int = 1) -> Generator[T]:
    """The items of a generator that lives in a thread of its own, each given so many seconds.

    Time-outs of network libraries are for each of their reads, are tried again and again, and do not hold for
    the name look-up at all. This one holds.

    Args:
        make: the generator; made, run and closed in the thread.
        seconds: the longest time to wait for an item.
        ahead: most items that are made before they are asked for.

    Raises:
        TimeoutError: an item took longer; the thread is left behind, and does not keep the program from ending.
        Exception: whatever the generator raises.
    """
    wanted: queue.SimpleQueue[None] = queue.SimpleQueue()
    made: queue.SimpleQueue[T | _End | Exception] = queue.SimpleQueue()
    over = threading.Event()

    def work() -> None:
        try:
            with closing(make()) as items:
                while not over.is_set():
                    made.put(next(items, _End()))
                    wanted.get()
        except Exception as failure:
            made.put(failure)

    for _ in range(ahead - 1):
        wanted.put(None)
    thread = threading.Thread(target=work, name="waiting", daemon=True)
    thread.start()
    patience = CLOSING_SECONDS  # What is closed in the middle should be closed before the program ends.
    try:
        while True:
            item = made.get(timeout=seconds)
            if isinstance(item, _End):
                return
            if isinstance(item, Exception):
                raise item
            yield item
            wanted.put(None)
    except queue.Empty:
        patience = 0.0
        raise TimeoutError(f"not there within {seconds:g} s") from None
    finally:
        over.set()
        wanted.put(None)
        thread.join(patience)
