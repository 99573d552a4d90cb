"""Experiment ids and the folders of a run directory."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from spectral_mlflow.errors import UserError
from spectral_mlflow.files import sync_directory
from spectral_mlflow.provenance import get_git_hash

FOLDERS = ("checkpoints", "logs", "visualizations", "code_snapshot")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


def generate_experiment_id(name: str = "experiment", *, clock: Callable[[], datetime] = datetime.now) -> str:
    """An id that sorts by time: ``{name}_{YYYYmmdd_HHMMSS}_{first 8 digits of the commit}``.

    Args:
        name: what the experiment is called.
        clock: the local time.

    Raises:
        UserError: the name cannot be the name of a folder.
    """
    return f"{_checked(name)}_{clock():%Y%m%d_%H%M%S}_{get_git_hash()[:8]}"


def create_experiment_directory(base_dir: str, experiment_id: str) -> dict[str, str]:
    """Make the folders of a new run.

    No two calls get the same folder, also not from processes that start in the same second: where
    the id is taken, a number is added, and the name of ``root`` is the id to go by.

    Args:
        base_dir: folder of run directories; made if missing.
        experiment_id: as from `generate_experiment_id`.

    Returns:
        The paths ``root``, ``checkpoints``, ``logs``, ``visualizations`` and ``code_snapshot``.

    Raises:
        UserError: the id cannot be the name of a folder, or the base folder cannot be written.
    """
    check_writable(base_dir)
    base = Path(base_dir)
    try:
        base.mkdir(parents=True, exist_ok=True)
        root = _exclusive(base, _checked(experiment_id))
        paths = _folders(root)
    except OSError as failure:
        raise _refusal(base, failure) from None
    return {"root": str(root), **paths}


def check_writable(base_dir: str) -> None:
    """Find out whether runs can be made in a folder, without making anything.

    Raises:
        UserError: they cannot; the message names another folder.
    """
    try:
        _try(Path(base_dir))
    except OSError as failure:
        raise _refusal(Path(base_dir), failure) from None


def _refusal(base: Path, failure: OSError) -> UserError:
    return UserError(
        f"experiments directory {base} cannot be written ({failure.strerror or failure}); "
        f"give another one, such as {_alternative(base)}"
    )


def _checked(name: str) -> str:
    if _NAME.fullmatch(name):
        return name
    raise UserError(
        f"experiment name: given {name!r}; allowed: letters, digits, '_', '.' and '-', "
        "beginning with a letter or digit, at most 200 characters"
    )


def _exclusive(base: Path, experiment_id: str) -> Path:
    for name in _candidates(experiment_id):
        try:
            (base / name).mkdir()
        except FileExistsError:
            continue
        return base / name
    raise AssertionError("the candidates never end")


def _candidates(experiment_id: str) -> Iterator[str]:
    yield experiment_id
    for number in count(2):
        yield f"{experiment_id}_{number}"


def _folders(root: Path) -> dict[str, str]:
    try:
        for name in FOLDERS:
            (root / name).mkdir()
        for folder in (root, *root.parents[:2]):  # A checkpoint is as durable as the folders that lead to it.
            with suppress(PermissionError):  # One that may be written, and not read.
                sync_directory(folder)
    except OSError:
        shutil.rmtree(root, ignore_errors=True)  # Half a run directory would look like a run.
        raise
    return {name: str(root / name) for name in FOLDERS}


def _try(folder: Path) -> None:
    """Raise OSError, with nothing made yet, where a folder could not be made or written."""
    nearest = _nearest_existing(folder)
    if not nearest.is_dir():
        raise NotADirectoryError(20, f"{nearest} is not a directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(13, f"no permission to write {nearest}")


def _nearest_existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if os.path.lexists(place))


def _alternative(refused: Path) -> Path:
    """A folder that could be written instead."""
    choices = [place / "experiments" for place in (Path.cwd(), Path.home(), Path(tempfile.gettempdir()))]
    for choice in choices:
        if choice.absolute() != refused.absolute() and os.access(_nearest_existing(choice), os.W_OK | os.X_OK):
            return choice
    return choices[-1]
