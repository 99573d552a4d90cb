"""Saving beside training: what is accepted is saved, once, whole, and as it was."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpointing import save, steps, trained

from spectral_mlflow.monitoring import CheckpointManager
from spectral_mlflow.monitoring.background import Background

LONG = 120.0  # Seconds; only a test that fails waits so long.


class Gate:
    """Holds the writing thread before it commits, until it is opened."""

    def __init__(self) -> None:
        self.reached, self._open = threading.Event(), threading.Event()

    def __call__(self) -> None:
        """What the writing thread calls."""
        self.reached.set()
        assert self._open.wait(LONG)

    def open(self) -> None:
        """Let it go on."""
        self._open.set()


def is_waiting(thread: threading.Thread) -> bool:
    """Whether a thread waits for the save before its own."""
    return {"_wait_before", "wait"} <= names_of(thread.ident or 0)


def names_of(thread: int) -> set[str]:
    """Of the functions that a thread is in."""
    frame, names = sys._current_frames().get(thread), set()
    while frame is not None:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    return names


@pytest.fixture
def gate() -> Iterator[Gate]:
    """One that is open at the end, so that no thread is left behind."""
    made = Gate()
    yield made
    made.open()


def test_saved_means_committed(tmp_path: Path, gate: Gate) -> None:
    """Until the writer has committed, the file is not there; then it is told, and it loads."""
    told: list[tuple[int, list[int]]] = []
    manager = CheckpointManager(
        str(tmp_path), keep_last_n=1, asynchronous=True, before_commit=gate,
        on_saved=lambda saved, removed: told.append((saved.step, [old.step for old in removed])),
    )  # fmt: skip
    path = save(manager, 1)
    assert gate.reached.wait(LONG)
    assert (Path(path).exists(), manager.saved, told) == (False, None, [])
    gate.open()
    manager.wait()
    assert Path(path).exists()
    save(manager, 2)
    manager.close()
    assert manager.saved is not None
    assert manager.saved == manager.list_checkpoints()[0]
    assert told == [(1, []), (2, [1])]
    assert steps(manager) == [2]


def test_training_may_go_on_at_once(tmp_path: Path, gate: Gate) -> None:
    """What training changes while the file is written is not in it."""
    manager = CheckpointManager(str(tmp_path), asynchronous=True, before_commit=gate)
    model, optimizer = trained()
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    history = [1.0]
    manager.save_checkpoint(1, model, optimizer, history, {}, state={"list": history})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(99)
    history.append(2.0)
    gate.open()
    loaded = manager.load_latest_checkpoint()
    assert loaded is not None
    torch.testing.assert_close(dict(loaded["model_state_dict"]), expected, rtol=0, atol=0)
    assert (loaded["loss_history"], loaded["state"]) == ([1.0], {"list": [1.0]})


def test_next_save_waits_and_says_so_once(tmp_path: Path, gate: Gate) -> None:
    """One save at a time: the second waits for the first, which is told with its step and seconds."""
    waits: list[tuple[int, float]] = []
    manager = CheckpointManager(
        str(tmp_path), asynchronous=True, before_commit=gate, on_wait=lambda step, s: waits.append((step, s))
    )
    save(manager, 1)
    assert gate.reached.wait(LONG)
    second = threading.Thread(target=save, args=(manager, 2))
    second.start()
    while not is_waiting(second):
        assert second.is_alive()
    gate.open()
    second.join(LONG)
    manager.wait()
    assert [step for step, _ in waits] == [2]
    assert waits[0][1] >= 0
    assert steps(manager) == [2, 1]
    save(manager, 3)
    assert len(waits) <= 2


def test_value_that_cannot_be_kept_is_refused_in_the_caller(tmp_path: Path) -> None:
    """Not later in a thread, and nothing is written."""
    manager = CheckpointManager(str(tmp_path), asynchronous=True)
    with pytest.raises(TypeError, match=r"checkpoint\.state\.a: a object cannot be kept"):
        save(manager, 1, state={"a": object()})
    manager.close()
    assert list(manager.directory.iterdir()) == []


def test_hook_that_the_disk_refuses_skips_the_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file is not committed, nothing is left behind, and the step and the reason are told."""
    told: list[tuple[int, str]] = []

    def refuse() -> None:
        raise OSError(28, "No space left on device")

    manager = CheckpointManager(
        str(tmp_path), asynchronous=True, before_commit=refuse, on_skipped=lambda step, why: told.append((step, why))
    )
    save(manager, 4)
    manager.wait()
    assert told == [(4, "No space left on device")]
    assert manager.skipped == dict(told)
    assert manager.saved is None
    assert list(manager.directory.iterdir()) == []
    assert "checkpoint of step 4 skipped, training goes on" in caplog.text


