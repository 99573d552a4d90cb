"""The git work tree that the code of a run lives in, and its state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

UNKNOWN = "unknown"


def git(*arguments: str, folder: Path | None = None) -> str | None:
    """Output of a git command, None where there is no git or no repository."""
    try:
        done = subprocess.run(  # noqa: S603 - the arguments are ours
            ["git", *arguments],  # noqa: S607 - whichever git the user has
            cwd=folder, capture_output=True, text=True, timeout=30, check=True, errors="surrogateescape",
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip("\n")


def repository() -> Path | None:
    """The git work tree that the code of a run lives in.

    That is where git knows the program that was started, else this package, else the current folder:
    whoever starts an installed program inside a project of another kind does not want that project
    in the records of a run.
    """
    program = getattr(sys.modules["__main__"], "__file__", None)
    for file in (program, __file__):
        path = Path(file or "").resolve()
        if path.is_file() and git("ls-files", "--error-unmatch", path.name, folder=path.parent) is not None:
            return _top(path.parent)
    return _top(Path.cwd())


def _top(folder: Path) -> Path | None:
    top = git("rev-parse", "--show-toplevel", folder=folder)
    return Path(top) if top else None


def get_git_hash() -> str:
    """Commit that is checked out, 40 digits, or ``unknown`` outside a repository or before a first commit."""
    folder = repository()
    return (folder and git("rev-parse", "HEAD", folder=folder)) or UNKNOWN


def git_state() -> dict[str, Any]:
    """Commit, branch and whether there are uncommitted changes."""
    folder = repository()
    if folder is None:
        return {"commit": UNKNOWN, "branch": UNKNOWN, "dirty": False}
    return {
        "commit": get_git_hash(),
        "branch": git("branch", "--show-current", folder=folder) or UNKNOWN,
        "dirty": bool(git("status", "--porcelain", folder=folder)),
    }
