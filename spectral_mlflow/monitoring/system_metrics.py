"""SystemMetrics: memory, processor, disk and GPU, sampled beside training."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

Sample = dict[str, float]

PATIENCE = 5.0  # Seconds that the end of a run waits for a sample that is being taken.


class SystemMetrics:
    """Takes a sample every so many seconds in a thread of its own, which ends with the process.

    Attributes:
        latest: the newest sample; empty before there is one.
        seconds: of CPU that the thread has taken so far.
        samples: how many there were.
    """

    def __init__(
        self, folder: Path, interval: float, *, on_failure: Callable[[Exception], None] = lambda _: None
    ) -> None:
        """Sample nothing before `start`.

        Args:
            folder: whose disk is looked at.
            interval: seconds between samples; 0: none are taken.
            on_failure: told, in the thread, of what ends the sampling.
        """
        self.latest: Sample = {}
        self.seconds = 0.0
        self.samples = 0
        self._folder = folder
        self._interval = interval
        self._on_failure = on_failure
        self._process: psutil.Process  # Looked for, as all of the machine is, where a failure ends nothing else.
        self._gpu: Gpu | None = None
        self._fresh: Sample = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take the first sample, and have the others follow."""
        if not self._interval or self._thread:
            return
        if not self._succeeds(self._open):
            return
        self._thread = threading.Thread(target=self._run, name="system metrics", daemon=True)
        self._thread.start()

    def take(self) -> Sample:
        """The newest sample, but none a second time."""
        fresh, self._fresh = self._fresh, {}
        return fresh

    def stop(self) -> None:
        """End the thread; one that the machine does not answer is left to end with the process."""
        self._ended.set()
        if self._thread:
            self._thread.join(PATIENCE)
            if self._thread.is_alive():
                return
            self._thread = None
        if self._gpu:
            self._gpu.close()
            self._gpu = None

    def _run(self) -> None:
        while not self._ended.wait(self._interval) and self._succeeds(self._take):
            pass

    def _open(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()  # Its first answer is no share of anything.
        self._gpu = Gpu.open()
        self._take()

    def _succeeds(self, measure: Callable[[], None]) -> bool:
        try:
            measure()
        except Exception as failure:  # Whatever a machine does not tell, training needs none of it.
            self._on_failure(failure)
            return False
        return True

    def _take(self) -> None:
        began = time.thread_time()
        found: Sample = {"system/rss_mb": self._process.memory_info().rss / 2**20}
        busy = self._process.cpu_percent()
        if self.samples:  # The first one would be that of a moment.
            found["system/cpu_percent"] = busy
        with suppress(OSError):  # A folder may be gone, or its disk away for a while.
            found["system/disk_free_gb"] = shutil.disk_usage(self._folder).free / 1e9
        if self._gpu:
            found |= self._gpu.sample()
        self.latest = self._fresh = found
        self.seconds += time.thread_time() - began
        self.samples += 1

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()


class Gpu:
    """The GPUs that this process may use, as the management library of NVIDIA sees them."""

    def __init__(self, library: Any, handles: list[Any]) -> None:
        self._library = library
        self._handles = handles

    @classmethod
    def open(cls) -> Gpu | None:
        """The GPUs; None where there is none, or the package nvidia-ml-py is not installed."""
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            handles = [_handle(pynvml, name) for name in _visible(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError:
            return None
        return cls(pynvml, handles) if handles else None

    def sample(self) -> Sample:
        """Memory in use on all of them, and their mean utilisation; what one does not tell is left out."""
        found: Sample = {}
        with suppress(self._library.NVMLError):
            used = [self._library.nvmlDeviceGetMemoryInfo(handle).used for handle in self._handles]
            found["system/gpu_memory_mb"] = sum(used) / 2**20
        with suppress(self._library.NVMLError):
            busy = [self._library.nvmlDeviceGetUtilizationRates(handle).gpu for handle in self._handles]
            found["system/gpu_percent"] = sum(busy) / len(busy)
        return found

    def close(self) -> None:
        """Let go of the library; what it says to that helps nobody."""
        with suppress(Exception):
            self._library.nvmlShutdown()


def _visible(count: int) -> list[str]:
    """Numbers or identifiers of the GPUs that CUDA shows to this process."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return [str(number) for number in range(count)]
    return [name for name in map(str.strip, chosen.split(",")) if name not in ("", "-1")]


def _handle(library: Any, name: str) -> Any:
    by_number, by_identifier = library.nvmlDeviceGetHandleByIndex, library.nvmlDeviceGetHandleByUUID
    return by_number(int(name)) if name.isdecimal() else by_identifier(name)