def test_failure_of_the_writer_is_raised_once(tmp_path: Path) -> None:
    """What is no matter of disks is raised where somebody waits, and the next save works."""
    broken: list[Callable[[], None]] = [lambda: 1 / 0]  # type: ignore[list-item]
    manager = CheckpointManager(str(tmp_path), asynchronous=True, before_commit=lambda: broken.pop()())
    save(manager, 1)
    with pytest.raises(ZeroDivisionError):
        manager.wait()
    broken.append(lambda: None)
    save(manager, 2)
    manager.close()
    assert steps(manager) == [2]
    assert {path.name for path in manager.directory.iterdir()} == {"checkpoint_latest.pt", "checkpoint_step_2.pt"}


CHILD = """
import resource, sys
import torch
from spectral_mlflow.monitoring import CheckpointManager
manager = CheckpointManager(sys.argv[1], asynchronous=True)
model = torch.nn.Linear(300, 300)
optimizer = torch.optim.SGD(model.parameters())
"""


@pytest.mark.parametrize("end", ["", "raise ValueError"])
def test_end_of_the_program_loses_nothing_accepted(tmp_path: Path, end: str) -> None:
    """However the interpreter ends by itself, the save that it accepted last is there and whole."""
    code = CHILD + f"manager.save_checkpoint(1, model, optimizer, [0.5] * 100_000, {{}})\n{end}\n"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True)
    manager = CheckpointManager(str(tmp_path))
    loaded = manager.load_latest_checkpoint()
    assert loaded is not None
    assert len(loaded["loss_history"]) == 100_000
    assert not list(manager.directory.glob(".*"))


def test_disk_that_fills_while_the_thread_writes(tmp_path: Path) -> None:
    """Training goes on, the message comes, nothing is left behind, and with room the next one is saved."""
    code = CHILD + (
        "def save(step):\n"
        "    manager.save_checkpoint(step, model, optimizer, [], {})\n"
        "    manager.wait()\n"
        "save(1)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))\n"
        "save(2)\n"
        "print(manager.skipped, manager.saved.step)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "save(2)\n"
        "print(manager.skipped, manager.saved.step)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "{2: 'File too large'} 1\n{} 2\n", done.stderr
    assert done.stderr.count("checkpoint of step 2 skipped") == 1
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_prepared_memory_is_that_of_the_saves(tmp_path: Path) -> None:
    """Preparing before step 1 takes no file and changes nothing that is saved."""
    model, optimizer = trained()
    manager = CheckpointManager(str(tmp_path), asynchronous=True)
    manager.prepare(model, optimizer)
    assert list(manager.directory.iterdir()) == []
    manager.save_checkpoint(1, model, optimizer, [], {})
    loaded: Any = manager.load_latest_checkpoint()
    torch.testing.assert_close(loaded["optimizer_state_dict"], optimizer.state_dict(), rtol=0, atol=0)


def test_memory_is_taken_before_the_first_step(tmp_path: Path) -> None:
    """An optimizer without a state yet gets the room that it will need, and saving takes no other for tensors."""
    model = torch.nn.Linear(64, 32)
    optimizer = torch.optim.AdamW(model.parameters())
    manager = CheckpointManager(str(tmp_path), asynchronous=True)
    manager.prepare(model, optimizer)
    prepared = places(manager)
    model(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    manager.save_checkpoint(1, model, optimizer, [], {})
    manager.wait()
    large = {place for place, size in places(manager).items() if size > 1}  # AdamW counts its steps in one number each.
    assert large == {place for place, size in prepared.items() if size > 1}


def places(manager: CheckpointManager) -> dict[int, int]:
    """Addresses of the memory that copies are made into, and how many numbers fit there."""
    kept = [memory for pool in manager._snapshot._used.values() for memory in pool]
    return {memory.data_ptr(): memory.numel() for memory in kept}


def test_an_interrupted_wait_forgets_nothing() -> None:
    """After Ctrl-C in a wait the job still counts as running, and can be waited for again."""
    background, gate = Background(), threading.Event()
    background.start(lambda: gate.wait(LONG))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def wait() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        background.wait()

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            wait()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert background.busy
    gate.set()
    background.wait()
    assert not background.busy
