"""The lock of a run directory: one process writes a run, any number read it."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError

PATIENCE = 1.0  # Seconds. The companion looks now and then whether the lock is free.


def run_lock(run_dir: Path) -> FileLock:
    """The lock that the process which writes a run directory holds as long as it lives."""
    return FileLock(run_dir / ".run.lock", timeout=0)


def is_running(run_dir: Path) -> bool:
    """Whether a living process of this machine writes the run directory."""
    try:
        with run_lock(run_dir):
            return False
    except Timeout:
        return True
    except OSError:  # A directory that cannot be written is written by nobody.
        return False


def hold(run_dir: Path) -> FileLock:
    """Take the lock of a run directory, to write it.

    Raises:
        UserError: another process writes it, or nobody can.
    """
    lock = run_lock(run_dir)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        owner = [e for e, _ in journal.read(run_dir / "logs" / "events.jsonl") if "pid" in e][-1:]
        who = f"process {owner[0]['pid']} on {owner[0]['host']}" if owner else "another process"
        raise UserError(f"{run_dir} is being written by {who}; wait until it ends, or stop it") from None
    except OSError as failure:
        raise cannot_write(run_dir, failure) from None
    return lock


def cannot_write(run_dir: Path, failure: OSError) -> UserError:
    """What to tell of a run directory that refuses its first files."""
    return UserError(
        f"run directory {run_dir} cannot be written ({failure.strerror or failure}); "
        "see to its permissions and the space on its disk, or give monitoring.experiments_dir another folder"
    )
