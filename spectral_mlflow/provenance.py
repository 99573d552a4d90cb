"""Where a run comes from: git state, packages, hardware, hashes."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

UNKNOWN = "unknown"

# Never copied into a snapshot, even where somebody has committed them.
SECRET_PATTERNS = ("*.env", ".env*", "*.pem", "*.key", "*credentials*", "*secret*", ".netrc", ".pypirc", "id_*")
LARGEST_DIFF = 1_000_000


def _git(*arguments: str, folder: Path | None = None) -> str | None:
    """Output of a git command, None where there is no git or no repository."""
    try:
        done = subprocess.run(  # noqa: S603 - the arguments are ours
            ["git", *arguments],  # noqa: S607 - whichever git the user has
            cwd=folder, capture_output=True, text=True, timeout=30, check=True, errors="replace",
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
        if path.is_file() and _git("ls-files", "--error-unmatch", path.name, folder=path.parent) is not None:
            return _top(path.parent)
    return _top(Path.cwd())


def _top(folder: Path) -> Path | None:
    top = _git("rev-parse", "--show-toplevel", folder=folder)
    return Path(top) if top else None


def get_git_hash() -> str:
    """Commit that is checked out, 40 digits, or ``unknown`` outside a repository or before a first commit."""
    folder = repository()
    return (folder and _git("rev-parse", "HEAD", folder=folder)) or UNKNOWN


def git_state() -> dict[str, Any]:
    """Commit, branch, remote and whether there are uncommitted changes."""
    folder = repository()
    if folder is None:
        return {"commit": UNKNOWN, "branch": UNKNOWN, "dirty": False}
    return {
        "commit": get_git_hash(),
        "branch": _git("branch", "--show-current", folder=folder) or UNKNOWN,
        "dirty": bool(_git("status", "--porcelain", folder=folder)),
    }


def snapshot(directory: Path) -> list[Path]:
    """Write what git would lose: the uncommitted diff and the list of untracked files.

    Files that git ignores are left out, and so is anything named like a secret. A diff of more than
    1 MB is cut, with a line that says so.

    Args:
        directory: where to write; made if missing.

    Returns:
        The files written; none outside a repository.
    """
    folder = repository()
    if folder is None:
        return []
    exclude = [f":(exclude,icase,glob)**/{pattern}" for pattern in SECRET_PATTERNS]
    diff = _git("diff", "HEAD", "--", ".", *exclude, folder=folder) or ""
    untracked = _git("ls-files", "--others", "--exclude-standard", "--", ".", *exclude, folder=folder) or ""
    if len(diff) > LARGEST_DIFF:
        diff = diff[:LARGEST_DIFF] + f"\n[cut: the diff has {len(diff)} characters]"
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in (("changes.diff", diff), ("untracked.txt", untracked)):
        path = directory / name
        path.write_text(text + "\n" if text else "", encoding="utf-8")
        written.append(path)
    return written


def packages() -> dict[str, str]:
    """Version of every installed package."""
    found = {dist.metadata["Name"]: dist.version for dist in metadata.distributions()}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def hardware() -> dict[str, Any]:
    """CPU, memory, GPU and the software between them and us."""
    import torch  # Costs a second and is not needed to read a run.

    gpu = torch.cuda.is_available()
    return {
        "platform": platform.platform(),
        "python_version": platform.python_version(),
        "torch_version": torch.__version__,
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "total_memory_gb": round(psutil.virtual_memory().total / 2**30, 2),
        "gpu_available": gpu,
        "gpu_model": torch.cuda.get_device_name(0) if gpu else None,
        "num_gpus": torch.cuda.device_count(),
        "cuda_version": torch.version.cuda,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def sha256(content: bytes) -> str:
    """Hexadecimal sha256."""
    return hashlib.sha256(content).hexdigest()
