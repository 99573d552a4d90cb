"""SystemMetrics: samples taken beside training, each shown once, and a thread that ends."""

import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import psutil
import pytest

from spectral_mlflow.monitoring import system_metrics
from spectral_mlflow.monitoring.system_metrics import Gpu, SystemMetrics

PATIENCE = 60.0


def sampling_threads() -> list[threading.Thread]:
    """Those that live."""
    return [thread for thread in threading.enumerate() if thread.name == "system metrics"]


def wait_for(system: SystemMetrics, samples: int) -> None:
    """Until so many samples were taken."""
    tick = threading.Event()
    for _ in range(round(PATIENCE / 0.01)):
        if system.samples >= samples:
            return
        tick.wait(0.01)
    raise AssertionError(f"only {system.samples} samples")


def test_the_first_sample_is_there_at_once(tmp_path: Path) -> None:
    """Memory and free disk are known before the first step; the share of the CPU needs a while to be one."""
    with SystemMetrics(tmp_path, 3600.0) as system:
        first = system.take()
        assert {"system/rss_mb", "system/disk_free_gb"} <= first.keys()
        assert "system/cpu_percent" not in first
        assert 1 < first["system/rss_mb"] * 2**20 <= 2 * psutil.Process().memory_info().rss
        assert first["system/disk_free_gb"] == pytest.approx(psutil.disk_usage(str(tmp_path)).free / 1e9, rel=0.2)


def test_a_sample_is_shown_once(tmp_path: Path) -> None:
    """The newest one, and then none until there is another; what it said is still known."""
    with SystemMetrics(tmp_path, 3600.0) as system:
        shown = system.take()
        assert (system.take(), system.latest) == ({}, shown)


def test_samples_go_on_in_a_thread_that_ends(tmp_path: Path) -> None:
    """They follow by themselves; afterwards no thread is left, and stopping again does nothing."""
    before = len(sampling_threads())
    system = SystemMetrics(tmp_path, 0.01)
    system.start()
    system.take()
    wait_for(system, 3)
    assert "system/cpu_percent" in system.take()
    assert len(sampling_threads()) == before + 1
    system.stop()
    system.stop()
    assert len(sampling_threads()) == before
    assert system.seconds > 0


def test_an_interval_of_zero_samples_nothing(tmp_path: Path) -> None:
    """Nobody looks, and no thread lives."""
    before = len(sampling_threads())
    with SystemMetrics(tmp_path, 0.0) as system:
        assert (system.take(), system.samples, len(sampling_threads())) == ({}, 0, before)


def test_a_disk_that_is_gone_leaves_the_rest(tmp_path: Path) -> None:
    """Without the folder there is no free space to tell of; memory is told all the same."""
    with SystemMetrics(tmp_path / "gone", 3600.0) as system:
        assert system.take().keys() == {"system/rss_mb"}


def test_what_fails_is_told_once_and_ends_the_sampling(tmp_path: Path) -> None:
    """A machine that does not answer stops the sampling and nothing else."""

    class Unreadable(SystemMetrics):
        def _take(self) -> None:
            if self.samples == 2:
                raise psutil.AccessDenied(1)
            super()._take()

    told: list[Exception] = []
    ended = threading.Event()

    def tell(failure: Exception) -> None:
        told.append(failure)
        ended.set()

    system = Unreadable(tmp_path, 0.001, on_failure=tell)
    system.start()
    assert ended.wait(PATIENCE)
    system.stop()
    assert [type(failure) for failure in told] == [psutil.AccessDenied]
    assert system.latest


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetMemoryInfo", "nvmlShutdown"])
def test_a_driver_that_raises_anything_ends_the_sampling_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Whatever of the library of NVIDIA fails, and with whatever error, is told once at most."""

    def fail(*_: object) -> None:
        raise RuntimeError("driver gone")

    found = SimpleNamespace(used=0, gpu=0)
    library: dict[str, object] = dict.fromkeys(("nvmlInit", "nvmlShutdown"), lambda: None)
    library |= {"NVMLError": OSError, "nvmlDeviceGetCount": lambda: 1}
    names = ("HandleByIndex", "HandleByUUID", "MemoryInfo", "UtilizationRates")
    library |= {f"nvmlDeviceGet{name}": lambda _: found for name in names}
    monkeypatch.setitem(sys.modules, "pynvml", cast(ModuleType, SimpleNamespace(**{**library, call: fail})))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    told: list[Exception] = []
    with SystemMetrics(tmp_path, 3600.0, on_failure=told.append) as system:
        assert ("system/gpu_memory_mb" in system.latest) == (call == "nvmlShutdown")
    assert [str(failure) for failure in told] == ["driver gone"] * (call != "nvmlShutdown")


def test_a_sample_that_never_comes_holds_up_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does not answer is waited for for a while; the thread ends with the process."""
    asked, answers = threading.Event(), threading.Event()

    class Hangs(SystemMetrics):
        def _take(self) -> None:
            if self.samples:
                asked.set()
                answers.wait(PATIENCE)
            super()._take()

    monkeypatch.setattr(system_metrics, "PATIENCE", 0.01)
    before = len(sampling_threads())
    system = Hangs(tmp_path, 0.001)
    system.start()
    assert asked.wait(PATIENCE)
    system.stop()
    assert [thread.daemon for thread in sampling_threads()] == [True] * (before + 1)
    answers.set()
    monkeypatch.setattr(system_metrics, "PATIENCE", PATIENCE)
    system.stop()
    assert len(sampling_threads()) == before


def test_gpus_are_those_of_the_machine() -> None:
    """Where the library of NVIDIA finds a GPU its memory and use are sampled; where it does not, nothing is."""
    pytest.importorskip("pynvml", reason="needs the extra gpu")
    gpu = Gpu.open()
    if gpu is None:
        assert not Path("/dev/nvidia0").exists()
        return
    sample = gpu.sample()
    gpu.close()
    assert sample["system/gpu_memory_mb"] > 0
    assert 0 <= sample["system/gpu_percent"] <= 100
